import { test } from 'tap';

import type { BootSession } from './boot-session.ts';
import { advanceBoot, openBootSession, openWarmSession, stagesWithTimeline } from './boot-session.ts';
import type { BootEvent, BootState } from './boot-states.ts';
import { bootStateDiagram, nextState } from './boot-states.ts';
import type { reportStages } from './boot-plan.ts';
import type { TimelineEntry } from './timeline.ts';

const report = (
  stage: (typeof reportStages)[number],
  status: 'started' | 'progress' | 'done' | 'failed',
  facts: Record<string, string> = {},
): BootEvent => ({ type: 'report', stage, status, facts });

const install: [BootEvent, BootState][] = [
  [{ type: 'firmware-address' }, 'addressed'],
  [{ type: 'loader' }, 'loader'],
  [{ type: 'ipxe-address' }, 'loader'],
  [{ type: 'script', askedAt: 3900 }, 'scripted'],
  [{ type: 'kernel' }, 'loading'],
  [{ type: 'initrd' }, 'loading'],
  [{ type: 'claim' }, 'claimed'],
  [report('disk', 'done'), 'claimed'],
  [report('image', 'started'), 'imaging'],
  [report('image', 'progress'), 'imaging'],
  [report('image', 'done', { bytes: '5' }), 'growing'],
  [report('grow', 'done'), 'injecting'],
  [report('inject', 'done'), 'injecting'],
  [report('kexec', 'started'), 'handed-off'],
  [{ type: 'phone-home', uptime: 12, started: 11.5 }, 'booted'],
  [{ type: 'verified' }, 'done'],
];

/** One event a second, the first at second 1. */
function run(events: readonly BootEvent[]): BootSession {
  return events.reduce((session, event, index) => {
    const next = advanceBoot(session, event, (index + 1) * 1000);
    if (next.unexpected) throw new Error(`unexpected ${event.type} in ${session.state}`);
    return next.session;
  }, openBootSession(0));
}

/** Any live state may come late. */
const hasEnded = (state: BootState) => nextState(state, { type: 'late', reason: 'why' }) === undefined;

const upTo = (state: BootState) =>
  run(install.slice(0, install.findIndex(([, to]) => to === state) + 1).map(([e]) => e));

test('an install goes through its states in order', (t) => {
  let session = openBootSession(0);
  for (const [index, [event, state]] of install.entries()) {
    const next = advanceBoot(session, event, index * 1000);
    t.notOk(next.unexpected);
    t.equal(next.session.state, state);
    session = next.session;
  }
  t.ok(hasEnded(session.state));
  t.end();
});

test('a machine that is to wait is looked at, and parked once it asks for its next order', (t) => {
  const events: BootEvent[] = [
    { type: 'script' },
    { type: 'claim-to-wait' },
    report('inspect', 'started'),
    { type: 'inspection' },
    report('inspect', 'done'),
    report('check', 'started'),
    { type: 'checked' },
    report('check', 'done'),
  ];
  const warming = run(events);
  t.equal(warming.state, 'warming', 'it is of use only when it asks');
  const parked = advanceBoot(warming, { type: 'poll' }, 9000).session;
  t.equal(parked.state, 'parked');
  t.strictSame(advanceBoot(parked, { type: 'poll' }, 9500), { session: parked, unexpected: false });
  t.equal(advanceBoot(warming, report('inspect', 'failed'), 9000).session.state, 'failed');
  t.ok(advanceBoot(parked, report('image', 'started'), 9000).unexpected, 'it installs nothing in this boot');
  t.end();
});

test('the order of a parked machine is sent again until its bearer was used, and then goes the way of all installs', (t) => {
  let session = openWarmSession(0);
  t.ok(advanceBoot(session, { type: 'claim' }, 100).unexpected, 'nobody claims it from the network');
  const steps: [BootEvent, BootState][] = [
    [{ type: 'taken' }, 'taken'],
    [{ type: 'taken' }, 'taken'],
    [{ type: 'bearer-used' }, 'claimed'],
    [report('disk', 'done'), 'claimed'],
    [report('image', 'started'), 'imaging'],
    [report('image', 'done'), 'growing'],
  ];
  for (const [index, [event, state]] of steps.entries()) {
    const next = advanceBoot(session, event, (index + 1) * 100);
    t.equal(next.session.state, state);
    session = next.session;
  }
  t.ok(advanceBoot(session, { type: 'taken' }, 900).unexpected);
  t.strictSame(stagesWithTimeline(session, []), {
    order: { startedAt: 0, endedAt: 100 },
    image: { startedAt: 100, endedAt: 600, facts: {} },
    grow: { startedAt: 600 },
  });
  t.end();
});

test('each stage begins where the one before it ended', (t) => {
  const { stages } = run(install.map(([event]) => event));
  t.strictSame(stages, {
    dhcp: { startedAt: 0, endedAt: 1000 },
    loader: { startedAt: 1000, endedAt: 3900 },
    script: { startedAt: 3900, endedAt: 4000 },
    ramdisk: { startedAt: 4000, endedAt: 7000 },
    image: { startedAt: 7000, endedAt: 11000, facts: { bytes: '5' } },
    grow: { startedAt: 11000, endedAt: 12000, facts: {} },
    inject: { startedAt: 12000, endedAt: 13000, facts: {} },
    kexec: { startedAt: 13000, endedAt: 14000, facts: {} },
    boot: { startedAt: 14000, endedAt: 14500 },
    'phone-home': { startedAt: 14500, endedAt: 15000 },
  });
  t.end();
});

test('an iPXE ROM has nothing to load', (t) => {
  const { stages } = run([{ type: 'ipxe-address' }, { type: 'script' }]);
  t.strictSame(stages.loader, { startedAt: 1000, endedAt: 1000 });
  t.strictSame(stages.script, { startedAt: 1000, endedAt: 2000 });
  t.strictSame(stages.ramdisk, { startedAt: 2000 }, 'and the ramdisk is on its way');
  t.end();
});

test('the timeline adds what no row was written for', (t) => {
  const session = [{ type: 'script' }, { type: 'claim' }].reduce<BootSession>(
    (before, event, index) => advanceBoot(before, event as BootEvent, 5000 + index * 4000).session,
    openBootSession(1000),
  );
  t.strictSame(
    session.stages.dhcp,
    { startedAt: 1000, endedAt: 5000 },
    'alone it knows only when the script was asked for',
  );
  const entry = (at: number, source: TimelineEntry['source'], name: string, detail: object = {}): TimelineEntry => ({
    at,
    source,
    name,
    detail: { ...detail },
  });
  t.strictSame(
    stagesWithTimeline(session, [
      entry(1500, 'bmc', 'power-on'),
      entry(2000, 'dhcp', 'offer', { boot: 'snponly.efi' }),
      entry(2100, 'dhcp', 'ack', { boot: 'snponly.efi' }),
      entry(2200, 'tftp', 'read'),
      entry(4000, 'dhcp', 'ack', { boot: 'script' }),
      entry(5010, 'http', 'script', { ms: 20 }),
    ]),
    {
      dhcp: { startedAt: 1000, endedAt: 2100 },
      loader: { startedAt: 2100, endedAt: 4990 },
      script: { startedAt: 4990, endedAt: 5010 },
      ramdisk: { startedAt: 5010, endedAt: 9000 },
    },
  );
  t.strictSame(stagesWithTimeline(session, []), session.stages, 'nothing seen, nothing changed');
  t.end();
});

test('beside another DHCP server our offer ends the stage, and our offer as a server does not', (t) => {
  const offer = (detail: object): TimelineEntry => ({
    at: 2000,
    source: 'dhcp',
    name: 'offer',
    detail: { boot: 'snponly.efi', ...detail },
  });
  const session = openBootSession(1000);
  t.strictSame(stagesWithTimeline(session, [offer({ proxy: true })]).dhcp, { startedAt: 1000, endedAt: 2000 });
  t.strictSame(stagesWithTimeline(session, [offer({})]).dhcp, { startedAt: 1000 });
  t.end();
});

test('the same event twice is no surprise and moves no time', (t) => {
  for (const [index, [event]] of install.entries()) {
    const once = run(install.slice(0, index + 1).map(([e]) => e));
    if (hasEnded(once.state)) continue;
    const twice = advanceBoot(once, event, 99_000);
    t.notOk(twice.unexpected, event.type);
    t.strictSame(twice.session, once, event.type);
  }
  t.end();
});

test('an unexpected event is told of and changes nothing', (t) => {
  const cases: [BootSession, BootEvent][] = [
    [openBootSession(0), { type: 'claim' }],
    [openBootSession(0), report('image', 'done')],
    [upTo('imaging'), { type: 'firmware-address' }],
    [upTo('imaging'), report('grow', 'done')],
    [upTo('claimed'), { type: 'phone-home', uptime: NaN, started: -1 }],
    [upTo('done'), report('inject', 'failed')],
    [upTo('done'), { type: 'revoked', reason: 'late' }],
  ];
  for (const [session, event] of cases) {
    t.strictSame(
      advanceBoot(session, event, 99_000),
      { session, unexpected: true },
      `${event.type} in ${session.state}`,
    );
  }
  t.end();
});

test('a stage that failed ends the session with its reason', (t) => {
  const failed = advanceBoot(
    upTo('imaging'),
    report('image', 'failed', { code: 'image.digest', reason: 'not it' }),
    99_000,
  );
  t.equal(failed.session.state, 'failed');
  t.equal(failed.session.reason, 'image: image.digest: not it');
  t.match(failed.session.stages.image, { endedAt: 99_000, facts: { reason: 'not it' } });
  t.end();
});

test('a wipe ends a session of its own', (t) => {
  const begun = advanceBoot(upTo('claimed'), report('wipe', 'started'), 8000).session;
  t.equal(begun.state, 'wiping');
  const over = advanceBoot(begun, report('wipe', 'done'), 9000).session;
  t.equal(over.state, 'done');
  t.match(over.stages.wipe, { startedAt: 7000, endedAt: 9000 });
  t.notOk(over.stages.image);
  t.end();
});

test('an inspection goes on to a check, which ends its session', (t) => {
  const claimed = upTo('claimed');
  const inspecting = advanceBoot(claimed, report('inspect', 'started'), 8000).session;
  t.equal(inspecting.state, 'inspecting');
  for (const early of [{ type: 'checked' }, report('check', 'done')] as const) {
    t.ok(advanceBoot(inspecting, early, 8500).unexpected, 'nothing is checked before it was inspected');
  }
  const inspected = advanceBoot(inspecting, report('inspect', 'done'), 9000).session;
  t.equal(inspected.state, 'checking');
  const told = advanceBoot(inspected, { type: 'checked' }, 9500).session;
  const over = advanceBoot(told, report('check', 'done'), 10_000).session;
  t.equal(over.state, 'done');
  t.match(over.stages, {
    inspect: { startedAt: 7000, endedAt: 9000 },
    check: { startedAt: 9000, endedAt: 10_000 },
  });
  t.end();
});

test('a second claimant, a revoked order and a late stage end any live session', (t) => {
  for (const [, state] of install.slice(0, -1)) {
    for (const type of ['cut-off', 'revoked', 'late'] as const) {
      const { session, unexpected } = advanceBoot(upTo(state), { type, reason: 'why' }, 99_000);
      t.notOk(unexpected);
      t.ok(hasEnded(session.state));
      t.equal(session.reason, 'why');
    }
  }
  t.end();
});

test('a clock that stepped back makes no negative stage', (t) => {
  const claimed = upTo('claimed');
  const { session } = advanceBoot(claimed, report('image', 'done'), 10);
  t.strictSame(session.stages.image, { startedAt: 7000, endedAt: 7000, facts: {} });
  t.end();
});

test('the diagram shows the arrows that the table runs', (t) => {
  const arrows = [...bootStateDiagram().matchAll(/^ {2}([a-z_]+) --> ([a-z_]+): (.+)$/gm)];
  const shown = new Set(arrows.map(([, from, to]) => `${from ?? ''} ${to ?? ''}`));
  let session = openBootSession(0);
  for (const [event] of install) {
    const next = advanceBoot(session, event, 0).session;
    if (next.state !== session.state) t.ok(shown.has(`${session.state} ${next.state}`.replaceAll('-', '_')));
    session = next;
  }
  t.match(bootStateDiagram(), '  injecting --> handed_off: kexec-started\n');
  t.match(bootStateDiagram(), /^stateDiagram-v2\n {2}\[\*\] --> opened\n/);
  t.end();
});
