import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';

import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { apiBench, codeOf, complaints, described } from './api.fixture.ts';

eachStore('what is added is listed, and its name is given once', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { region, rack } = await described(bench, store);
  const { operator } = bench;
  const { id: tenant, member } = await bench.tenant('acme');
  t.same((await member.get('/regions')).body, { regions: [{ id: region, name: 'west' }] });
  t.same((await operator.get('/racks')).body, { racks: [{ id: rack, region, name: 'r1', powerFeed: null }] });
  const small = { name: 'small', cores: 2, memoryMib: 1024, diskGib: 10, nics: 'same' };
  t.match((await member.get('/flavors')).body, { flavors: [small] });
  t.match((await operator.get('/subnets')).body, { subnets: [{ region, role: 'both', cidr: '10.1.0.0/24', held: 0 }] });
  t.match((await operator.get('/tenants')).body, { tenants: [{ id: tenant, name: 'acme' }] });
  t.match((await member.get('/images')).body, { images: [{ name: 'debian', version: '12' }] });

  for (const [path, body] of [
    ['/regions', { name: 'west' }],
    ['/racks', { name: 'r1', region }],
    ['/flavors', small],
    ['/tenants', { name: 'acme' }],
  ] as const) {
    t.same(complaints(await operator.post(path, body)), ['/name'], path);
  }
  t.same(complaints(await operator.post('/racks', { name: 'r2', region: 'reg_none' })), ['/region']);
  t.same(complaints(await operator.post('/api-keys', { name: 'k', tenant: 'ten_none' })), ['/tenant']);
});

sqliteStore("a subnet's ranges lie in it and share no address", async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator } = bench;
  const { id: region } = (await operator.post('/regions', { name: 'west' })).body as { id: string };
  const subnet = (change: object) => ({
    region,
    role: 'both',
    cidr: '10.2.0.0/24',
    servers: { first: '10.2.0.100', last: '10.2.0.199' },
    ...change,
  });
  const range = (first: string, last: string) => ({ first, last });
  for (const [change, fields] of [
    [{ servers: range('10.2.0.100', '10.2.1.1') }, ['/servers']],
    [{ servers: range('10.2.0.199', '10.2.0.100') }, ['/servers']],
    [{ servers: range('fd00::1', 'fd00::9') }, ['/servers']],
    [{ servers: range('10.2.0.100', 'ten') }, ['/servers/last']],
    [{ leases: range('10.2.0.199', '10.2.0.250') }, ['/leases']],
    [{ reservations: range('10.2.0.1', '10.2.0.99'), leases: range('10.2.0.99', '10.2.0.99') }, ['/leases']],
    [{ leases: range('10.2.0.0', '10.2.0.9') }, ['/leases']],
    [{ leases: range('10.2.0.250', '10.2.0.255') }, ['/leases']],
    [{ cidr: '10.2.0.0/33' }, ['/cidr']],
    [{ cidr: '10.2.0.0' }, ['/cidr']],
    [{ cidr: 'here' }, ['/cidr']],
    [{ gateway: '10.3.0.1' }, ['/gateway']],
    [{ gateway: '10.2.0.150' }, ['/gateway']],
    [{ dns: ['10.2.0.1', 'dns.example'] }, ['/dns/1']],
    [{ region: 'reg_none' }, ['/region']],
    [{ role: 'storage' }, ['/role']],
  ] as const) {
    const answer = await operator.post('/subnets', subnet(change));
    t.equal(answer.status, 400, JSON.stringify(change));
    t.same(complaints(answer), fields, JSON.stringify(change));
  }
  t.same((await operator.get('/subnets')).body, { subnets: [] });
  const six = { cidr: 'fd00::/64', servers: range('fd00::100', 'fd00::1ff'), gateway: 'fe80::1' };
  t.equal((await operator.post('/subnets', subnet(six))).status, 201, "a router's link-local address is in no subnet");
  t.equal((await operator.post('/subnets', subnet({ gateway: '10.2.0.1' }))).status, 201);
  t.same(complaints(await operator.post('/subnets', subnet({}))), ['/cidr'], 'the same network again');
});

eachStore('an image is taken in when it is what its digest says, and else leaves nothing', async (t, store, c) => {
  const { app, operator } = await apiBench(t, store, c.clock);
  const payload = zstdCompressSync(tinyDisk());
  const digest = createHash('sha256').update(payload).digest('hex');
  const upload = (sha256: string, content: Buffer, more: Record<string, string> = {}) =>
    app.inject({
      method: 'POST',
      url: '/api/v1/images',
      query: { name: 'tiny', version: '1', sha256, rootPartition: '1', kernelArgs: 'quiet', ...more },
      headers: { ...operator.headers, 'content-type': 'application/zstd' },
      payload: content,
    });
  const code = (answer: { json: () => { error?: { code: string } } }) => answer.json().error?.code;
  t.equal(code(await upload('00'.repeat(32), payload)), 'image.digest');
  const half = payload.subarray(0, payload.length - 5);
  t.equal(code(await upload(createHash('sha256').update(half).digest('hex'), half)), 'image.invalid');
  t.equal(code(await upload(digest, payload, { kernelArgs: 'quiet; reboot' })), 'request.invalid');
  t.equal(code(await upload(digest, payload, { rootPartition: 'three' })), 'request.invalid');
  t.same((await operator.get('/images')).body, { images: [] });

  const added = await upload(digest, payload);
  t.equal(added.statusCode, 201);
  t.match(added.json(), { name: 'tiny', sha256: digest, rawBytes: 65_536, digest: /^[0-9a-f]{64}$/ });
  t.same((await upload(digest, payload)).json(), added.json(), 'the same again is the same image');
  const other = zstdCompressSync('another disk');
  t.equal(code(await upload(createHash('sha256').update(other).digest('hex'), other)), 'state.conflict');
  t.equal(codeOf(await operator.post('/images', {})), 'request.media-type', 'a body that is no image');
});
