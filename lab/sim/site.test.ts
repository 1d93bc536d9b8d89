import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

import type { Server } from '../site/server.ts';
import { openSimulatedSite } from './site.ts';

const skip =
  process.getuid?.() !== 0
    ? 'needs root, for network namespaces'
    : !existsSync('/usr/lib/ipxe') && 'Debian package ipxe is missing: the daemon serves its loaders';

test('machines, on the segment and behind a relay, are inspected, deployed and given back', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-sim-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const site = await openSimulatedSite({ name: 'test', directory, machines: 4, relays: 1, speed: 50 });
  t.teardown(() => site.close());
  const { follower, operator, machines } = site;
  const ids = await site.enrol(machines);
  const [first] = machines;
  const machine = () => operator.get<Record<string, unknown>>(`/machines/${ids[0]}`);
  const { cores, firmware, name: model } = first!.hardware;
  const behindRelay = [{ address: /^10\.80\.1\./ }];
  t.match(await machine(), {
    state: 'available',
    diskState: 'clean',
    nics: behindRelay,
    uuid: first!.uuid,
    cores,
    firmware,
    model,
  });

  const fits = Math.min(...machines.map(({ hardware }) => hardware.cores));
  const orders = await Promise.all(
    machines.map(({ relay }, index) => site.order(`web-${index}`, fits, relay?.address)),
  );
  const states = () => orders.map(({ id }) => follower.requests.get(id));
  await follower.until(
    () => `four servers; ${states().join(', ')}`,
    30_000,
    () => states().every((state) => state === 'completed'),
  );
  const servers = await Promise.all(orders.map(({ id }) => operator.get<Server>(`/servers/${id}`)));
  const names = await Promise.all(servers.map((server) => site.ssh(server, 'hostname')));
  t.strictSame(
    names.map((name) => name.trim()),
    ['web-0', 'web-1', 'web-2', 'web-3'],
  );
  t.match(await site.simulation.statistics(), { machines: 4, on: 4, systems: 4 });

  await Promise.all(orders.map(({ id }) => operator.delete(`/servers/${id}`)));
  await follower.until(
    () => `four releases; ${[...follower.machines.values()].join(', ')}`,
    30_000,
    () => ids.every((id) => follower.machines.get(id) === 'available'),
  );
  t.match(await machine(), { diskState: 'clean' });
  const { on, answers, counts } = await site.simulation.statistics();
  t.equal(on, 0);
  t.equal(counts['end: broken'], undefined);
  t.equal(counts['dhcp: option 82 not echoed'], undefined);
  t.equal(answers.tftp?.count, 12, 'three boots of four machines, each with its loader by TFTP');
  t.match(await site.doctor(), /invariants hold/);
});
