import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Test } from 'tap';
import { test } from 'tap';

import { until } from '../../lab/process/until.ts';
import { HOUR } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { scratch } from './qemu-img.fixture.ts';
import type { NewUpload } from './upload.ts';
import { UploadStore } from './upload.ts';

const notRoot = process.getuid?.() === 0 ? false : 'root mounts a small disk';
const content = randomBytes(100_000);
const sha256 = createHash('sha256').update(content).digest('hex');
const image = { name: 'debian', version: '12', kernelArgs: 'quiet' };
const declared: NewUpload = {
  ...{ tenantId: 'acme', format: 'qcow2', bytes: content.length, sha256: sha256.toUpperCase(), ...image },
};

void test('an upload in parts is whole when all of them came; then it is given away, and gone', async (t) => {
  const { uploads, files, elsewhere } = open(t);
  const { id, received } = await uploads.begin(declared);
  t.equal(received, 0);
  for (const [from, to] of [
    [0, 1],
    [1, 70_000],
    [70_000, 100_000],
  ] as const) {
    t.equal((await uploads.find('acme', id)).received, from);
    t.equal((await uploads.append('acme', id, from, inPieces(from, to))).received, to);
  }
  t.same(await uploads.list('acme'), [await uploads.find(undefined, id)]);
  t.same(await uploads.list('umbrella'), []);
  t.equal(await uploads.reserved('acme'), 100_000);
  await uploads.take('acme', id, (upload) => {
    t.match(upload, { ...declared, sha256, received: 100_000 });
    return Promise.resolve(elsewhere);
  });
  t.ok(readFileSync(elsewhere).equals(content));
  t.same(files(), []);
  await t.rejects(uploads.find('acme', id), { code: 'not-found' });
});

void test('a part that begins elsewhere than the last one ended is refused, and told where to go on', async (t) => {
  const { uploads } = open(t);
  const { id } = await uploads.begin(declared);
  await uploads.append('acme', id, 0, inPieces(0, 500));
  for (const offset of [0, 499, 501]) {
    const outcome = uploads.append('acme', id, offset, inPieces(offset, 600));
    await t.rejects(outcome, { code: 'upload.offset', details: { offset: 500 } });
  }
  t.equal((await uploads.find('acme', id)).received, 500);
});

void test('a sender that goes away leaves what came, and goes on there', async (t) => {
  const { uploads, elsewhere } = open(t);
  const { id } = await uploads.begin(declared);
  await t.rejects(uploads.append('acme', id, 0, broken()), { message: 'connection reset' });
  const { received } = await uploads.find('acme', id);
  t.equal(received, 30_000);
  t.equal((await uploads.append('acme', id, received, inPieces(received, 100_000))).received, 100_000);
  await uploads.take('acme', id, () => Promise.resolve(elsewhere));
  t.ok(readFileSync(elsewhere).equals(content));
});

void test('two senders of one upload do not mix: the second is told to wait', async (t) => {
  const { uploads } = open(t);
  const { id } = await uploads.begin(declared);
  const gate = Promise.withResolvers<undefined>();
  const slow = uploads.append('acme', id, 0, heldBack(gate.promise));
  await until('it has begun', 5_000, async () => (await uploads.find('acme', id)).received > 0);
  await t.rejects(uploads.append('acme', id, 10_000, inPieces(10_000, 20_000)), { code: 'upload.busy' });
  await t.rejects(
    uploads.take('acme', id, () => Promise.resolve('')),
    { code: 'upload.busy' },
  );
  await t.rejects(uploads.cancel('acme', id), { code: 'upload.busy' });
  gate.resolve(undefined);
  t.equal((await slow).received, 20_000);
});

void test('more than was declared is refused; less is incomplete', async (t) => {
  const { uploads } = open(t);
  const { id } = await uploads.begin({ ...declared, bytes: 15_000 });
  await t.rejects(uploads.append('acme', id, 0, inPieces(0, 20_000)), { code: 'request.too-large' });
  t.equal((await uploads.find('acme', id)).received, 10_000, 'what was too much is not kept');
  await t.rejects(
    uploads.take('acme', id, () => Promise.resolve('')),
    { code: 'upload.incomplete' },
  );
});

void test('an upload that nobody could write down is kept; one whose move was cut short is moved later', async (t) => {
  const { uploads, files, elsewhere } = open(t);
  const { id } = await uploads.begin(declared);
  await uploads.append('acme', id, 0, inPieces(0, 100_000));
  await t.rejects(
    uploads.take('acme', id, () => Promise.reject(new Error('no'))),
    { message: 'no' },
  );
  t.equal((await uploads.find('acme', id)).received, 100_000);
  for (let times = 0; times < 2; times++) await uploads.handOver(id, elsewhere);
  t.ok(readFileSync(elsewhere).equals(content));
  t.same(files(), []);
});

void test('a tenant reserves no more than its quota, also at the same moment; others have theirs', async (t) => {
  const { uploads } = open(t);
  const outcomes = await Promise.allSettled([1, 2, 3, 4].map(() => uploads.begin(declared)));
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 2, 'as many as 250,000 bytes hold');
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') t.match(outcome.reason, { code: 'quota.exceeded' });
  }
  const other = await uploads.begin({ ...declared, tenantId: 'umbrella' });
  await t.rejects(uploads.find('acme', other.id), { code: 'not-found' }, 'and nobody sees those of another');
  await t.rejects(uploads.append('acme', other.id, 0, inPieces(0, 1)), { code: 'not-found' });
  await t.rejects(uploads.begin({ ...declared, bytes: 1_000_001 }), { code: 'image.too-large' });
  for (let count = 0; count < 4; count++) await uploads.begin({ ...declared, tenantId: 'small', bytes: 1 });
  await t.rejects(
    uploads.begin({ ...declared, tenantId: 'small', bytes: 1 }),
    { code: 'quota.exceeded' },
    'nor more files',
  );
  const [first] = outcomes;
  if (first?.status !== 'fulfilled') throw new Error('the first was refused');
  await uploads.cancel('acme', first.value.id);
  await t.rejects(
    uploads.begin(declared, () => Promise.resolve(50_001)),
    { code: 'quota.exceeded' },
    'what it has otherwise counts',
  );
  t.ok(await uploads.begin(declared, () => Promise.resolve(50_000)), 'what is given back can be had again');
});

void test('room that is promised to one upload is not promised to another', async (t) => {
  const { uploads } = open(t, { room: 150_000 });
  const { id } = await uploads.begin(declared);
  await t.rejects(uploads.begin({ ...declared, tenantId: 'umbrella' }), {
    code: 'image.store-full',
    details: { free: 50_000 },
  });
  await uploads.cancel('acme', id);
  t.ok(await uploads.begin({ ...declared, tenantId: 'umbrella' }));
});

void test(
  'a disk that becomes full in mid-upload refuses it, and keeps nothing of it',
  { skip: notRoot },
  async (t) => {
    const directory = scratch(t)('uploads');
    mkdirSync(directory);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'rs-full-store', directory]);
    t.teardown(() => execFileSync('umount', [directory]));
    // Another's files took what was free when it began.
    const { uploads, files } = open(t, { directory });
    const { id } = await uploads.begin(declared);
    await t.rejects(uploads.append('acme', id, 0, inPieces(0, 100_000)), { code: 'image.store-full' });
    t.same(files(), []);
    t.ok(await uploads.begin(declared), 'and the store goes on');
  },
);

void test('an upload that takes too long is over, also in mid-stream, and collected', async (t) => {
  const { uploads, files, clock } = open(t);
  const { id } = await uploads.begin(declared);
  const gate = Promise.withResolvers<undefined>();
  const slow = uploads.append('acme', id, 0, heldBack(gate.promise));
  await until('it has begun', 5_000, async () => (await uploads.find('acme', id)).received > 0);
  await clock.advance(24 * HOUR);
  t.same(await uploads.collect(), [], 'not under the hands of who works on it');
  gate.resolve(undefined);
  await t.rejects(slow, { code: 'not-found' });
  await t.rejects(uploads.find('acme', id), { code: 'not-found' });
  const young = await uploads.begin(declared);
  t.same(await uploads.collect(), [id]);
  t.same(files(), [young.id]);
});

void test('a store that was killed goes on with what came, and collects what it had only begun', async (t) => {
  const path = scratch(t);
  const { id } = await killedInMidUpload(path('uploads'));
  mkdirSync(join(path('uploads'), `upl_${'0'.repeat(26)}`));
  writeFileSync(join(path('uploads'), `upl_${'0'.repeat(26)}`, 'data'), 'x');
  const { uploads, files } = open(t, { directory: path('uploads') });
  t.same(await uploads.collect(), [`upl_${'0'.repeat(26)}`]);
  t.same(files(), [id]);
  const { received } = await uploads.find('acme', id);
  t.ok(received > 0 && received < 100_000, `${received} bytes had come`);
  await uploads.append('acme', id, received, zeros(100_000 - received));
  await uploads.take('acme', id, () => Promise.resolve(path('given')));
  t.equal(statSync(path('given')).size, 100_000);
});

void test('ids that lead out of the directory name nothing', async (t) => {
  const { uploads } = open(t);
  for (const id of ['..', '../..', '', `upl_${'0'.repeat(25)}/`, `upl_${'A'.repeat(26)}`]) {
    await t.rejects(uploads.find('acme', id), { code: 'not-found' });
  }
});

function open(t: Test, { room = 10_000_000, directory = scratch(t)('uploads') } = {}) {
  const clock = new ManualClock();
  const limits = { mostBytes: 1_000_000, tenantBytes: 250_000, atOnce: 4, lifetime: 24 * HOUR };
  const uploads = new UploadStore({
    directory,
    clock,
    ids: createIds(clock),
    limits,
    room: () => Promise.resolve(room),
  });
  return { uploads, clock, elsewhere: `${directory}.given`, files: () => readdirSync(directory) };
}

async function* inPieces(from: number, to: number): AsyncGenerator<Buffer> {
  for (let at = from; at < to; at += 10_000) yield content.subarray(at, Math.min(at + 10_000, to));
}

async function* broken(): AsyncGenerator<Buffer> {
  yield* inPieces(0, 30_000);
  throw new Error('connection reset');
}

async function* heldBack(gate: Promise<undefined>): AsyncGenerator<Buffer> {
  yield* inPieces(0, 10_000);
  await gate;
  yield* inPieces(10_000, 20_000);
}

async function* zeros(length: number): AsyncGenerator<Buffer> {
  yield Buffer.alloc(length);
}

/** A process of its own takes an upload of zeros, and is killed when some of it has come. */
async function killedInMidUpload(directory: string): Promise<{ id: string }> {
  const room = (name: string) => JSON.stringify(join(import.meta.dirname, name));
  const script = `
    import { UploadStore } from ${room('upload.ts')};
    import { createIds } from ${room('../../appliance/kernel/ids.ts')};
    import { ManualClock } from ${room('../../appliance/kernel/manual-clock.ts')};
    import { createHash } from 'node:crypto';
    const clock = new ManualClock();
    const limits = { mostBytes: 1e9, tenantBytes: 1e9, atOnce: 4, lifetime: 86400000 };
    const uploads = new UploadStore({ directory: ${JSON.stringify(directory)}, clock, ids: createIds(clock), limits, room: async () => 1e12 });
    const sha256 = createHash('sha256').update(Buffer.alloc(100000)).digest('hex');
    const { id } = await uploads.begin({ tenantId: 'acme', format: 'raw', bytes: 100000, sha256 });
    await uploads.append('acme', id, 0, (async function* () {
      for (let at = 0; at < 99000; at += 1000) { yield Buffer.alloc(1000); await new Promise((go) => setTimeout(go, 5)); if (at === 50000) console.log(id); }
    })());`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGKILL');
  await once(child, 'exit');
  return { id: line.toString().trim() };
}
