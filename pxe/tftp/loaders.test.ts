import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { test } from 'tap';

import { hasCode } from '../../appliance/kernel/errors.ts';
import { loaderFor, readLoaders } from './loaders.ts';

test('each architecture gets the loader its firmware can run', (t) => {
  t.equal(loaderFor(0), 'undionly.kpxe', 'BIOS');
  t.equal(loaderFor(7), 'snponly.efi', 'x64 UEFI as firmware announces it');
  t.equal(loaderFor(9), 'snponly.efi', 'x64 UEFI as RFC 4578 has it');
  t.equal(loaderFor(11), 'snponly-arm64.efi', 'arm64 UEFI');
  for (const other of [6, 10, 16, -1, 65_536]) t.equal(loaderFor(other), undefined, `nothing for ${other}`);
  t.end();
});

test("the loaders of Debian's package are read", { skip: packageMissing() }, async (t) => {
  const files = await readLoaders();
  t.same([...files.keys()], ['undionly.kpxe', 'snponly.efi']);
  t.equal(files.get('snponly.efi')?.toString('latin1', 0, 2), 'MZ', 'an EFI program');
});

test('an arm64 loader comes from the path in the configuration', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'rs-loaders-'));
  t.teardown(() => rm(directory, { recursive: true }));
  for (const name of ['undionly.kpxe', 'snponly.efi', 'mine.efi']) await writeFile(join(directory, name), name);
  const files = await readLoaders({ directory, arm64: join(directory, 'mine.efi') });
  t.equal(files.get('snponly-arm64.efi')?.toString(), 'mine.efi');
});

test('a missing package is named', async (t) => {
  const directory = join(tmpdir(), 'rs-there-is-no-such-directory');
  const error: unknown = await readLoaders({ directory }).catch((thrown: unknown) => thrown);
  t.ok(hasCode(error, 'host.missing'));
  t.match(String(error), /undionly\.kpxe.*package ipxe/);
});

function packageMissing(): string | false {
  return existsSync('/usr/lib/ipxe/undionly.kpxe') ? false : 'needs the Debian package ipxe';
}
