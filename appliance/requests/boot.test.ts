import { createSecretKey } from 'node:crypto';

import type { Test } from 'tap';

import type { Claim, Report } from '../../pxe/boot-plan.ts';
import { deriveToken } from '../../pxe/http/token.ts';
import { MINUTE } from '../kernel/clock.ts';
import { Secret } from '../kernel/secret.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { BOOT_WINDOW } from './daemon.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { eventOf } from './given-back.fixture.ts';
import { findRequest } from './request-records.ts';

const claimant: Omit<Claim, 'token' | 'mac' | 'uuid'> = { protocol: 1, nonce: 'a'.repeat(32), from: '10.77.0.66' };

eachStore('what asks without an order gets its local disk, strangers get none', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  const { director } = pipeline.daemon;
  const ask = (uuid: string | undefined, mac = machine!.mac) =>
    director.decide({ mac, kind: 'ipxe', ...(uuid === undefined ? {} : { uuid }) });
  t.match(await ask(machine!.uuid), { verb: 'local-disk', why: 'no order' });
  t.match(await ask(undefined), { verb: 'local-disk' });
  t.match(await ask(machine!.uuid.toUpperCase()), { verb: 'local-disk' }, 'hexadecimal has no case');
  t.match(await ask('0'.repeat(36)), { verb: 'ignore', why: /UUID/ });
  const { mac: stranger } = pipeline.addStranger();
  t.match(await ask(machine!.uuid, stranger), { verb: 'inspect' }, 'where strangers are looked at');
  const decision = await pipeline.daemon.known.decide({ mac: stranger, kind: 'ipxe', uuid: machine!.uuid });
  t.match(decision, { verb: 'ignore', why: 'unknown MAC' }, 'and where they are not');
  await pipeline.isHealthy(t);
});

eachStore(
  'a machine that boots from the network after its claim, or its end, goes to its disk',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.atHop = (hop) => {
      if (hop !== 'image' || machine!.decisions.length > 1) return undefined;
      machine!.restart('pxe');
      return 'silent';
    };
    const id = await pipeline.order();
    await pipeline.until('second boot', () => Promise.resolve(machine!.decisions.length === 2));
    t.same(machine!.decisions, ['install', 'local-disk'], 'not installed a second time by accident');
    await pipeline.untilRequest(id, 'rolled-back');
    await pipeline.untilMachine('available');

    const next = await pipeline.order();
    await pipeline.untilRequest(next, 'completed');
    const { writes, system } = machine!;
    machine!.restart('pxe');
    await pipeline.settle();
    t.equal(machine!.decisions.at(-1), 'local-disk');
    t.equal(machine!.system, system);
    t.same(writes.length, 1, 'the first was never written');
    t.match(await findRequest(store.read, next), { state: 'completed' });
    await pipeline.isHealthy(t);
  },
);

eachStore('tokens of another hop, machine or boot open nothing', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 2 });
  const [machine, other] = pipeline.rack;
  for (const one of pipeline.rack) one.atHop = (hop) => (hop === 'dhcp' ? 'silent' : undefined);
  await pipeline.order();
  await pipeline.order();
  await pipeline.until('both wait', () => Promise.resolve(pipeline.rack.every(({ commands }) => commands.length > 1)));
  const { director } = pipeline.daemon;
  const [ours, theirs] = await Promise.all([machine!, other!].map((one) => tokensOf(pipeline, one.mac)));
  const refused = { code: 'boot.token-refused' };
  await t.rejects(director.script(machine!.mac, theirs!.script), refused, "another machine's");
  await t.rejects(director.script(machine!.mac, ours!.claim), refused, 'of another hop');
  await t.rejects(director.script(machine!.mac, new Secret('')), refused, 'none');
  const claim = { ...claimant, mac: machine!.mac, uuid: machine!.uuid };
  for (const token of [ours!.script, theirs!.claim, new Secret('x')]) {
    await t.rejects(director.claim({ ...claim, token }), refused);
  }
  await t.rejects(director.claim({ ...claim, token: ours!.claim, uuid: other!.uuid }), { code: 'boot.mismatch' });
  await t.rejects(director.claim({ ...claim, token: ours!.claim, uuid: '' }), { code: 'boot.mismatch' });
  await t.rejects(director.claim({ ...claim, token: ours!.claim, protocol: 2 }), { code: 'boot.protocol' });
  t.match(
    await store.read.selectFrom('boot_orders').select('state').distinct().execute(),
    [{ state: 'pending' }],
    'nothing happened',
  );

  await clock.advance(BOOT_WINDOW);
  await t.rejects(director.script(machine!.mac, ours!.script), refused, 'the window has closed');
  await t.rejects(director.claim({ ...claim, token: ours!.claim }), refused);
  await pipeline.isHealthy(t);
});

eachStore('the same claim again is the same answer; a bearer is of one boot', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  machine!.atHop = (hop) => (hop === 'claim' ? 'silent' : undefined);
  await pipeline.order();
  await pipeline.until('scripted', () => isIn(store, 'scripted'));
  const { director } = pipeline.daemon;
  const { claim: token, script } = await tokensOf(pipeline, machine!.mac);
  const claim = { ...claimant, token, mac: machine!.mac, uuid: machine!.uuid };
  const grants = await Promise.all([1, 2, 3, 4].map(() => director.claim(claim)));
  for (const grant of grants) t.equal(grant.bearer.reveal(), grants[0]!.bearer.reveal());
  t.match(grants[0]!.order, { verb: 'install', image_map_sha256: 'ab'.repeat(32), disk_min_bytes: String(1024 ** 3) });
  t.match(await store.read.selectFrom('boot_orders').select('state').execute(), [{ state: 'consumed' }]);
  t.equal((await pipeline.machine()).disk_state, 'dirty');
  t.equal(await countEvents(pipeline, 'boot.claimed'), 1);
  await t.rejects(
    director.script(machine!.mac, script),
    { code: 'boot.token-refused' },
    'a script is of no use any more',
  );

  const { bearer } = grants[0]!;
  const report: Report = { generation: 1, stage: 'disk', status: 'started', uptime: 1, facts: {} };
  const [id] = bearer.reveal().split('.');
  const signal = new AbortController().signal;
  for (const wrong of [new Secret('x'), token, new Secret(`${id!}.${'A'.repeat(43)}`)]) {
    const refused = { code: 'boot.token-refused' };
    await t.rejects(director.report(wrong, report), refused);
    await t.rejects(director.files(wrong), refused);
    await t.rejects(director.inspection(wrong, machine!.inspection), refused);
    await t.rejects(director.log(wrong, 'x'), refused);
    await t.rejects(director.next(wrong, 1, signal), refused);
  }
  await t.rejects(
    director.inspection(bearer, machine!.inspection),
    { code: 'boot.stale' },
    'not what it was ordered to do',
  );
  t.ok((await director.files(bearer)).some(({ path }) => path === 'etc/rackstart/agent.header'));

  await t.rejects(director.report(bearer, { ...report, generation: 2 }), { code: 'boot.stale' });
  await t.rejects(director.report(bearer, { ...report, generation: 2 }), { code: 'boot.stale' });
  const noted = await store.read.selectFrom('timeline').selectAll().where('name', '=', 'stale').execute();
  t.match(noted, [{ source: 'alert', detail: /"generation":2/ }], 'recorded, once');
  await t.rejects(director.next(bearer, 2, signal), { code: 'boot.stale' });
  await director.report(bearer, { ...report, stage: 'kexec' });
  t.notOk(await isIn(store, 'handed-off'), 'a report out of turn changes nothing');
  t.equal(await countEvents(pipeline, 'boot.handoff'), 0, 'and is told to nobody');

  const facts = { host_key: `ssh-ed25519 ${'A'.repeat(68)}` };
  for (const stage of ['image', 'grow', 'inject'] as const) {
    await director.report(bearer, { ...report, stage, status: 'done', facts });
  }
  for (const _again of [1, 2]) await director.report(bearer, { ...report, stage: 'kexec' });
  t.equal(await countEvents(pipeline, 'boot.handoff'), 1, 'a report that is told again is one handoff');
  await pipeline.isHealthy(t);
});

eachStore('a second claimant cuts both off, and the boot starts over and completes', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  let first: { bearer: Secret; credential: Secret } | undefined;
  machine!.atHop = async (hop) => {
    if (hop !== 'image' || first !== undefined) return undefined;
    const { bearer } = machine!;
    first = { bearer: bearer!, credential: await credentialOf(pipeline, bearer!) };
    const { claim: token } = await tokensOf(pipeline, machine!.mac);
    const claim = { ...claimant, token, mac: machine!.mac, uuid: machine!.uuid };
    const { director } = pipeline.daemon;
    await t.rejects(director.claim(claim), { code: 'boot.claim-conflict' });
    await t.rejects(director.claim(claim), { code: 'boot.token-refused' }, 'and then nobody');
    await t.rejects(director.files(bearer!), { code: 'boot.stale' });
    return undefined;
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  const events = await pipeline.events();
  t.match(eventOf(events, 'boot.cut-off'), { tenantId: undefined, data: { generation: 1 } });
  const alert = { code: 'boot.claim-conflict', subject: pipeline.machineIds[0] };
  t.match(eventOf(events, 'alert.raised'), { tenantId: undefined, data: alert });
  t.equal(machine!.generation, 2);
  const server = { protocol: 1, server: id, hostname: 'web1', machineId: '', bootId: '', uptime: 2, started: 1 };
  const home = { ...server, hostKey: machine!.system!.hostKey };
  const { agents } = pipeline.daemon;
  await t.rejects(
    agents.phoneHome(first!.credential, home),
    { code: 'agent.refused' },
    'nor does the first agent have a say',
  );
  const second = new Secret(machine!.system!.files.get('etc/rackstart/agent.header')!.trim().split(' ').at(-1)!);
  await agents.phoneHome(second, home);
  await t.rejects(agents.phoneHome(second, { ...home, hostKey: 'ssh-ed25519 other' }), { code: 'agent.refused' });
  await t.rejects(agents.phoneHome(second, { ...home, server: 'srv_other' }), { code: 'agent.refused' });
  t.equal(await countEvents(pipeline, 'agent.phoned-home'), 1, 'told once');
  await pipeline.isHealthy(t);

  await pipeline.release(id);
  await pipeline.untilRequest(id, 'deprovisioned');
  await t.rejects(agents.phoneHome(second, home), { code: 'agent.refused' }, 'after the release');
});

eachStore('of claims at the same time one wins, and the others cut it off', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  machine!.atHop = (hop) => (hop === 'claim' ? 'silent' : undefined);
  await pipeline.order();
  await pipeline.until('scripted', () => isIn(store, 'scripted'));
  const { claim: token } = await tokensOf(pipeline, machine!.mac);
  const claim = { ...claimant, token, mac: machine!.mac, uuid: machine!.uuid };
  const { director } = pipeline.daemon;
  const nonces = ['1', '2', '3', '4', '5'].map((digit) => digit.repeat(32));
  const results = await Promise.allSettled(nonces.map((nonce) => director.claim({ ...claim, nonce })));
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  const codes = results.flatMap((one) => (one.status === 'rejected' ? [(one.reason as { code: string }).code] : []));
  t.ok(codes.includes('boot.claim-conflict'));
  t.ok(
    codes.every((code) => code === 'boot.claim-conflict' || code === 'boot.token-refused'),
    codes.join(),
  );
  const winner = results.find((one) => one.status === 'fulfilled')!.value;
  await t.rejects(director.files(winner.bearer), { code: 'boot.stale' });
  t.equal(await countEvents(pipeline, 'boot.claimed'), 1);
  await pipeline.isHealthy(t);
});

eachStore('who keeps claiming our boots ends the request, not the appliance', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  machine!.atHop = async (hop) => {
    if (hop === 'disk') await intrude(t, pipeline);
    return undefined;
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), {
    code: 'boot.claim-conflict',
    details: { cutOff: 3 },
  });
  await pipeline.untilMachine('available');
  await pipeline.isHealthy(t);
});

eachStore('a claim after the kexec does not become a server', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  let probes = 0;
  pipeline.atProbe = async (target) => {
    if (probes++ === 0) await intrude(t, pipeline);
    return target;
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), {
    code: 'boot.claim-conflict',
    step: 'verify',
  });
  await pipeline.untilMachine('available');
  await pipeline.isHealthy(t);
});

eachStore('a machine that comes a byte further every minute comes to its end', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  machine!.atHop = (hop) => (hop === 'image' ? 'silent' : undefined);
  const id = await pipeline.order();
  const started = clock.now();
  const progress = (bytes: number) =>
    ({ generation: 1, stage: 'image', status: 'progress', uptime: 1, facts: { bytes: String(bytes) } }) as const;
  await pipeline.until('imaging', () => isIn(store, 'imaging'));
  for (let reports = 1; reports <= 150; reports += 1) {
    await clock.advance(MINUTE);
    await pipeline.daemon.director.report(machine!.bearer!, progress(reports)).catch(() => undefined);
    await pipeline.settle();
  }
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, id)).failure ?? ''), { code: 'boot.stage-late' });
  t.ok(clock.now() - started > 110 * MINUTE);
  await pipeline.untilMachine('available');
  await pipeline.isHealthy(t);
});

eachStore(
  'a machine that waits for its next order hears of its end at once, and of nothing after its patience',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.atHop = (hop) => (hop === 'disk' ? 'silent' : undefined);
    const id = await pipeline.order();
    await pipeline.until('claimed', () => isIn(store, 'claimed'));
    const { director } = pipeline.daemon;
    const { signal } = new AbortController();
    const patient = director.next(machine!.bearer!, 1, signal);
    await pipeline.settle();
    await clock.advance(25_000);
    t.equal(await patient, undefined);
    const cutOff = director.next(machine!.bearer!, 1, signal);
    cutOff.catch(() => undefined);
    machine!.atHop = () => undefined;
    await intrude(t, pipeline);
    await pipeline.settle();
    await t.rejects(cutOff, { code: 'boot.stale' });
    await pipeline.untilRequest(id, 'completed');
    await pipeline.isHealthy(t);
  },
);

/** Somebody who has seen the claim token on the wire uses it. */
async function intrude(t: Test, pipeline: Pipeline): Promise<void> {
  const [machine] = pipeline.rack;
  const { claim: token } = await tokensOf(pipeline, machine!.mac);
  const claim = { ...claimant, token, mac: machine!.mac, uuid: machine!.uuid };
  await t.rejects(pipeline.daemon.director.claim(claim), { code: 'boot.claim-conflict' });
}

/** What the open boot of this NIC is worth. */
async function tokensOf({ store }: Pipeline, mac: string): Promise<{ script: Secret; claim: Secret }> {
  const session = await store.read
    .selectFrom('boot_sessions')
    .innerJoin('machine_nics', 'machine_nics.machine_id', 'boot_sessions.machine_id')
    .selectAll('boot_sessions')
    .where('mac', '=', mac)
    .where('ended_at', 'is', null)
    .executeTakeFirstOrThrow();
  const key = createSecretKey(Buffer.alloc(32, 7));
  return { script: deriveToken(key, 'script', session), claim: deriveToken(key, 'claim', session) };
}

async function credentialOf(pipeline: Pipeline, bearer: Secret): Promise<Secret> {
  const files = await pipeline.daemon.director.files(bearer);
  const header = files.find(({ path }) => path === 'etc/rackstart/agent.header')!.content as string;
  return new Secret(header.trim().split(' ').at(-1)!);
}

async function isIn(store: Store, state: string): Promise<boolean> {
  const session = await store.read
    .selectFrom('boot_sessions')
    .select('id')
    .where('state', '=', state)
    .executeTakeFirst();
  return session !== undefined;
}

async function countEvents(pipeline: Pipeline, type: string): Promise<number> {
  return (await pipeline.events()).filter((event) => event.type === type).length;
}
