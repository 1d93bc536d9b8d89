import { chmodSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

// As efibootmgr 17 prints them.
const setup =
  'Boot0000* UiApp\tFvVol(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(462caa21-7614-4503-836e-8ab6f4662331)';
const disk = 'Boot0001* UEFI Misc Device\tPciRoot(0x0)/Pci(0x1,0x1)/Pci(0x0,0x0){auto_created_boot_option}';
const pxe = (number: string, mac: string) =>
  `Boot${number}* UEFI PXEv4 (MAC:${mac})\tPciRoot(0x0)/Pci(0x2,0x0)/MAC(${mac},1)/IPv4(0.0.0.0,0,DHCP,0.0.0.0,0.0.0.0,0.0.0.0)`;
const removed =
  'Boot000A  old system\tHD(1,GPT,0b6a2a0e-6d7e-4b47-9d10-3d8d6f4a8c11,0x800,0x32000)/File(\\EFI\\debian\\shimx64.efi)';
const entries = [setup, disk, pxe('0002', '525400770001'), pxe('0003', '525400770002'), removed];
const listed = (current: string, order: string) =>
  [`BootCurrent: ${current}`, 'Timeout: 3 seconds', `BootOrder: ${order}`, ...entries, ''].join('\n');

test('the network that a boot came from is first, then the disks, and all others as they were', async (t) => {
  for (const [current, order, wanted] of [
    ['0002', '0000,0003,000A,0001,0002', '0002,000A,0001,0003,0000'],
    ['0003', '0001,0002,0003', '0003,0001,0002'],
    ['0002', '0001', '0002,0001'],
    ['0002', '0001,0099', '0002,0001,0099'],
  ] as const) {
    const ramdisk = machine(t, listed(current, order));
    t.equal(await ramdisk.shell('order_firmware'), `boot_order=${wanted}\nboot_order_before=${order}\n`);
    t.equal(ramdisk.read('run/changed'), `--quiet --bootorder ${wanted}\n`);
  }
});

test('an order that is right is left alone, and so is a firmware that does not know where this boot came from', async (t) => {
  const nothing = 'boot_order_failure=the firmware does not say which of its network entries this boot came from\n';
  for (const [said, fact] of [
    [listed('0002', '0002,0001,0003,0000'), 'boot_order=0002,0001,0003,0000\n'],
    [listed('0001', '0001,0002'), nothing],
    [listed('0077', '0001,0002'), nothing],
    [listed('', ''), nothing],
    ['', nothing],
    ['BootCurrent: $(reboot)\nBootOrder: ;reboot\nBoot0001* \tMAC(\n', nothing],
  ] as const) {
    const ramdisk = machine(t, said);
    t.equal(await ramdisk.shell('order_firmware'), fact);
    t.throws(() => ramdisk.read('run/changed'), 'nothing was written');
  }
});

test('what goes wrong is a fact, and ends nothing', async (t) => {
  const ramdisk = machine(t, listed('0002', '0001,0002'));
  const failing = (when: string) => `
    efibootmgr() { case "$1" in ${when}) echo 'Could not set BootOrder' >>"$RUN/log"; return 5 ;; *) cat "$RUN/listed" ;; esac; }
    last_words() { tail -n 1 "$RUN/log"; }
    order_firmware
    echo goes on`;
  const told = 'boot_order_failure=Could not set BootOrder\ngoes on\n';
  t.equal(await ramdisk.shell(failing('--quiet')), told);
  t.equal(await ramdisk.shell(failing('--verbose')), told);
});

test('a machine without UEFI tells nothing', async (t) => {
  t.equal(await fakeRamdisk(t).shell('order_firmware'), '');
});

/** One with UEFI, whose efibootmgr says this, and takes what it is told. */
function machine(t: Test, said: string): FakeRamdisk {
  const ramdisk = fakeRamdisk(t);
  ramdisk.put('sys/firmware/efi/efivars/none', '');
  ramdisk.put('proc/mounts', `efivarfs ${ramdisk.path('sys/firmware/efi/efivars')} efivarfs rw 0 0\n`);
  ramdisk.put('run/listed', said);
  ramdisk.put(
    'bin/efibootmgr',
    '#!/bin/sh\nif [ "$1" = --verbose ]; then cat "$RUN/listed"; else echo "$*" >"$RUN/changed"; fi\n',
  );
  chmodSync(ramdisk.path('bin/efibootmgr'), 0o755);
  return ramdisk;
}
