import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { quarantineMachine } from '../machines/quarantine.ts';
import type { Hop } from '../machines/rack.fixture.ts';
import { eachStore } from '../store/test-stores.ts';
import { attempt, eventOf, isGivenBack, servers } from './given-back.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

const wiped = ['boot pxe once and reset', 'power off', 'clear boot override'];

const cancellations: readonly { title: string; hop?: Hop; state: string }[] = [
  { title: 'queued', state: 'queued' },
  { title: 'allocating, before anything was done', state: 'allocating' },
  { title: 'configuring', state: 'configuring' },
  { title: 'activating, before the claim', hop: 'claim', state: 'activating' },
  { title: 'activating, while the image is written', hop: 'image', state: 'activating' },
  { title: 'verifying', hop: 'phone-home', state: 'verifying' },
];

for (const { title, hop, state } of cancellations) {
  eachStore(
    `a request that is cancelled while ${title} is undone, and nobody is alerted`,
    async (t, store, { clock }) => {
      const pipeline = await Pipeline.open(t, store, clock, state === 'queued' ? { fairness: { perTenant: 0 } } : {});
      const [machine] = pipeline.rack;
      const id = await pipeline.order();
      let met = (await findRequest(store.read, id)).state as string;
      const cancel = async () => {
        met = (await findRequest(store.read, id)).state;
        await pipeline.release(id);
      };
      if (state === 'queued' || state === 'allocating') await cancel();
      if (state === 'configuring') machine!.atCommand = (command) => (command === 'read power' ? cancel() : undefined);
      if (hop !== undefined) {
        machine!.atHop = async (at) => {
          if (at !== hop) return undefined;
          if (state === 'activating') await cancel();
          return 'silent';
        };
      }
      if (state === 'verifying') {
        await pipeline.untilRequest(id, state);
        await cancel();
      }
      await pipeline.untilRequest(id, 'rolled-back');
      await pipeline.untilMachine('available');
      t.equal(met, state, 'cancelled in the state that is meant');
      await pipeline.release(id);
      await isGivenBack(t, pipeline, id);
      const types = (await pipeline.events()).map(({ type }) => type);
      t.notOk(types.includes('provisioning.failed'));
      t.notOk(types.includes('alert.raised'));
      t.match(await attempt(pipeline, id), { outcome: 'cancelled' });
    },
  );
}

eachStore('a request that waits for a machine can be cancelled', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'allocating');
  await pipeline.settle();
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(await store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').execute(), [
    { used_servers: 0 },
  ]);
  t.match(eventOf(await pipeline.events(), 'provisioning.rolled-back'), { data: { held: [] } });
  await pipeline.isHealthy(t);
});

eachStore('undo goes the one way that leaves no way back in, effect by effect', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  const seen: string[] = [];
  machine!.onCommand = async (command) => void seen.push(`${command}: ${await standing(pipeline)}`);
  machine!.atHop = (hop) => (hop === 'image' ? { code: 'image.digest', reason: 'no' } : undefined);
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  await pipeline.untilMachine('available');
  t.same(seen, [
    'read power: no order, no token, disk clean, address held',
    'boot pxe once and reset: install, token, disk clean, address held',
    'power off: no order, no token, disk dirty, address held',
    'clear boot override: no order, no token, disk dirty, address held',
    'boot pxe once and reset: wipe, token, disk dirty, address free',
    'power off: no order, no token, disk dirty, address free',
    'clear boot override: no order, no token, disk dirty, address free',
  ]);
  await isGivenBack(t, pipeline, id);
});

eachStore('a server that is released goes the same road, and is told as deprovisioned', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  machine!.commands.length = 0;
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'deprovisioned');
  await pipeline.untilMachine('available');
  t.same(machine!.commands, ['power off', 'clear boot override', ...wiped]);
  const events = await pipeline.events();
  t.match(eventOf(events, 'service.deprovisioned'), { data: { requestId: id, tenantId: 't1' } });
  t.equal(eventOf(events, 'provisioning.rolled-back'), undefined);
  t.equal(eventOf(events, 'provisioning.failed'), undefined);
  t.match(await attempt(pipeline, id), { outcome: 'succeeded' });
  await isGivenBack(t, pipeline, id, 'service.deprovisioned');
});

eachStore("a tenant's next server gets the machine after its wipe, not before", async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  const first = await pipeline.order();
  await pipeline.untilRequest(first, 'completed');
  let left: unknown = 'never asked';
  machine!.atHop = async (hop) => {
    if (hop === 'wipe') {
      t.equal((await pipeline.machine()).state, 'releasing');
      t.equal((await findRequest(store.read, second)).state, 'allocating', 'the next one waits');
    }
    if (hop === 'image') left = machine!.system;
    return undefined;
  };
  await pipeline.release(first);
  const second = await pipeline.order({}, { tenantId: 't2' });
  await pipeline.untilRequest(second, 'completed');
  t.equal(left, undefined, 'nothing of the first was on the disk');
  t.equal(machine!.system!.server, second);
  await pipeline.isHealthy(t);
});

for (const error of ['bmc.unreachable', 'bmc.lied', 'bmc.busy'] as const) {
  eachStore(
    `a BMC that fails with ${error} is asked after 5, 10 and 20 s, then named, and its machine set aside`,
    async (t, store, { clock }) => {
      const pipeline = await Pipeline.open(t, store, clock);
      const [machine] = pipeline.rack;
      const asked: number[] = [];
      machine!.atCommand = (command) => {
        if (command !== 'boot pxe once and reset') return;
        asked.push(clock.now());
        throw new RackstartError(error, 'BMC 192.0.2.1:623 fails', { details: { bmc: '192.0.2.1:623' } });
      };
      const id = await pipeline.order();
      await pipeline.untilRequest(id, 'rolled-back');
      t.same(
        asked.slice(1).map((at, index) => at - asked[index]!),
        [5 * SECOND, 10 * SECOND, 20 * SECOND],
      );
      const { failure } = await findRequest(store.read, id);
      t.match(JSON.parse(failure ?? ''), {
        code: error,
        step: 'activate',
        message: /192\.0\.2\.1/,
        details: { bmc: '192.0.2.1:623' },
      });
      const aside = { state: 'quarantined', disk_state: 'clean' } as const;
      await isGivenBack(t, pipeline, id, 'provisioning.rolled-back', aside);
      t.match(await pipeline.machine(), { quarantine_reason: new RegExp(error) });
    },
  );
}

eachStore('a BMC that recovers in time, and one that is slow, cost nothing but time', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  let failing = 3;
  machine!.atCommand = async (command) => {
    await clock.advance(20 * SECOND);
    if (command === 'boot pxe once and reset' && failing-- > 0) throw new RackstartError('bmc.unreachable', 'down');
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  t.same(machine!.writes.length, 1);
  await pipeline.isHealthy(t);
});

eachStore(
  'a machine whose BMC is dead during undo is set aside with its address; the quota is free',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.atHop = (hop) => (hop === 'image' ? { code: 'image.digest', reason: 'no' } : undefined);
    const asked: number[] = [];
    machine!.atCommand = (command) => {
      if (command !== 'power off') return;
      asked.push(clock.now());
      throw new RackstartError('bmc.unreachable', 'BMC 192.0.2.1:623 does not answer');
    };
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'rolled-back');
    t.same(
      asked.slice(1).map((at, index) => at - asked[index]!),
      [5 * SECOND, 10 * SECOND, 20 * SECOND],
    );
    t.match(await pipeline.machine(), { state: 'quarantined', disk_state: 'dirty', quarantine_reason: /192\.0\.2\.1/ });
    t.match(await servers(pipeline), [
      { address: '10.77.4.1', holder_kind: 'set-aside', holder_id: pipeline.machineIds[0], tenant_id: null },
    ]);
    t.match(await store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').execute(), [
      { used_servers: 0, used_cores: 0 },
    ]);
    const alerts = (await pipeline.events()).filter(({ type }) => type === 'alert.raised');
    t.match(alerts.at(-1), { key: pipeline.machineIds[0], data: { code: 'bmc.unreachable' } });
    await pipeline.isHealthy(t);

    const next = await pipeline.order();
    await pipeline.untilRequest(next, 'rolled-back');
    t.match(
      JSON.parse((await findRequest(store.read, next)).failure ?? ''),
      { code: 'placement.none' },
      'nobody gets it',
    );
    t.equal(machine!.state, 'on', 'as far as anybody knows');
    await pipeline.isHealthy(t);
  },
);

eachStore('an undo that is stuck leaves a machine in quarantine that nobody else gets', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  let broken = true;
  machine!.atCommand = (command) => {
    if (command === 'power off' && broken) throw new Error('a defect');
  };
  machine!.atHop = (hop) => (hop === 'image' ? { code: 'image.digest', reason: 'no' } : undefined);
  const id = await pipeline.order();
  await pipeline.until('saga is stuck', async () => eventOf(await pipeline.events(), 'saga.stuck') !== undefined);
  t.match(await pipeline.machine(), { state: 'quarantined', quarantine_reason: 'a defect' });
  t.match(await findRequest(store.read, id), { state: 'rolling-back' });
  await pipeline.isHealthy(t);

  broken = false;
  const { saga_id } = await attempt(pipeline, id);
  const { sagas } = pipeline.daemon.process;
  t.ok(await store.transaction((tx) => sagas.retryStuck(tx, saga_id)));
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(await pipeline.machine(), { state: 'quarantined', disk_state: 'dirty' }, 'an operator readmits it');
  t.match(await servers(pipeline), [{ holder_kind: 'set-aside' }]);
  await pipeline.isHealthy(t);
});

eachStore('a machine that is set aside while it boots is told nothing more', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  const { events } = pipeline.daemon.process;
  machine!.atHop = async (hop) => {
    if (hop !== 'disk') return undefined;
    const { id: machineId } = await pipeline.machine();
    const aside = { machineId, reason: 'nobody knows', actor: 'key_1', at: clock.now() };
    await store.transaction((tx) => quarantineMachine(tx, events, aside));
    t.match(await standing(pipeline), /^no order, no token/);
    return undefined;
  };
  await pipeline.order();
  await pipeline.until('it was turned away', () => Promise.resolve(machine!.refusals.length > 0));
  t.equal(machine!.system, undefined, 'and writes nothing');
  await pipeline.isHealthy(t);
});

/** What stands between a machine and its next boot, as one reads it at this moment. */
async function standing({ store }: Pipeline): Promise<string> {
  const order = await store.read
    .selectFrom('boot_orders')
    .select('verb')
    .where('state', 'in', ['pending', 'claimed'])
    .executeTakeFirst();
  const session = await store.read
    .selectFrom('boot_sessions')
    .select('id')
    .where('ended_at', 'is', null)
    .executeTakeFirst();
  const machine = await store.read.selectFrom('machines').select('disk_state').executeTakeFirstOrThrow();
  const address = await store.read
    .selectFrom('addresses')
    .select('address')
    .where('holder_kind', '=', 'attempt')
    .executeTakeFirst();
  return [
    order?.verb ?? 'no order',
    session === undefined ? 'no token' : 'token',
    `disk ${machine.disk_state}`,
    address === undefined ? 'address free' : 'address held',
  ].join(', ');
}
