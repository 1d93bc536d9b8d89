import { test } from 'tap';

import type { Disk, DiskLayout, DiskPlan, DiskRule } from './disk-plan.ts';
import { planDisks, plainLayout } from './disk-plan.ts';

const GIB = 1024 ** 3;
const any: DiskRule = { minBytes: 0 };
const ssd = (name: string, gib = 480): Disk => ({ name, bytes: gib * GIB, type: 'ssd', serial: `S-${name}` });
const hdd = (name: string, gib = 4_000): Disk => ({ name, bytes: gib * GIB, type: 'hdd', serial: `S-${name}` });
const srv = { disk: { minBytes: 0, type: 'hdd' }, mount: '/srv', fs: 'xfs', label: 'srv' } as const;

test('a machine of one disk needs no layout', async (t) => {
  const plan = planDisks({ layout: plainLayout, machineRule: any, disks: [ssd('sda')], imageBytes: GIB });
  t.strictSame(plan, {
    kind: 'plan',
    root: ssd('sda'),
    rootBytes: 480 * GIB,
    data: [],
    steps: [
      { stage: 'image', does: 'write-image', disk: 'sda', erases: true },
      { stage: 'grow', does: 'grow-root', disk: 'sda', bytes: 480 * GIB, erases: false },
    ],
    untouched: [],
  });
});

test('every step is told, in its order, with what it erases, and so is what nobody touches', async (t) => {
  const layout: DiskLayout = {
    root: { minBytes: 0, type: 'ssd' },
    data: [srv, { disk: { minBytes: 0, type: 'nvme' }, mount: '/opt/scratch', fs: 'ext4', label: 'scratch' }],
    swapMib: 2_048,
  };
  const nvme: Disk = { name: 'nvme0n1', bytes: 900 * GIB, type: 'nvme', serial: '' };
  const small = hdd('sdd', 0.5);
  const plan = planDisks({ layout, machineRule: any, disks: [ssd('sda'), hdd('sdc'), nvme, small] });
  t.match(plan, { kind: 'plan', untouched: [small] });
  t.strictSame(plan.kind === 'plan' && plan.steps, [
    { stage: 'image', does: 'write-image', disk: 'sda', erases: true },
    { stage: 'grow', does: 'grow-root', disk: 'sda', bytes: 480 * GIB, erases: false },
    { stage: 'grow', does: 'make-file-system', disk: 'sdc', dataDisk: layout.data[0], erases: true },
    { stage: 'grow', does: 'make-file-system', disk: 'nvme0n1', dataDisk: layout.data[1], erases: true },
    { stage: 'grow', does: 'make-swap-file', disk: 'sda', mib: 2_048, erases: false },
  ]);
});

test('what is unclear is refused, with the role, the reason and what there is', async (t) => {
  const withData: DiskLayout = { ...plainLayout, data: [srv] };
  const cases: [string, DiskLayout, DiskRule, Disk[], [string, string][]][] = [
    ['two disks fit', plainLayout, any, [ssd('sda'), ssd('sdb')], [['root', 'several-disks']]],
    ['none fits', plainLayout, { minBytes: 500 * GIB }, [ssd('sda')], [['root', 'no-disk']]],
    ['no disk at all', plainLayout, any, [], [['root', 'no-disk']]],
    ['the same disk twice', withData, any, [hdd('sda')], [['data1', 'taken']]],
    [
      'a data disk too small',
      withData,
      { minBytes: 0, type: 'ssd' },
      [ssd('sda'), hdd('sdb', 0.9)],
      [['data1', 'no-disk']],
    ],
    [
      'both',
      withData,
      { minBytes: 0, type: 'nvme' },
      [hdd('sda'), hdd('sdb')],
      [
        ['root', 'no-disk'],
        ['data1', 'several-disks'],
      ],
    ],
    [
      'rules at odds',
      { ...plainLayout, root: { minBytes: 0, type: 'hdd' } },
      { minBytes: 0, type: 'ssd' },
      [ssd('sda'), hdd('sdb')],
      [['root', 'no-disk']],
    ],
  ];
  for (const [what, layout, machineRule, disks, expected] of cases) {
    const plan = planDisks({ layout, machineRule, disks });
    t.strictSame(
      refusals(plan).map(({ role, reason }) => [role, reason]),
      expected,
      what,
    );
    for (const { message } of refusals(plan)) {
      for (const { name } of disks) t.match(message, `${name} (`, 'it names every disk');
    }
  }
});

test('a mirror takes a second disk, which is erased, and the root what the smaller one has', async (t) => {
  const layout: DiskLayout = {
    root: { minBytes: 0, type: 'ssd', mirror: { minBytes: 0, maxBytes: 450 * GIB, type: 'ssd' } },
    data: [srv],
  };
  const machineRule = { minBytes: 0, serial: 'S-sdb' };
  const question = { layout, machineRule, disks: [ssd('sda', 400), ssd('sdb'), hdd('sdc'), hdd('sdd', 0.5)] };
  const plan = planDisks(question);
  t.match(plan, { root: { name: 'sdb' }, mirror: { name: 'sda' }, rootBytes: 400 * GIB, data: [{ name: 'sdc' }] });
  t.strictSame(plan.kind === 'plan' && plan.steps.slice(0, 3), [
    { stage: 'image', does: 'write-image', disk: 'sdb', erases: true },
    { stage: 'grow', does: 'grow-root', disk: 'sdb', bytes: 400 * GIB, erases: false },
    { stage: 'grow', does: 'mirror-root', disk: 'sda', of: 'sdb', bytes: 400 * GIB, erases: true },
  ]);
  const MIB = 1024 ** 2;
  t.equal(planDisks({ ...question, imageBytes: 400 * GIB - 4 * MIB }).kind, 'plan');
  t.match(refusals(planDisks({ ...question, imageBytes: 400 * GIB - 4 * MIB + 1 })), [{ reason: 'too-small' }]);
});

test('of two disks that may each be root or mirror the first is the root; of three none is', async (t) => {
  const twins: DiskLayout = { root: { minBytes: 0, type: 'ssd', mirror: { minBytes: 0, type: 'ssd' } }, data: [] };
  const ask = (layout: DiskLayout, ...disks: Disk[]) => planDisks({ layout, machineRule: any, disks });
  t.match(ask(twins, ssd('sda'), ssd('sdb'), hdd('sdc')), { root: { name: 'sda' }, mirror: { name: 'sdb' } });
  t.match(refusals(ask(twins, ssd('sda'))), [{ role: 'mirror', reason: 'taken' }]);
  const three = refusals(ask(twins, ssd('sda'), ssd('sdb'), ssd('sdc')));
  t.strictSame(
    three.map(({ role, reason }) => [role, reason]),
    [
      ['root', 'several-disks'],
      ['mirror', 'several-disks'],
    ],
  );
  const apart: DiskLayout = { root: { minBytes: 0, type: 'ssd', mirror: { minBytes: 0, type: 'hdd' } }, data: [] };
  t.match(refusals(ask(apart, ssd('sda'), ssd('sdb'), hdd('sdc'))), [{ role: 'root', reason: 'several-disks' }]);
});

test('a disk that has a use is not asked again', async (t) => {
  const layout: DiskLayout = { ...plainLayout, data: [{ ...srv, disk: any }] };
  const plan = planDisks({ layout, machineRule: { minBytes: 0, serial: 'S-sdb' }, disks: [ssd('sda'), ssd('sdb')] });
  t.match(plan, { kind: 'plan', root: { name: 'sdb' }, data: [{ name: 'sda' }] });
});

test("the machine's rule of its root and the flavor's both hold", async (t) => {
  const layout: DiskLayout = { root: { minBytes: 300 * GIB, maxBytes: 900 * GIB }, data: [] };
  const disks = [ssd('sda', 200), ssd('sdb', 400), ssd('sdc', 600), hdd('sdd', 400)];
  const plan = planDisks({ layout, machineRule: { minBytes: 0, maxBytes: 500 * GIB, type: 'ssd' }, disks });
  t.match(plan, { kind: 'plan', root: { name: 'sdb' } });
});

test('an image that leaves no room for the swap file is refused before anything is written', async (t) => {
  const question = { layout: { ...plainLayout, swapMib: 1_024 }, machineRule: any, disks: [ssd('sda', 4)] };
  t.equal(planDisks({ ...question, imageBytes: 3 * GIB }).kind, 'plan');
  t.match(refusals(planDisks({ ...question, imageBytes: 3 * GIB + 1 })), [{ role: 'root', reason: 'too-small' }]);
  t.equal(planDisks({ ...question, leastRootBytes: 4 * GIB }).kind, 'plan');
  t.match(refusals(planDisks({ ...question, leastRootBytes: 4 * GIB + 1 })), [{ role: 'root', reason: 'too-small' }]);
});

function refusals(plan: DiskPlan) {
  return plan.kind === 'refused' ? plan.refusals : [];
}
