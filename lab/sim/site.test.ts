import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

import { until } from '../process/until.ts';
import type { Timeline } from '../site/server.ts';
import { openSimulatedSite } from './site.ts';

const skip =
  process.getuid?.() !== 0
    ? 'needs root, for network namespaces'
    : !existsSync('/usr/lib/ipxe') && 'Debian package ipxe is missing: the daemon serves its loaders';

test('a simulated machine is inspected, ordered and given back through a real appliance', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-sim-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const site = await openSimulatedSite({ name: 'test', directory, machines: 2, firmwareMs: 0 });
  t.teardown(() => site.close());
  const [bios, uefi] = site.machines;
  const [id] = await Promise.all([site.enrol(bios!), site.enrol(uefi!)]);
  const machine = () => site.operator.get<Record<string, unknown>>(`/machines/${id}`);
  t.match(await machine(), { state: 'available', firmware: 'bios', cores: 1, diskState: 'clean' });

  const server = await site.order('web', 1);
  const timeline = () => site.tenant.get<Timeline>(`/servers/${server.id}/timeline`);
  const seen = async (source: string, name: string) =>
    (await timeline()).entries.some((entry) => entry.source === source && entry.name === name);
  await until('the order is claimed', 10_000, () => seen('http', 'claim'));
  t.equal(await seen('bmc', 'Chassis Control (power up)'), true);
  t.match(await machine(), { state: 'deploying', diskState: 'dirty' });

  await site.tenant.delete(`/servers/${server.id}`);
  await until('the wipe', 10_000, async () => (await machine())['state'] === 'available');
  t.match(await machine(), { diskState: 'clean' });
});
