import { chmod, chown, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

import { systemClock } from '../../kernel/clock.ts';
import { createIds } from '../../kernel/ids.ts';
import { Secret } from '../../kernel/secret.ts';
import { generateMasterKey, loadMasterKey, masterKey, MasterKeys, masterKeyPath } from './credentials.ts';

const ids = createIds(systemClock);
const oldKey = masterKey(Buffer.alloc(32, 1));
const newKey = masterKey(Buffer.alloc(32, 2));
const NOBODY = 65_534;
const credential = new Secret('correct horse');

test('a sealed credential opens for its machine and shows nothing', async (t) => {
  const keys = new MasterKeys(oldKey);
  const sealed = keys.seal(credential, 'mac_1', ids);
  t.match(sealed, /^v1\.[\w-]{11}\.[\w-]{16}\.[\w-]+\.[\w-]{22}$/);
  t.equal(keys.open(sealed, 'mac_1').reveal(), 'correct horse');
  t.not(keys.seal(credential, 'mac_1', ids), sealed, 'the same credential never looks the same');
});

test('a credential moved to another machine does not open', async (t) => {
  const keys = new MasterKeys(oldKey);
  const sealed = keys.seal(credential, 'mac_1', ids);
  t.throws(() => keys.open(sealed, 'mac_2'), { code: 'key.mismatch' });
});

test('no changed character of a sealed credential goes unnoticed', async (t) => {
  const keys = new MasterKeys(oldKey);
  const sealed = keys.seal(credential, 'mac_1', ids);
  for (let at = 0; at < sealed.length; at++) {
    const changed = sealed.slice(0, at) + (sealed[at] === 'Q' ? 'R' : 'Q') + sealed.slice(at + 1);
    t.throws(() => keys.open(changed, 'mac_1'), { code: 'key.mismatch' });
  }
  for (const garbage of ['', 'v1', 'v1.a.b.c', 'v2' + sealed.slice(2), sealed + '.x', sealed.slice(0, -8)]) {
    t.throws(() => keys.open(garbage, 'mac_1'), { code: 'key.mismatch' });
  }
});

test('another master key says so by name', async (t) => {
  const sealed = new MasterKeys(oldKey).seal(credential, 'mac_1', ids);
  t.throws(() => new MasterKeys(newKey).open(sealed, 'mac_1'), {
    code: 'key.mismatch',
    message: new RegExp(oldKey.id),
  });
});

test('a key is rotated credential by credential while both open', async (t) => {
  const sealed = new MasterKeys(oldKey).seal(credential, 'mac_1', ids);
  const both = new MasterKeys(newKey, [oldKey]);
  t.equal(both.open(sealed, 'mac_1').reveal(), 'correct horse');
  const resealed = both.reseal(sealed, 'mac_1', ids)!;
  t.equal(new MasterKeys(newKey).open(resealed, 'mac_1').reveal(), 'correct horse');
  t.equal(both.reseal(resealed, 'mac_1', ids), undefined, 'what is under the new key stays as it is');
});

test('a generated key file is its owner’s alone, and is never overwritten', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'rs-key-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'master.key');
  const generated = await generateMasterKey(path, ids);
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.strictSame(await loadMasterKey(path), generated);
  await t.rejects(generateMasterKey(path, ids), { code: 'config.invalid' });
  t.strictSame(await loadMasterKey(path), generated);
});

test('a key file that others can read, or of another length, is refused', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'rs-key-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'master.key');
  await t.rejects(loadMasterKey(path), { code: 'config.invalid' });
  for (const length of [0, 31, 33]) {
    await writeFile(path, Buffer.alloc(length), { mode: 0o600 });
    await t.rejects(loadMasterKey(path), { code: 'config.invalid', message: /32 bytes/ });
  }
  await writeFile(path, Buffer.alloc(32));
  await chmod(path, 0o640);
  await t.rejects(loadMasterKey(path), { code: 'config.invalid', message: /chmod/ });
});

const notRoot = process.getuid?.() !== 0 && 'needs root';
test(
  "root's key file may be read by the group that hands it to us, and by nobody else",
  { skip: notRoot },
  async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'rs-key-'));
    t.teardown(() => rm(directory, { recursive: true }));
    const path = join(directory, 'rackstart-master-key');
    await writeFile(path, Buffer.alloc(32));
    await chown(directory, 0, NOBODY);
    await chown(path, 0, NOBODY);
    await chmod(directory, 0o750);
    const loadedUnder = async (mode: number) => {
      await chmod(path, mode);
      process.setegid!(NOBODY);
      process.seteuid!(NOBODY);
      try {
        return await loadMasterKey(path);
      } finally {
        process.seteuid!(0);
        process.setegid!(0);
      }
    };
    t.match(await loadedUnder(0o440), { id: String });
    for (const mode of [0o444, 0o460]) await t.rejects(loadedUnder(mode), { code: 'config.invalid', message: /chmod/ });
    await t.rejects(loadMasterKey(path), { message: /chmod/ }, 'to root itself it is a file that others can read');
  },
);

test('a configured key file wins over a systemd credential, and one of them must be there', async (t) => {
  const environment = { CREDENTIALS_DIRECTORY: '/run/credentials/rackstart.service' };
  t.equal(masterKeyPath('/etc/rackstart/key', environment), '/etc/rackstart/key');
  t.equal(masterKeyPath(undefined, environment), '/run/credentials/rackstart.service/rackstart-master-key');
  t.throws(() => masterKeyPath(undefined, {}), { code: 'config.invalid' });
});
