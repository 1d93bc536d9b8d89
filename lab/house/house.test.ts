import { test } from 'tap';

import { projectFiles, read } from './sources.ts';

const binary = /\.(png|jpe?g|gz|zst|pcap|ico)$/;
const files = projectFiles().filter((file) => !binary.test(file));
// The rules name what they forbid.
const ruled = files.filter((file) => !file.startsWith('lab/house/') && file !== 'package-lock.json');

test('no file of code is longer than 400 lines, comments and empty lines left out', (t) => {
  t.match(read('eslint.config.js'), `'max-lines': ['error', { max: 400, skipComments: true, skipBlankLines: true }]`);
  t.same(
    files.filter((file) => /\.(ts|sh)$/.test(file) && codeLines(read(file)) > 400),
    [],
  );
  t.end();
});

test('nothing is left for later in the code', (t) => {
  t.same(matching(/(\/\/|\/?\*|^\s*#) *(TODO|FIXME)\b/m), []);
  t.end();
});

test('no file names the host of a package registry', (t) => {
  t.same(matching(/registry\.npmjs\.org|registry\.yarnpkg\.com|npmjs\.com|(deb|ftp|security)\.debian\.org/), []);
  t.end();
});

test('no file holds a path of the machine that it was written on', (t) => {
  // A quote, a blank or a bracket before it: the path is absolute.
  t.same(matching(/(^|[\s'"`(=:])\/(work|home|Users)\/[a-z]/m), []);
  t.end();
});

test('the lock file pins what is installed and holds no address', (t) => {
  const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, { resolved?: string }> };
  t.same(
    Object.entries(lock.packages).filter(([, { resolved }]) => resolved !== undefined),
    [],
  );
  t.match(read('.npmrc'), 'omit-lockfile-registry-resolved=true', 'npm leaves them out');
  t.end();
});

test('package.json names exact versions', (t) => {
  const { dependencies, devDependencies, optionalDependencies } = JSON.parse(read('package.json')) as Manifest;
  const versions = Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies });
  t.ok(versions.length > 20);
  t.same(
    versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version)),
    [],
  );
  t.end();
});

test('the licence is the one that package.json names', (t) => {
  const { license } = JSON.parse(read('package.json')) as Manifest;
  t.equal(license, 'Apache-2.0');
  t.match(read('LICENSE'), /Apache License\s+Version 2\.0, January 2004[\s\S]*END OF TERMS AND CONDITIONS/);
  t.end();
});

interface Manifest {
  readonly license: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
}

function matching(pattern: RegExp): string[] {
  return ruled.filter((file) => pattern.test(read(file)));
}

// A line that holds nothing, or nothing but a comment.
function codeLines(text: string): number {
  return text.split('\n').filter((line) => !/^\s*($|\/\/|\/\*|\*|#)/.test(line)).length;
}
