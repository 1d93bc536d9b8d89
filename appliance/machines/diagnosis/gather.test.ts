import { FIRST, twoMachines } from '../../../pxe/timeline.fixture.ts';
import { StoreTimeline } from '../../../pxe/timeline-records.ts';
import type { TimelineEntry } from '../../../pxe/timeline.ts';
import { createIds } from '../../kernel/ids.ts';
import { silentLog } from '../../kernel/log.ts';
import { ManualClock } from '../../kernel/manual-clock.ts';
import type { Store } from '../../store/store.ts';
import { eachStore } from '../../store/test-stores.ts';
import { diagnose } from './diagnose.ts';
import { explainFailure } from './explain.ts';
import { gatherEvidence } from './gather.ts';

const clock = new ManualClock(300);
const entry = (at: number, source: TimelineEntry['source'], name: string, detail = {}): TimelineEntry => {
  return { at, source, name, detail };
};

eachStore(
  "a boot's evidence is its own: timeline, console, the end of its log, what its session says",
  async (t, store) => {
    await twoMachines(store);
    await seen(store, [
      entry(150, 'dhcp', 'decline', { requested: '10.77.0.11' }),
      entry(160, 'bmc', 'Get Chassis Status', { completionCode: 0 }),
      entry(210, 'dhcp', 'discover', { kind: 'pxe-rom' }),
      entry(220, 'console', 'output', { text: 'Booting from ' }),
      entry(230, 'console', 'output', { text: 'Hard Disk...\n' }),
      entry(240, 'ramdisk', 'log', { text: `${'x'.repeat(6_000)}the end` }),
    ]);
    const evidence = await gatherEvidence(store.read, 's2', 300);
    t.match(evidence, {
      machine: { name: 'm1', uuid: null, address: '10.77.0.11' },
      ...{ verb: 'inspect', state: 'opened', openedAt: 200, windowUntil: 9999, poweredAt: undefined, at: 300 },
      ...{ failure: undefined, listened: 'heard' },
      bmcBefore: [{ at: 160, source: 'bmc', name: 'Get Chassis Status', detail: { completionCode: 0 } }],
      seen: [{ at: 210, source: 'dhcp', name: 'discover' }],
      console: [{ text: 'Booting from ' }, { text: 'Hard Disk...\n' }],
      log: /the end$/,
    });
    t.equal(evidence.seen.length, 1, 'console and log stand apart, and the boot before is another one');
    await t.rejects(gatherEvidence(store.read, 'boot_none', 300), { code: 'not-found' });
  },
);

eachStore('whether somebody listened to the console is known, heard or not', async (t, store) => {
  await twoMachines(store);
  t.equal((await gatherEvidence(store.read, 's2', 300)).listened, 'none');
  await seen(store, [entry(210, 'console', 'absent')]);
  t.equal((await gatherEvidence(store.read, 's2', 300)).listened, 'absent');
  await seen(store, [entry(220, 'console', 'given-up', { code: 'bmc.busy' })]);
  t.equal((await gatherEvidence(store.read, 's1', 300)).listened, 'none');
});

eachStore("what a step met is read from the machine's saga or the attempt, or given", async (t, store) => {
  await twoMachines(store);
  const reason = { code: 'bmc.auth', message: 'BMC m1:623 refuses.' };
  await store.transaction(async (tx) => {
    await tx
      .insertInto('sagas')
      .values({
        ...{ id: 'saga', name: 'inspect', version: 1, tenant_id: null, subject: 'm1', params: '{}', state: 'undone' },
        ...{ reason: JSON.stringify(reason), owner: null, epoch: 1, lease_expires_at: 0, wake_at: null },
        ...{ created_at: 190, ended_at: 290 },
      })
      .execute();
  });
  const evidence = await gatherEvidence(store.read, 's2', 300);
  t.match(evidence.failure, reason);
  t.match(diagnose(evidence), { verdict: 'found', findings: [{ cause: 'bmc-credentials' }] });
  t.equal((await gatherEvidence(store.read, 's1', 300)).failure, undefined, 'the boot before was of another saga');
  const given = { code: 'boot.stage-late', message: 'Late.' };
  t.strictSame((await gatherEvidence(store.read, 's2', 300, given)).failure, given);
});

eachStore(
  'a failure is explained by the last boot of its machine or attempt, and not without one',
  async (t, store) => {
    await twoMachines(store);
    const failure = { code: 'bmc.auth', message: 'BMC m1:623 refuses.' };
    t.match(await explainFailure(store.read, failure, { machineId: 'm1' }, 300), {
      verdict: 'found',
      findings: [{ cause: 'bmc-credentials', blame: 'machine' }],
    });
    t.equal(await explainFailure(store.read, failure, { machineId: 'm2' }, 300), undefined);
    t.equal(await explainFailure(store.read, failure, { attemptId: 'att_none' }, 300), undefined);
    t.equal(
      await explainFailure(store.read, { code: 'cancelled', message: 'So.' }, { machineId: 'm1' }, 300),
      undefined,
    );
  },
);

async function seen(store: Store, entries: readonly TimelineEntry[]): Promise<void> {
  const timeline = new StoreTimeline({ store, clock, ids: createIds(clock), log: silentLog });
  for (const each of entries) timeline.seen(FIRST, each);
  const over = new AbortController();
  over.abort();
  await timeline.run(over.signal);
}
