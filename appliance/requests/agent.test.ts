import type { Heartbeat, PhoneHome } from '../../pxe/boot-plan.ts';
import { Secret } from '../kernel/secret.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

eachStore(
  'an agent is heard once, however often it says so; its metrics are the last ones',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.atHop = (hop) => (hop === 'phone-home' ? 'silent' : undefined);
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'verifying');
    const { agents } = pipeline.daemon;
    const { credential, home, beat } = wordsOf(pipeline, id);

    await t.rejects(agents.phoneHome(credential, { ...home, protocol: 2 }), { code: 'boot.protocol' });
    await t.rejects(agents.phoneHome(new Secret('x'), home), { code: 'agent.refused' });
    await t.rejects(agents.phoneHome(credential, { ...home, hostKey: 'ssh-ed25519 AAAA' }), { code: 'agent.refused' });
    await Promise.all([1, 2, 3, 4].map(() => agents.phoneHome(credential, home)));
    await Promise.all([1, 2, 3, 4].map((load1) => agents.heartbeat(credential, { ...beat, load1 })));
    await agents.heartbeat(credential, { ...beat, load1: 9 });
    await pipeline.untilRequest(id, 'completed');
    const types = (await pipeline.events()).map(({ type }) => type);
    t.equal(types.filter((type) => type === 'agent.phoned-home').length, 1);
    t.equal(types.filter((type) => type === 'agent.heartbeat-received').length, 1);
    const agent = await store.read.selectFrom('agents').selectAll().executeTakeFirstOrThrow();
    t.match(JSON.parse(agent.metrics ?? ''), { load1: 9, diskTotalKib: 1000 });
    t.equal(agent.protocol, 1);
    await pipeline.isHealthy(t);

    await pipeline.release(id);
    await pipeline.untilRequest(id, 'deprovisioned');
    await t.rejects(
      agents.heartbeat(credential, beat),
      { code: 'agent.refused' },
      'its credential died with the server',
    );
    await pipeline.isHealthy(t);
  },
);

eachStore('an agent that speaks before the installer has told its host key is nobody', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const [machine] = pipeline.rack;
  let asked = false;
  machine!.atHop = async (hop) => {
    if (hop !== 'grow') return undefined;
    asked = true;
    const files = await pipeline.daemon.director.files(machine!.bearer!);
    const header = files.find(({ path }) => path.endsWith('agent.header'))!.content as string;
    const { home } = wordsOf(pipeline, id);
    const early = pipeline.daemon.agents.phoneHome(new Secret(header.trim().split(' ').at(-1)!), home);
    await t.rejects(early, { code: 'agent.refused' });
    return undefined;
  };
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'completed');
  t.ok(asked);
  await pipeline.isHealthy(t);
});

function wordsOf({ rack }: Pipeline, server: string): { credential: Secret; home: PhoneHome; beat: Heartbeat } {
  const system = rack[0]!.system;
  const header = system?.files.get('etc/rackstart/agent.header') ?? '';
  const hostKey = system?.hostKey ?? 'ssh-ed25519 AAAA';
  const times = { bootId: 'b', uptime: 12, started: 11 };
  const memory = { memoryTotalKib: 2, memoryAvailableKib: 1 };
  return {
    credential: new Secret(header.trim().split(' ').at(-1) ?? ''),
    home: { protocol: 1, server, hostname: 'web1', machineId: '0', hostKey, ...times },
    beat: { protocol: 1, server, uptime: 13, load1: 0, ...memory, diskTotalKib: 1000, diskUsedKib: 10 },
  };
}
