import { createIds } from '../kernel/ids.ts';
import type { Inspection } from '../../pxe/boot-plan.ts';
import { recordInspection } from '../machines/inspection.ts';
import { eachStore } from '../store/test-stores.ts';
import { apiBench, described } from './api.fixture.ts';

const mac = '52:54:00:00:00:0a' as Inspection['nics'][number]['mac'];
const plain: Inspection = {
  ...{ cores: 8, memoryMib: 16_384, uuid: '', vendor: 'Acme', model: 'R6', serial: 'S-1', firmware: 'uefi' },
  disks: [{ name: 'nvme0n1', bytes: 512, type: 'nvme', serial: 'D1', model: 'M1' }],
  nics: [{ name: 'eth0', mac, up: true, speedMbps: 25_000 }],
};

eachStore(
  'a machine is shown with all that its inspection told, and without what it did not',
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock);
    const { rack } = await described(bench, store);
    const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
    const added = await bench.operator.post('/machines', { name: 'm1', rack, bmc, nics: [{ mac, role: 'both' }] });
    const { id: machineId } = added.body as { id: string };
    const inspected = async (inspection: Inspection) => {
      const deps = { events: bench.events, ids: createIds(clock) };
      await store.transaction((tx) => recordInspection(tx, deps, { machineId, inspection, at: clock.now() }));
      return (await bench.operator.get(`/machines/${machineId}`)).body as object;
    };
    t.match(await inspected(plain), {
      ...{ firmware: 'uefi', firmwareVendor: null, firmwareVersion: null, firmwareDate: null, dimms: [] },
      disks: [{ name: 'nvme0n1', wear: null }],
      nics: [{ mac, link: 'up', speedMbps: 25_000, neighbour: null }],
    });
    const firmware = { firmwareVendor: 'EDK II', firmwareVersion: '2.7', firmwareDate: '2015-02-06' };
    const dimms = [{ slot: 'A1', mib: 16_384, serial: 'X1' }];
    const worn = plain.disks.map((disk) => ({ ...disk, wear: 7 }));
    const heard = plain.nics.map((nic) => ({ ...nic, neighbour: 'sw-7/eth3' }));
    t.match(await inspected({ ...plain, ...firmware, dimms, disks: worn, nics: heard }), {
      ...{ ...firmware, dimms, openIssueCount: 0 },
      disks: [{ name: 'nvme0n1', wear: 7 }],
      nics: [{ mac, neighbour: 'sw-7/eth3' }],
    });
  },
);
