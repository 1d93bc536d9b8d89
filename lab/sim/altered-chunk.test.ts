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

test(
  'a deploy whose chunks come altered fails with that reason, and its machine is wiped and free',
  { skip },
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'rs-sim-'));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const site = await openSimulatedSite({
      name: 'altered',
      directory,
      machines: 1,
      speed: 50,
      faults: { alteredChunk: 1 },
    });
    t.teardown(() => site.close());
    const { follower, operator, machines } = site;
    const [id = ''] = await site.enrol(machines);
    const order = await site.order('web-0', machines[0]!.hardware.cores);
    const states = () => `${follower.requests.get(order.id)}, ${follower.machines.get(id)}`;
    const isOver = () => states() === 'rolled-back, available';
    await follower.until(() => `the deploy to be turned back; ${states()}`, 30_000, isOver);
    const server = await operator.get<Server>(`/servers/${order.id}`);
    t.match(server.failure, { code: 'image.altered', message: /chunk at byte 0 came 3 times/ });
    const { events } = await operator.get<Events>('/events?limit=1000');
    const changes = events.filter(({ type }) => type === 'machine.state-changed').map(({ data }) => data.to);
    t.ok(changes.length > 3, changes.join(', '));
    t.notOk(changes.includes('quarantined'), 'the machine is not to blame');
    t.match(await operator.get(`/machines/${id}`), { state: 'available', diskState: 'clean', quarantineReason: null });
    t.match(await site.doctor(), /invariants hold/);
  },
);

interface Events {
  readonly events: readonly { readonly type: string; readonly data: { readonly to?: string } }[];
}
