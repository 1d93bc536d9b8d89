import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { test } from 'tap';

import { newcArchive } from './newc.ts';
import { loadRamdisk } from './ramdisk-files.ts';

test("the appliance's CA follows the built initrd, which is otherwise as it was built", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-ramdisk-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'vmlinuz'), 'kernel');
  writeFileSync(join(directory, 'initrd'), 'built');
  const { kernel, initrd, version } = await loadRamdisk(directory, 'PEM');
  t.equal(kernel.bytes.toString(), 'kernel');
  t.equal(kernel.sha256, createHash('sha256').update('kernel').digest('hex'));
  const pinned = newcArchive([
    { path: 'etc', mode: 0o755 },
    { path: 'etc/rackstart', mode: 0o755 },
    { path: 'etc/rackstart/ca.pem', mode: 0o644, content: Buffer.from('PEM') },
    { path: 'etc/rackstart/version', mode: 0o644, content: Buffer.from(`${version}\n`) },
  ]);
  t.same(initrd.bytes, Buffer.concat([Buffer.from('built\0\0\0'), pinned]));
  t.match(version, /^[0-9a-f]{16}$/);
  t.equal((await loadRamdisk(directory, 'ANOTHER')).version, version, 'the same ramdisk, whoever serves it');
  writeFileSync(join(directory, 'initrd'), 'built anew');
  t.not((await loadRamdisk(directory, 'PEM')).version, version);
});

test('a ramdisk that was never built is named', async (t) => {
  await t.rejects(loadRamdisk('/nonexistent', 'PEM'), { code: 'host.missing', message: /build the ramdisk/ });
});
