import { serverTimeline } from './server-timeline.ts';
import { viewServer } from './server-view.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

eachStore(
  'an order becomes a server, through every state in turn, each with its event',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');

    const events = await pipeline.events();
    const moves = events
      .filter(({ type }) => type === 'request.state-changed')
      .map(({ data }) => (data as { to: string }).to);
    t.same(moves, ['queued', 'allocating', 'configuring', 'activating', 'verifying', 'completed']);
    const machineMoves = events
      .filter(({ type }) => type === 'machine.state-changed')
      .map(({ data }) => (data as { to: string }).to);
    t.same(machineMoves, ['deploying', 'deployed']);
    const told = events.map(({ type }) => type).filter((type) => /^(provisioning|service|resource)/.test(type));
    t.same(told, [
      'provisioning.started',
      'provisioning.step-completed',
      'resource.allocated',
      'resource.allocated',
      'provisioning.step-completed',
      'provisioning.step-completed',
      'provisioning.step-completed',
      'service.activated',
      'provisioning.completed',
    ]);
    const held = events.filter(({ type }) => type === 'resource.allocated').map(({ data }) => data);
    t.match(held, [
      { resource: 'machine', id: pipeline.machineIds[0] },
      { resource: 'address', id: '10.77.4.1' },
    ]);

    const view = await viewServer(store.read, id, 't1');
    t.equal(view.status, 'active');
    t.same(view.connection, { username: 'root', addresses: ['10.77.4.1'], hostKey: pipeline.rack[0]!.system!.hostKey });
    const { stages } = await serverTimeline(store.read, view);
    t.same(
      stages.map(({ name }) => name),
      [
        'admit',
        'power',
        'dhcp',
        'loader',
        'script',
        'ramdisk',
        'image',
        'grow',
        'inject',
        'kexec',
        'boot',
        'phone-home',
        'ssh',
      ],
    );
    let before = 0;
    for (const { name, startedAt, endedAt } of stages) {
      t.ok(
        endedAt !== undefined && endedAt >= startedAt && startedAt >= before,
        `${name} ended, behind the one before`,
      );
      before = startedAt;
    }
    await t.rejects(viewServer(store.read, id, 't2'), { code: 'not-found' }, 'another tenant does not see it');
    await pipeline.isHealthy(t);
  },
);
