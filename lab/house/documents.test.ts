import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { test } from 'tap';
import { parse, stringify } from 'yaml';

import { createProgram } from '../../appliance/cli/program.ts';
import { parseConfig } from '../../appliance/config.ts';
import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { read, root } from './sources.ts';

const documents = ['README.md', 'ARCHITECTURE.md', 'SECURITY.md'];

test("the README's configuration is one that the daemon takes", (t) => {
  const [yaml = ''] = blocks('README.md', 'yaml');
  const config = parseConfig(yaml, '/etc/rackstart', {});
  t.match(config, {
    state: '/var/lib/rackstart',
    store: 'sqlite:/var/lib/rackstart/rackstart.db',
    provisioning: { device: 'eth1', address: '10.77.0.1', httpPort: 8080, httpsPort: 8443 },
  });
  t.same(config, parseConfig(withoutDefaults(yaml), '/etc/rackstart', {}), 'and what it shows as defaults are');
  t.end();
});

test('every command that the documents show exists, with the options they show', (t) => {
  const program = createProgram(context());
  const shown = documents.flatMap((document) => commandLines(read(document)));
  t.ok(shown.length > 15, `${shown.length} commands are shown`);
  t.same(
    shown.flatMap((line) => unknownIn(program, line).map((word) => `${word} in: ${line}`)),
    [],
  );
  t.end();
});

test('every npm script that the documents show exists', (t) => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const shown = documents.flatMap((document) =>
    [...read(document).matchAll(/npm run ([a-z:]+)/g)].map(([, name]) => name!),
  );
  t.same(
    shown.filter((name) => !(name in scripts)),
    [],
  );
  t.end();
});

test('every file that the documents link is there', (t) => {
  const broken = documents.flatMap((document) =>
    [...read(document).matchAll(/\]\((?!https?:)([^)#]+)/g)]
      .map(([, target]) => target!)
      .filter((target) => !existsSync(join(root, dirname(document), target)))
      .map((target) => `${document}: ${target}`),
  );
  t.same(broken, []);
  t.end();
});

function blocks(document: string, language: string): string[] {
  return [...read(document).matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, text]) => text!);
}

/** What must be said: all else in the example is what the daemon does anyway. */
function withoutDefaults(yaml: string): string {
  const { state, ramdisk, provisioning } = parse(yaml) as Record<string, unknown> & { provisioning: object[] };
  const required = ['device', 'address', 'prefix6'];
  const networks = provisioning.map((network) =>
    Object.fromEntries(Object.entries(network).filter(([name]) => required.includes(name))),
  );
  return stringify({ state, ramdisk, api: {}, provisioning: networks });
}

// In blocks, and in the text between backticks.
function commandLines(text: string): string[] {
  return [...text.matchAll(/(?:^|`)rackstart ([a-z][^`\n]*)/gm)].map(([, line]) => line!);
}

function unknownIn(program: Command, line: string): string[] {
  const words = line.split(' ');
  let command = program;
  while (words.length > 0) {
    const next = command.commands.find((one) => one.name() === words[0]);
    if (next === undefined) break;
    command = next;
    words.shift();
  }
  if (command === program) return [words[0] ?? ''];
  const isGroup = command.commands.length > 0;
  if (isGroup && words.length > 0) return [words[0]!];
  const known = command.options.map(({ long }) => long);
  return words.filter((word) => word.startsWith('--')).filter((word) => !known.includes(word));
}

function context(): Parameters<typeof createProgram>[0] {
  const nothing = { write: () => true };
  return {
    stdout: nothing,
    stderr: nothing,
    environment: {},
    clock: systemClock,
    ids: createIds(systemClock),
    signal: new AbortController().signal,
    loadConfig: () => Promise.reject(new Error('no configuration is read here')),
    serve: () => Promise.resolve(),
  };
}
