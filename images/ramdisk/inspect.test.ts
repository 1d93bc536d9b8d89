import { mkdirSync } from 'node:fs';

import { test } from 'tap';

import { fakeRamdisk } from './deploy.fixture.ts';

test('an inspection tells what the kernel sees, without what would break its lines', async (t) => {
  const ramdisk = fakeRamdisk(t);
  for (const [cpu, siblings] of ['0,2', '1,3', '0,2', '1,3'].entries()) {
    ramdisk.put(`sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, `${siblings}\n`);
  }
  ramdisk.put('sys/devices/system/memory/block_size_bytes', '8000000\n');
  for (const block of [0, 1, 8]) mkdirSync(ramdisk.path(`sys/devices/system/memory/memory${block}`));
  ramdisk.put('sys/class/dmi/id/product_uuid', '4C4C4544-0077-4010-8000-000000000001\n');
  ramdisk.put('sys/class/dmi/id/sys_vendor', ' ACME |Inc.\u0007\n');
  ramdisk.put('sys/class/dmi/id/product_name', 'R1\nserial=forged\n');
  ramdisk.put('sys/class/dmi/id/bios_vendor', 'EDK II\n');
  ramdisk.put('sys/class/dmi/id/bios_version', '2022.11-6\n');
  ramdisk.put('sys/class/dmi/id/bios_date', '02/06/2015\n');
  ramdisk.put('sys/firmware/dmi/entries/16-0/raw', 'other');
  for (const slot of [0, 1, 10]) ramdisk.put(`sys/firmware/dmi/entries/17-${slot}/raw`, `\u0011${slot}\0\n\n`);
  ramdisk.put('sys/block/vda/size', '2048\n');
  ramdisk.put('sys/block/vda/removable', '0\n');
  ramdisk.put('sys/block/vda/ro', '0\n');
  ramdisk.put('sys/block/vda/device/model', 'Disk  \n');
  ramdisk.put('sys/block/vda/queue/rotational', '1\n');
  for (const [nic, carrier, speed] of [
    ['eno1', '1', '25000'],
    ['eno2', '0', ''],
    ['eno3', '1', '-1'],
  ] as const) {
    ramdisk.put(`sys/class/net/${nic}/address`, `52:54:00:77:00:0${nic.slice(-1)}\n`);
    ramdisk.put(`sys/class/net/${nic}/type`, '1\n');
    ramdisk.put(`sys/class/net/${nic}/carrier`, `${carrier}\n`);
    ramdisk.put(`sys/class/net/${nic}/speed`, `${speed}\n`);
    ramdisk.put(`sys/class/net/${nic}/device/vendor`, '');
  }
  ramdisk.put('sys/class/net/lo/type', '772\n');

  t.equal(
    await ramdisk.shell(`timeout() { echo 'Percentage Used:                    7%'; }; inspection`),
    [
      'cores=2',
      `memory_kib=${3 * 128 * 1024}`,
      'uuid=4c4c4544-0077-4010-8000-000000000001',
      'vendor=ACME Inc.',
      'model=R1serial=forged',
      'serial=',
      'firmware=bios',
      'firmware_vendor=EDK II',
      'firmware_version=2022.11-6',
      'firmware_date=02/06/2015',
      'bmc_address=',
      'memory_device=1130000a0a',
      'memory_device=1131000a0a',
      'memory_device=113130000a0a',
      'disk=vda|1048576|hdd||Disk|7',
      'nic=eno1|52:54:00:77:00:01|up|25000',
      'nic=eno2|52:54:00:77:00:02|down|',
      'nic=eno3|52:54:00:77:00:03|up|',
      '',
    ].join('\n'),
  );
});

test('how worn a disk is, is what smartctl prints of NVMe, SCSI or ATA, and nothing of what it prints otherwise', async (t) => {
  const ramdisk = fakeRamdisk(t);
  for (const [line, wear] of [
    ['Percentage Used:                    3%', '3'],
    ['Percentage used endurance indicator: 12%', '12'],
    ['0x07  0x008  1             103  N--  Percentage Used Endurance Indicator', '103'],
    ['0x07  0x008  1               -  N--  Percentage Used Endurance Indicator', ''],
    ['0x01  0x008  4              55  ---  Lifetime Power-On Resets', ''],
    ['Percentage Used:                    3000%', ''],
    ['Model Number: Percentage Used: 3%', ''],
    ['', ''],
  ] as const) {
    t.equal(await ramdisk.shell(`timeout() { echo '${line}'; return 4; }; disk_wear sda`), wear && `${wear}\n`, line);
  }
});

test('a BMC that the firmware tells of is asked where it is, until it answers', async (t) => {
  const ramdisk = fakeRamdisk(t);
  const answers = (text: string) => `
    modprobe() { echo "$1" >>"$RUN/drivers"; return 1; }
    timeout() { echo "$*" >>"$RUN/asked"; [ "$(wc -l <"$RUN/asked")" -ge 3 ] && printf '${text}'; }
    rm -f "$RUN/asked" "$RUN/drivers"; bmc_address`;
  const print =
    'Set in Progress : Set Complete\\nIP Address Source       : DHCP Address\\nIP Address              : 10.9.0.7\\n';
  t.equal(await ramdisk.shell(answers(print)), '', 'none that nobody told of');
  ramdisk.put('sys/firmware/dmi/entries/38-0/raw', '');
  t.equal(await ramdisk.shell(answers(print)), '10.9.0.7\n');
  t.equal(ramdisk.read('run/asked'), '20 ipmitool lan print\n'.repeat(3));
  t.match(ramdisk.read('run/drivers'), /^ipmi_devintf$/m);
  t.equal(await ramdisk.shell(answers('IP Address              : $(reboot)|x\\n')), '');
  t.equal(
    await ramdisk.shell('modprobe() { :; }; timeout() { return 1; }; bmc_address'),
    '',
    'nor one that does not answer',
  );
});
