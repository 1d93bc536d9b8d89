import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import { isAlive } from '../process/pid.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import { until } from '../process/until.ts';
import { openRack } from './rack.ts';
import type { Rack, RackMachine, RackOptions } from './rack.ts';

const skip = whyNot();

test(
  'a BMC switches its machine on, boots it from the network once, resets it and switches it off',
  { skip },
  async (t) => {
    const rack = await rackOfTwo(t, 'switch');
    for (const machine of rack.machines) {
      t.match(await ipmi(rack, machine, 'power', 'status'), 'is off');
      await ipmi(rack, machine, 'chassis', 'bootdev', 'pxe');
      await ipmi(rack, machine, 'power', 'on');
      const pid = await until(`${machine.name} is on`, 10_000, () => machine.pid());
      t.match(await ipmi(rack, machine, 'power', 'status'), 'is on');
      t.equal(networkBootIndex(pid), 0, 'network before disk');

      await ipmi(rack, machine, 'power', 'on');
      t.equal(machine.pid(), pid, 'on is not reset');

      await ipmi(rack, machine, 'power', 'reset');
      const next = await until(`${machine.name} is reset`, 10_000, () => machine.pid() !== pid && machine.pid());
      t.equal(networkBootIndex(next), 9, 'the override was for one boot: disk before network');

      await ipmi(rack, machine, 'power', 'off');
      await until(`${machine.name} is off`, 10_000, () => machine.pid() === undefined);
      t.equal(isAlive(next), false);
      await ipmi(rack, machine, 'power', 'reset').catch(() => 'refused');
      t.match(await ipmi(rack, machine, 'power', 'status'), 'is off', 'reset switches nothing on');
    }
  },
);

test('the machines of two racks share neither MAC nor UUID, and both racks work at once', { skip }, async (t) => {
  const [left, right] = [await rackOfTwo(t, 'left'), await rackOfTwo(t, 'right')];
  const machines = [...left.machines, ...right.machines];
  t.equal(new Set(machines.map(({ mac }) => mac)).size, 4);
  t.equal(new Set(machines.map(({ uuid }) => uuid)).size, 4);
  t.match(machines[0], {
    mac: /^52:54:00:77:[0-9a-f]{2}:01$/,
    uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/,
  });
  await ipmi(left, left.machines[0]!, 'power', 'on');
  t.match(await ipmi(right, right.machines[0]!, 'power', 'status'), 'is off');
});

test('the appliance has its addresses on the bridge before any machine is on', { skip }, async (t) => {
  const rack = await rackOfTwo(t, 'addresses');
  const addresses = await run(rack.exec(['ip', '-brief', 'address', 'show', 'dev', rack.bridge]));
  t.match(addresses, rack.applianceAddress.ipv4);
  t.match(addresses, rack.applianceAddress.ipv6);
  t.match(addresses, /^br0\s+UP/);
});

test('a capture holds the DHCP packets of the bridge', { skip }, async (t) => {
  const rack = await rackOfTwo(t, 'capture');
  const pcap = join(rack.directory, 'dhcp.pcap');
  const capture = await rack.capture(pcap);
  const discover = "require('dgram').createSocket('udp4').unref().send('DISCOVER', 67, '10.77.0.9')";
  await run(rack.exec(['ip', 'neighbour', 'add', '10.77.0.9', 'lladdr', '52:54:00:00:00:09', 'dev', 'br0']));
  await run(rack.exec([process.execPath, '--eval', discover]));
  await until('the packet is captured', 5_000, () => statSync(pcap).size > 24);
  await capture.stop();
  t.match(readFileSync(pcap, 'latin1'), 'DISCOVER');
});

test('a closed rack leaves no process, namespace, interface or mount behind', { skip }, async (t) => {
  const before = traces();
  const rack = await rackOfTwo(t, 'trace');
  await rack.capture(join(rack.directory, 'trace.pcap'));
  const other = await startProcess({ argv: rack.exec(['sleep', '60']), logFile: join(rack.directory, 'sleep.log') });
  for (const machine of rack.machines) await ipmi(rack, machine, 'power', 'on');
  t.not(traces().join(), before.join());
  await rack.close();
  await rack.close();
  t.match(await other.ended, { signal: 'SIGKILL' });
  t.same(traces(), before);
});

for (const end of ['process.kill(process.pid, "SIGINT")', 'process.kill(process.pid, "SIGKILL")', 'null.x']) {
  test(`a rack whose owner ends by ${end} leaves nothing behind either`, { skip }, async (t) => {
    const directory = await folder(t);
    const program = `
      import { openRack } from ${JSON.stringify(join(import.meta.dirname, 'rack.ts'))};
      await openRack({ name: 'orphan', directory: ${JSON.stringify(directory)}, machines: [{ name: 'a', firmware: 'bios' }] });
      console.log('open');
      ${end};
      setTimeout(() => {}, 60_000);`;
    const owner = await startProcess({
      argv: [process.execPath, '--input-type=module', '--eval', program],
      logFile: join(directory, 'owner.log'),
    });
    await owner.ended;
    t.match(owner.log(), /^open$/m);
    // Nobody can clean up after SIGKILL; the next rack does.
    if (end.includes('SIGKILL')) await (await rackOfTwo(t, 'next')).close();
    t.same(
      namespaces().filter((name) => name.endsWith(`-${owner.pid}`)),
      [],
    );
    t.same(processesNaming(directory), []);
  });
}

test('a rack that cannot be built leaves nothing behind and says why', { skip }, async (t) => {
  const before = traces();
  const directory = await folder(t);
  const machines = [{ name: 'a', firmware: 'bios', diskGib: 0.3 }] as const;
  await t.rejects(openRack({ name: 'bad', directory, machines }), { code: 'ERR_OUT_OF_RANGE' });
  await t.rejects(openRack({ name: 'b d', directory, machines }), { message: /letters, digits and hyphens/ });
  t.same(traces(), before);
});

async function rackOfTwo(t: Test, name: string): Promise<Rack> {
  const machines: RackOptions['machines'] = [
    { name: 'bios', firmware: 'bios', memoryMib: 128 },
    { name: 'uefi', firmware: 'uefi', memoryMib: 128, disks: [{ gib: 2 }, { gib: 1, bus: 'nvme' }] },
  ];
  const rack = await openRack({ name, directory: await folder(t), machines });
  t.teardown(() => rack.close());
  return rack;
}

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'rs-rack-'));
  t.teardown(() => rm(path, { recursive: true }));
  return path;
}

function ipmi(rack: Rack, { bmc }: RackMachine, ...command: string[]): Promise<string> {
  const peer = ['-I', 'lanplus', '-C', '3', '-H', bmc.address, '-U', bmc.username, '-E'];
  return run(rack.exec(['ipmitool', ...peer, ...command]), { env: { IPMI_PASSWORD: bmc.password } });
}

function networkBootIndex(pid: number): number {
  return Number(/virtio-net-pci,[^\0]*bootindex=(\d)/.exec(readFileSync(`/proc/${pid}/cmdline`, 'latin1'))?.[1]);
}

/** Everything a rack of this process could leave. */
function traces(): string[] {
  const interfaces = readdirSync('/sys/class/net');
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`-${process.pid}`));
  return [
    ...interfaces,
    ...mounts,
    ...namespaces().filter((name) => name.endsWith(`-${process.pid}`)),
    ...processesNaming(`-${process.pid}`),
  ];
}

function namespaces(): string[] {
  return existsSync('/run/netns') ? readdirSync('/run/netns') : [];
}

function processesNaming(text: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(text);
    } catch {
      return false; // ended meanwhile
    }
  });
}

function whyNot(): string | false {
  if (process.getuid?.() !== 0) return 'only root may create a network namespace';
  const needed = [
    '/usr/bin/qemu-system-x86_64',
    '/usr/share/OVMF/OVMF_CODE_4M.fd',
    '/usr/bin/ipmi_sim',
    '/usr/bin/ipmitool',
  ];
  const missing = needed.find((path) => !existsSync(path));
  return missing === undefined ? false : `${missing} is missing: sh lab/setup.sh`;
}
