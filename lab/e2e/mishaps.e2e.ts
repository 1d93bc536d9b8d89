import { openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';

import { until } from '../process/until.ts';
import { deployStages } from '../../appliance/requests/server-timeline.ts';
import { deployed, follow, machineFlow } from './flow.ts';

machineFlow('what may go wrong on the way', [{ name: 'bios-1', firmware: 'bios' }], async (t, site) => {
  const machine = await site.enrol('bios-1');
  const available = () =>
    until('the machine to be free again', 240_000, async () => (await site.machine(machine)).state === 'available');

  await t.test('a daemon that is killed at every stage boundary goes on where it was', async (t) => {
    const killedAfter: string[] = [];
    const server = await deployed(site, 'web-1', async (stage) => {
      killedAfter.push(stage);
      await site.daemon.kill();
      await site.daemon.start();
    });
    t.same(killedAfter.sort(), [...deployStages].sort(), 'it was killed after each stage');
    t.equal((await site.ssh(server, 'hostname')).trim(), 'web-1');
    const { events } = await site.operator.get<{ events: { type: string }[] }>('/events?limit=1000');
    t.equal(events.filter(({ type }) => type === 'boot.handoff').length, 1, 'the machine was installed once');

    await site.tenant.delete(`/servers/${server.id}`);
    t.equal((await follow(site, server.id)).state, 'deprovisioned');
    await available();
  });

  await t.test('an image that changes on its way boots nothing, and the attempt says why', async (t) => {
    corruptImage(join(site.directory, 'appliance/state/images'));
    const { id } = await site.order('web-2');
    const server = await follow(site, id);
    t.match(server, { state: 'rolled-back', status: 'failed', failure: { code: 'image.digest' } });
    await available();
    t.match(await site.machine(machine), { diskState: 'clean' }, 'the machine is not to blame: it is wiped and free');
  });
});

/** Turns over one byte in the middle of the stored image. */
function corruptImage(directory: string): void {
  const [name = ''] = readdirSync(directory);
  const file = join(directory, name);
  const handle = openSync(file, 'r+');
  writeSync(handle, Buffer.from([0x5a]), 0, 1, Math.floor(statSync(file).size / 2));
}
