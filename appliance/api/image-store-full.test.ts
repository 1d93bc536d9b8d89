import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';

import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { apiBench, codeOf } from './api.fixture.ts';

const isRoot = process.getuid?.() === 0;
const disk = tinyDisk();
const sha256 = createHash('sha256').update(disk).digest('hex');

sqliteStore(
  'a full image store refuses what is sent, keeps nothing of it, and the API goes on',
  async (t, store, c) => {
    if (!isRoot) {
      t.plan(0, 'root mounts a small disk');
      return;
    }
    const { app, operator, made } = await apiBench(t, store, c.clock);
    mkdirSync(made.directory);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=272m', 'rs-image-store', made.directory]);
    t.teardown(() => execFileSync('umount', [made.directory]));
    const begin = (bytes: number) =>
      operator.post('/images/uploads', { name: 'debian', version: '12', format: 'raw', bytes, sha256 });

    const large = await begin(40 * 1024 ** 2);
    t.match([large.status, codeOf(large)], [507, 'image.store-full'], 'more than is free beside what is kept free');
    const { id } = (await begin(disk.length)).body as { id: string };
    const filler = join(made.directory, 'filler');
    const { bavail, bsize } = statfsSync(made.directory);
    execFileSync('fallocate', ['-l', String((bavail - 4) * bsize), filler]);

    const headers = { 'content-type': 'application/offset+octet-stream', 'upload-offset': '0', ...operator.headers };
    const url = `/api/v1/images/uploads/${id}`;
    const part = await app.inject({ method: 'PATCH', url, headers, payload: disk });
    t.match(
      [part.statusCode, part.json()],
      [507, { error: { code: 'image.store-full' } }],
      'it became full on the way',
    );
    t.same(readdirSync(join(made.directory, 'uploads')), []);
    t.equal((await operator.get('/images')).status, 200);
    t.equal(codeOf(await begin(disk.length)), 'image.store-full');
    rmSync(filler);
    t.equal((await begin(disk.length)).status, 201, 'and takes more once there is room');
  },
);
