import type { Inspection } from '../../pxe/boot-plan.ts';
import { acceptInventory, differencesOf } from '../machines/inventory-drift.ts';
import { openIssues, resolveIssue } from '../machines/machine-issues.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

type Change = Partial<Inspection>;

eachStore(
  'hardware that is other than it was is an issue, until it is back or an operator takes it for good',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    const [machineId = ''] = pipeline.machineIds;
    if (machine === undefined) throw new Error('no machine');
    const original = machine.inspection;
    const inspected = async (change: Change) => {
      machine.inspection = { ...original, ...change };
      await store.transaction((tx) => pipeline.daemon.care.startInspection(tx, machineId));
      await pipeline.untilMachine('available');
      return (await openIssues(store.read, machineId)).filter(({ type }) => type === 'inventory-drift');
    };
    t.same(await inspected({}), []);

    const [drift] = await inspected({ serial: 'S-2', model: 'D2' });
    t.match(drift, { severity: 'warning', message: /serial number is S-2, and was/ });
    t.match(JSON.parse(drift?.evidence ?? ''), {
      differences: [
        { what: 'serial number', expected: original.serial, seen: 'S-2' },
        { what: 'model', expected: 'Double D1', seen: 'Double D2' },
      ],
    });
    t.same(await inspected({}), [], 'it is as it was');

    t.equal((await inspected({ serial: 'S-3' })).length, 1);
    await store.transaction(async (tx) => {
      const at = clock.now();
      await resolveIssue(tx, pipeline.daemon.process.events, { machineId, type: 'inventory-drift', by: 'key_1', at });
      await acceptInventory(tx, machineId, at);
    });
    t.same(await inspected({ serial: 'S-3' }), [], 'that is what is known from here on');
    t.match(await inspected({}), [{ message: /and was S-3/ }]);
    await pipeline.isHealthy(t);
  },
);

eachStore(
  'what nobody could tell before is good as it is told first, and a switch that was not heard yet says what it said last',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    const [machineId = ''] = pipeline.machineIds;
    if (machine === undefined) throw new Error('no machine');
    const original = machine.inspection;
    const { nics } = original;
    const inspected = async (change: Change, neighbour?: string) => {
      machine.inspection = { ...original, ...change };
      machine.health = { nics: nics.map((nic) => (neighbour === undefined ? nic : { ...nic, neighbour })) };
      await store.transaction((tx) => pipeline.daemon.care.startInspection(tx, machineId));
      await pipeline.untilMachine('available');
      return (await openIssues(store.read, machineId)).filter(({ type }) => type === 'inventory-drift');
    };
    t.same(await inspected({}, 'sw-7/eth3'), [], 'nobody had heard its switch');
    const moved = await inspected({}, 'sw-7/eth4');
    t.match(moved, [{ message: /^neighbour of \S+ is sw-7\/eth4, and was sw-7\/eth3\.$/ }]);
    const [still] = await inspected({}, 'sw-7/eth4');
    t.equal(still?.id, moved[0]?.id, 'it was no other before the switch was heard again');
    t.same(await inspected({}), [], 'a switch that was not heard in all of the check is no difference');
    t.same(await inspected({}, 'sw-7/eth3'), []);

    t.same(await inspected({ bmcAddress: '10.0.0.1' }), []);
    t.match(await inspected({ bmcAddress: '10.0.0.2' }), [{ message: 'BMC address is 10.0.0.2, and was 10.0.0.1.' }]);
    await pipeline.isHealthy(t);
  },
);

eachStore('what a ramdisk could not tell is no difference, and a part that is replaced is two', (t, _store) => {
  const seen: Inspection = {
    ...{ cores: 8, memoryMib: 16_384, uuid: 'u', vendor: 'v', model: 'm', serial: 's', firmware: 'uefi' },
    disks: [{ name: 'sda', bytes: 1, type: 'ssd', serial: 'A', model: 'D' }],
    nics: [],
  };
  t.same(differencesOf(seen, { ...seen, firmwareVersion: '2.1', bmcAddress: '10.0.0.1', memoryMib: 16_300 }), []);
  const dimms = [{ slot: 'A1', mib: 8192, serial: 'X' }];
  t.same(differencesOf({ ...seen, dimms }, seen), []);
  t.same(differencesOf({ ...seen, dimms }, { ...seen, dimms: [{ slot: 'A1', mib: 8192, serial: 'Y' }] }), [
    { what: 'memory module A1', expected: '8192 MiB X', seen: '8192 MiB Y' },
  ]);
  t.same(differencesOf(seen, { ...seen, disks: [{ name: 'sda', bytes: 1, type: 'ssd', serial: 'B', model: 'D' }] }), [
    { what: 'disk A', expected: 'D of 1 bytes', seen: null },
    { what: 'disk B', expected: null, seen: 'D of 1 bytes' },
  ]);
  return Promise.resolve();
});
