import { copyFileSync, mkdirSync, mkdtempSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import { openRack } from '../rack/rack.ts';

/** The appliance sends iPXE nowhere but to HTTP: here another DHCP server sends it to our TFTP. */
void test("iPXE's ROM fetches a loader by TFTP, and the loader another", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-ipxe-'));
  const rack = await openRack({
    name: 'ipxe',
    directory: join(directory, 'rack'),
    machines: [{ name: 'bios-1', firmware: 'bios', memoryMib: 256, diskGib: 1 }],
  });
  try {
    const served = join(directory, 'served');
    mkdirSync(served);
    copyFileSync(LOADER, join(served, 'undionly.kpxe'));
    const serve = [process.execPath, join(import.meta.dirname, '../tftp/serve.ts'), '10.77.0.1', served];
    const tftp = await startProcess({ argv: rack.exec(serve), logFile: join(directory, 'tftp.log') });
    await tftp.line(/serving TFTP/, 10_000);
    const dhcp = await startProcess({ argv: rack.exec(DNSMASQ), logFile: join(directory, 'dhcp.log') });
    await dhcp.line(/DHCP, IP range/, 10_000);

    const { bmc, mac } = rack.machine('bios-1');
    const peer = ['-I', 'lanplus', '-C', '3', '-H', bmc.address, '-U', bmc.username, '-E'];
    const ipmitool = (...command: string[]) =>
      run(rack.exec(['ipmitool', ...peer, ...command]), { env: { IPMI_PASSWORD: bmc.password } });
    await ipmitool('chassis', 'bootdev', 'pxe');
    await ipmitool('chassis', 'power', 'on');

    const done = `"bytes":${statSync(LOADER).size},"msg":"tftp done"`;
    const [log = ''] = await tftp.line(new RegExp(`^[^]*${done}[^]*${done}`), 90_000);
    t.match(dhcp.log(), new RegExp(`DHCPACK\\(br0\\) \\S+ ${mac}`));
    t.match(log, /"blockSize":1432/, 'as long a block as it asked for');
  } finally {
    await rack.close();
    await rm(directory, { recursive: true });
  }
});

const LOADER = '/usr/lib/ipxe/undionly.kpxe';
const DNSMASQ = [
  ...['dnsmasq', '--keep-in-foreground', '--log-facility=-', '--conf-file=/dev/null', '--user=root', '--port=0'],
  ...[
    '--interface=br0',
    '--leasefile-ro',
    '--dhcp-authoritative',
    '--dhcp-range=10.77.0.200,10.77.0.250,255.255.255.0',
  ],
  '--dhcp-boot=undionly.kpxe,,10.77.0.1',
];
