import { execFile } from 'node:child_process';
import { createSecretKey } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import type { Test } from 'tap';

import { until } from '../../lab/process/until.ts';
import type { TimelineEntry } from '../../pxe/timeline.ts';
import { deriveToken } from '../../pxe/http/token.ts';
import { requestBytes } from '../../pxe/dhcp/golden.fixture.ts';
import { FIRST, twoMachines } from '../../pxe/timeline.fixture.ts';
import { StoreTimeline } from '../../pxe/timeline-records.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { bootBundle, bundleFiles } from './boot-bundle.ts';
import { viewBoot } from './boot-history.ts';

const run = promisify(execFile);
const key = createSecretKey(Buffer.alloc(32, 7));
const ids = createIds(new ManualClock());
const claimToken = deriveToken(key, 'claim', { id: 's2', generation: 2 }).reveal();
const bearer = deriveToken(key, 'bearer', { id: ids.next('boot'), generation: 2, nonce: 'n' }).reveal();
const credential = deriveToken(key, 'agent', { id: ids.next('att'), generation: 2 }).reveal();
const password = 'correct-horse-13';
const apiKey = `rackstart_${'5ecre7'.repeat(6)}abcd`;
const hostKey = 'b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW';
const secrets = { claimToken, bearer, credential, password, apiKey, hostKey };

// Places where nothing of the kind should ever stand: somebody else's mistake must not be in what operators hand round.
const careless: readonly TimelineEntry[] = [
  { at: 210, source: 'bmc', name: 'Open Session', detail: { cmd: 56, netFn: 6, error: 'bmc.auth', password } },
  {
    at: 211,
    source: 'bmc',
    name: 'Chassis Control (hard reset)',
    detail: { netFn: 0, cmd: 2, completionCode: 0, elapsedMs: 4 },
  },
  {
    ...{ at: 220, source: 'dhcp', name: 'request', detail: { boot: 'script' } },
    packet: {
      ...{ from: '10.77.0.1:67', to: '255.255.255.255:68' },
      bytes: requestBytes('request', 'ipxeEfi', { options: { 67: hex(`http://10.77.0.1/boot?token=${claimToken}`) } }),
    },
  },
  {
    at: 230,
    source: 'http',
    name: 'script',
    detail: { url: `/boot/52-54-00-77-00-01?token=${claimToken}`, status: 200 },
  },
  {
    at: 240,
    source: 'console',
    name: 'output',
    detail: { text: `Command line: rackstart.token=${claimToken} quiet\n` },
  },
  { at: 241, source: 'console', name: 'output', detail: { text: 'Linux starts\n', dropped: 7, lost: true } },
  { at: 242, source: 'console', name: 'given-up', detail: { code: 'bmc.busy' } },
  { at: 250, source: 'ramdisk', name: 'image-failed', detail: { reason: `curl: Authorization: Bearer ${bearer}` } },
  {
    ...{ at: 251, source: 'ramdisk', name: 'log' },
    detail: {
      text:
        `${'+ curl -H @/run/header\n'.repeat(5_000)}Authorization: Bearer ${bearer}\nkey ${apiKey}\n` +
        `-----BEGIN OPENSSH PRIVATE KEY-----\n${hostKey}\n-----END OPENSSH PRIVATE KEY-----\nthe image is broken\n`,
    },
  },
  {
    at: 260,
    source: 'agent',
    name: 'phone-home',
    detail: { header: `Bearer ${credential}`, said: credential, uptime: 4 },
  },
];

eachStore('a bundle holds what was seen of its boot and of no other, each where the README says', async (t, store) => {
  await boot(store, [...careless, { at: 150, source: 'dhcp', name: 'of the boot before', detail: {} }]);
  const { names, read, directory } = await unpacked(t, store);
  t.strictSame(names, Object.keys(bundleFiles).sort());
  for (const name of names) t.match(read('README.txt'), name);
  t.match(JSON.parse(read('boot.json')), {
    session: 's2',
    machine: { id: 'm1', name: 'm1' },
    order: { verb: 'inspect', generation: 2 },
    state: 'opened',
    openedAt: '1970-01-01T00:00:00.200Z',
    endedAt: null,
    stages: [{ name: 'power', startedAt: '1970-01-01T00:00:00.200Z' }, { name: 'dhcp' }],
  });
  const lines = read('timeline.jsonl')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { at: string; name: string });
  t.strictSame(
    lines.map(({ name }) => name),
    careless.map(({ name }) => name),
  );
  t.match(
    lines[2],
    { at: '1970-01-01T00:00:00.220Z', packet: { from: '10.77.0.1:67', bytes: Number } },
    'which one it is',
  );
  const bmc = read('bmc.jsonl')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  t.match(bmc[1], { command: 'Chassis Control (hard reset)', completionCode: 0, elapsedMs: 4 });
  t.match(
    read('console.log'),
    /quiet\n\n\[something is missing here\]\n\n\[7 characters were left out[^\n]+\nLinux starts\n/,
  );
  t.match(read('console.log'), '[given-up {"code":"bmc.busy"}]');
  t.match(read('ramdisk.log'), /^\+ curl[\s\S]*the image is broken\n$/);
  t.match(read('agent.log'), /^1970-01-01T00:00:00\.260Z phone-home \{.*"uptime":4/);
  if (existsSync('/usr/bin/tshark')) {
    const argv = [
      '-r',
      join(directory, 'packets.pcap'),
      '-T',
      'fields',
      '-e',
      'dhcp.option.dhcp',
      '-e',
      'frame.time_epoch',
    ];
    t.equal((await run('tshark', argv)).stdout, '3\t0.220000000\n');
  }
});

sqliteStore('no secret is in a bundle, whoever was careless with it', async (t, store) => {
  await boot(store, careless);
  const { names, directory } = await unpacked(t, store);
  for (const [name, secret] of Object.entries(secrets)) {
    // The half of a token that is enough to guess the rest of it from is too much as well.
    const part = secret.slice(-16);
    const holders = names.filter((file) => readFileSync(join(directory, file)).includes(part));
    t.strictSame(holders, [], name);
  }
  const raw = JSON.stringify(await store.read.selectFrom('timeline').select(['detail', 'packet']).execute());
  t.match(raw, claimToken, 'it was there to be found');
});

sqliteStore('what was gathered is gone when nobody takes the bundle to its end', async (t, store) => {
  await boot(store, careless);
  const before = leftOver();
  const stream = await bootBundle(store.read, await viewBoot(store.read, 's2'), { at: 300, log: silentLog });
  const gathered = leftOver().filter((name) => !before.includes(name));
  t.not(gathered.length, 0);
  stream.destroy();
  await until('the directory to go', 15_000, () => !leftOver().some((name) => gathered.includes(name)));
});

async function boot(store: Store, entries: readonly TimelineEntry[]): Promise<void> {
  await twoMachines(store);
  const clock = new ManualClock(0);
  const timeline = new StoreTimeline({ store, clock, ids: createIds(clock), log: silentLog });
  for (const entry of entries.filter(({ name }) => name !== 'log')) timeline.seen(FIRST, entry);
  await timeline.run(AbortSignal.abort());
  const log = entries.find(({ name }) => name === 'log')!; // which the director writes, however long it is
  const row = { id: 'log_s2', machine_id: 'm1', session_id: 's2', at: log.at, source: 'ramdisk', name: 'log' } as const;
  const detail = JSON.stringify(log.detail);
  await store.transaction((tx) =>
    tx
      .insertInto('timeline')
      .values({ ...row, detail })
      .execute(),
  );
}

async function unpacked(t: Test, store: Store) {
  const directory = await mkdtemp(join(tmpdir(), 'rs-bundle-test-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const whole = await buffer(
    await bootBundle(store.read, await viewBoot(store.read, 's2'), { at: 300, log: silentLog }),
  );
  await writeFile(join(directory, 'bundle.tar.gz'), whole);
  await run('tar', ['-xzf', join(directory, 'bundle.tar.gz'), '-C', directory]);
  const inside = join(directory, 's2');
  const read = (name: string) => readFileSync(join(inside, name), 'utf8');
  return { names: readdirSync(inside).sort(), read, directory: inside };
}

function leftOver(): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith('rackstart-bundle-'));
}

function hex(text: string): string {
  return Buffer.from(text).toString('hex');
}
