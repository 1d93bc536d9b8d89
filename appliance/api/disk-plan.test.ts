import type { ImageRow } from '../store/schema.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { apiBench, codeOf, complaints, described } from './api.fixture.ts';

const GIB = 1024 ** 3;
const shape = { cores: 1, memoryMib: 512, diskGib: 10, nics: 'same' };
const data = { fs: 'xfs', label: 'data', mount: '/srv/data', disk: { type: 'hdd' } };
const layout = { root: { type: 'ssd' }, data: [data], swapMib: 1_024 };

eachStore(
  'a dry run shows what an order would do to the disks of a machine, and what it would erase',
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock);
    const { rack } = await described(bench, store);
    const { operator } = bench;
    const { member } = await bench.tenant('acme');
    const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
    const nics = [{ mac: '52-54-00-00-00-0A', role: 'both' }];
    const { id } = (await operator.post('/machines', { name: 'm1', rack, bmc, nics })).body as { id: string };
    const disk = (name: string, type: 'ssd' | 'hdd', gib: number) => ({
      name,
      bytes: gib * GIB,
      type,
      serial: `S${name}`,
    });
    const has = (...disks: ReturnType<typeof disk>[]) =>
      store.transaction(async (tx) => {
        await tx.deleteFrom('machine_disks').execute();
        const rows = disks.map((each) => ({ ...each, machine_id: id, model: 'X' }));
        await tx.insertInto('machine_disks').values(rows).execute();
      });
    t.equal((await operator.post('/flavors', { name: 'storage', ...shape, layout })).status, 201);
    const listed = (await member.get('/flavors')).body as { flavors: { name: string }[] };
    t.match(
      listed.flavors.find(({ name }) => name === 'storage'),
      { layout },
    );

    const [a, b, c] = [disk('sda', 'ssd', 100), disk('sdb', 'hdd', 900), disk('nvme0n1', 'hdd', 0.5)] as const;
    await has(a, b, c);
    const path = `/machines/${id}/disk-plan?flavor=storage`;
    t.same((await operator.get(path)).body, {
      machine: 'm1',
      flavor: 'storage',
      possible: true,
      refusals: [],
      steps: [
        { stage: 'image', does: 'write-image', disk: 'sda', erases: true, details: {} },
        { stage: 'grow', does: 'grow-root', disk: 'sda', erases: false, details: { bytes: 100 * GIB } },
        {
          ...{ stage: 'grow', does: 'make-file-system', disk: 'sdb', erases: true },
          details: { dataDisk: { ...data, disk: { minBytes: 0, type: 'hdd' } } },
        },
        { stage: 'grow', does: 'make-swap-file', disk: 'sda', erases: false, details: { mib: 1_024 } },
      ],
      erased: [a, b],
      untouched: [c],
    });

    t.match((await operator.get(`${path}&imageBytes=${String(100 * GIB)}`)).body, {
      possible: false,
      refusals: [{ role: 'root', reason: 'too-small' }],
      steps: [],
      erased: [],
    });
    await has(a, b, disk('sdc', 'hdd', 900));
    t.match((await operator.get(path)).body, {
      possible: false,
      refusals: [{ role: 'data1', reason: 'several-disks' }],
    });
    await has(disk('sda', 'ssd', 9), b);
    t.match((await operator.get(path)).body, { possible: false, refusals: [{ role: 'root', reason: 'too-small' }] });

    const mirrored = { root: { type: 'ssd', mirror: { type: 'ssd' } } };
    t.equal((await operator.post('/flavors', { name: 'mirrored', ...shape, layout: mirrored })).status, 201);
    const twin = disk('sdb', 'ssd', 90);
    await has(a, twin);
    t.match((await operator.get(`/machines/${id}/disk-plan?flavor=mirrored`)).body, {
      possible: true,
      steps: [{}, {}, { does: 'mirror-root', disk: 'sdb', erases: true, details: { of: 'sda', bytes: 90 * GIB } }],
      erased: [a, twin],
    });

    const withImage = async (
      columns: Partial<Pick<ImageRow, 'raw_bytes' | 'root_fs' | 'kernel_args' | 'has_mdadm'>>,
    ) => {
      await store.transaction((tx) => tx.updateTable('images').set(columns).execute());
      const { body } = await operator.get(`/machines/${id}/disk-plan?flavor=mirrored&image=debian:12`);
      const { refusals } = body as { refusals: { role: string; reason: string }[] };
      return refusals.map(({ role, reason }) => `${role} ${reason}`);
    };
    t.same(await withImage({ has_mdadm: null }), [], 'an image of which nobody knows better');
    t.same(await withImage({ has_mdadm: 1 }), []);
    t.same(await withImage({ has_mdadm: 0 }), ['mirror image']);
    t.same(await withImage({ has_mdadm: null, kernel_args: 'root=/dev/sda3' }), ['mirror image']);
    t.same(await withImage({ kernel_args: '', root_fs: 'btrfs' }), ['mirror image']);
    t.same(await withImage({ root_fs: 'ext4', raw_bytes: 91 * GIB }), ['root too-small'], 'its size is known');
    t.match((await operator.get(`${path}&image=debian`)).status, 200);
    t.same(complaints(await operator.get(`${path}&image=none`)), ['/image']);

    t.equal(codeOf(await operator.get('/machines/mch_none/disk-plan?flavor=storage')), 'not-found');
    t.same(complaints(await operator.get(`/machines/${id}/disk-plan?flavor=none`)), ['/flavor']);
    t.equal((await member.get(path)).status, 403);
  },
);

sqliteStore('a layout that no server could start with is refused, field by field', async (t, store, { clock }) => {
  const { operator } = await apiBench(t, store, clock);
  for (const [wrong, fields] of [
    [{ data: [{ ...data, mount: '/usr' }] }, ['/layout/data/0/mount']],
    [{ data: [{ ...data, mount: '/srv/../etc' }] }, ['/layout/data/0/mount']],
    [{ data: [{ ...data, mount: '/var/lib' }] }, ['/layout/data/0/mount']],
    [{ data: [data, { ...data, label: 'other' }] }, ['/layout/data/1/mount']],
    [{ data: [data, { ...data, mount: '/srv/other' }] }, ['/layout/data/1/label']],
    [{ swapMib: 0 }, ['/layout/swapMib']],
    [{ data: [{ ...data, label: 'thirteen-long' }] }, ['/layout/data/0/label']],
    [{ data: [{ ...data, fs: 'btrfs' }] }, ['/layout/data/0/fs']],
    [{ data: [{ ...data, disk: { serial: 'S1' } }] }, ['/layout/data/0/disk/serial']],
    [{ root: { type: 'tape' } }, ['/layout/root/type']],
    [{ root: { mirror: { serial: 'S1' } } }, ['/layout/root/mirror/serial']],
  ] as const) {
    const answer = await operator.post('/flavors', { name: 'bad', ...shape, layout: wrong });
    t.equal(codeOf(answer), 'request.invalid', JSON.stringify(wrong));
    t.same(complaints(answer), fields, JSON.stringify(wrong));
  }
  t.same((await operator.get('/flavors')).body, { flavors: [] });
});
