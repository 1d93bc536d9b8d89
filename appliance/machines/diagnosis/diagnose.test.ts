import { test } from 'tap';

import { MINUTE, SECOND } from '../../kernel/clock.ts';
import type { Cause } from './causes.ts';
import { causes } from './causes.ts';
import { diagnose, rules } from './diagnose.ts';
import type { BootEvidence } from './evidence.ts';
import { boot, doneBoot, entry, OPENED, OTHER_UUID, print, UUID } from './evidence.fixture.ts';
import { hops } from './hops.ts';

const failed = (code: string, message = 'What our step says.', details = {}) => ({
  failure: { code, message, details },
});
const stage = (name: string, code: string, reason: string) => ({
  state: 'failed' as const,
  endReason: `${name}: ${code}: ${reason}`,
});
const rom = { kind: 'pxe-rom', architecture: 7, uuid: UUID };
const unreachable = entry(3, 'bmc', 'Get Chassis Status', { error: 'bmc.unreachable' });
const answered = entry(0.1, 'bmc', 'Get Chassis Status', { completionCode: 0, answer: '200040' });
const foreign = { server: '10.0.0.9', serverMac: '02:00:00:00:00:09' };
const noDisk = (least: number, ...found: number[]) =>
  `for root must match 1 disk, and 0 do: size ${least}..any, type any, serial any; found: ` +
  found.map((bytes) => `sda (${bytes} bytes, ssd, serial 1); `).join('');

/** Evidence for each cause that diagnosis knows. */
const cases: readonly [Cause, BootEvidence, RegExp?][] = [
  [
    'bmc-credentials',
    boot('bmc', {
      ...failed('bmc.auth', '', { bmc: '10.0.0.1:623' }),
      seen: [entry(1, 'bmc', 'Open Session', { error: 'bmc.auth' })],
    }),
    /at 10\.0\.0\.1:623/,
  ],
  ['management-network', boot('bmc', failed('provider.circuit-open'))],
  ['bmc-silent', boot('bmc', { ...failed('bmc.unreachable'), seen: [unreachable] }), /not answered a single message/],
  [
    'bmc-hung',
    boot('bmc', { ...failed('bmc.unreachable'), seen: [answered, unreachable] }),
    /answered 1 command and then fell silent/,
  ],
  [
    'bmc-privilege',
    boot('bmc', {
      ...failed('bmc.refused'),
      seen: [entry(1, 'bmc', 'Chassis Control (power up)', { completionCode: 0xd4, error: 'bmc.refused' })],
    }),
  ],
  [
    'bmc-drops-boot-flag',
    boot('bmc', {
      ...failed('bmc.lied'),
      seen: [
        entry(1, 'bmc', 'Set System Boot Options (pxe once)', { completionCode: 0 }),
        entry(2, 'bmc', 'Get System Boot Options', { completionCode: 0, answer: '01050000000000' }),
      ],
    }),
  ],
  [
    'power-stays-off',
    boot('bmc', {
      ...failed('bmc.lied'),
      seen: [
        entry(1, 'bmc', 'Chassis Control (power up)', { completionCode: 0 }),
        entry(2, 'bmc', 'Get Chassis Status', { completionCode: 0, answer: '200040' }),
        entry(20, 'bmc', 'Get Chassis Status', { completionCode: 0, answer: '200040' }),
      ],
    }),
    /in 2 readings since/,
  ],
  [
    'hardware-fault',
    boot('work', {
      seen: [
        entry(22, 'bmc', 'hardware-fault', { part: 'memory', event: 'Uncorrectable ECC', record: 12, sensor: 0x41 }),
      ],
    }),
    /fault of the memory in this boot: Uncorrectable ECC/,
  ],
  ['bmc-power-unsteady', boot('bmc', failed('bmc.power-unknown'))],
  ['no-link', boot('firmware', { console: [print(20, 'PXE-E61: Media test failure, check cable\n')] })],
  ['boot-order', boot('firmware', { console: [print(20, 'Booting from Hard Disk...\n')] })],
  [
    'post-halted',
    boot('firmware', { console: [print(20, 'Uncorrectable memory error in DIMM A2\nPress F1 to continue\n')] }),
  ],
  [
    'relay-refused',
    boot('dhcp', {
      seen: [
        entry(5, 'dhcp', 'relay-refused', {
          relay: '10.9.9.1',
          from: '10.9.9.1',
          reason: 'it is not listed in the configuration',
        }),
      ],
    }),
    /10\.9\.9\.1, which we do not believe: it is not listed/,
  ],
  [
    'duplicate-mac',
    boot('loader', {
      seen: [entry(30, 'dhcp', 'discover', { ...rom, uuid: OTHER_UUID }), entry(60, 'tftp', 'lost', { bytes: 100 })],
    }),
  ],
  [
    'machine-swapped',
    boot('firmware', {
      seen: [
        entry(11, 'dhcp', 'discover', { ...rom, uuid: OTHER_UUID }),
        entry(11.1, 'dhcp', 'offer', { decision: 'ignore', why: 'another SMBIOS UUID than the one inspected' }),
      ],
    }),
  ],
  [
    'wrong-switch-port',
    boot('dhcp', {
      seen: [
        entry(11, 'dhcp', 'offer', {
          decision: 'ignore',
          why: 'the relay names the switch port sw/1, the inventory sw/2',
        }),
      ],
    }),
  ],
  [
    'foreign-dhcp-server',
    boot('dhcp', {
      seen: [
        entry(10.1, 'dhcp', 'offer', { decision: 'install', boot: 'x' }),
        entry(10.2, 'dhcp', 'foreign-offer', foreign),
        entry(11, 'dhcp', 'foreign-chosen', foreign),
      ],
    }),
    /took what 10\.0\.0\.9 \(MAC 02:00:00:00:00:09\) offered/,
  ],
  [
    'loader-missing',
    boot('dhcp', {
      seen: [
        entry(10.1, 'dhcp', 'discover', { kind: 'pxe-rom', architecture: 11 }),
        entry(10.2, 'dhcp', 'ack', { decision: 'install' }),
      ],
    }),
    /\(11, RFC 4578\)/,
  ],
  [
    'address-in-use',
    boot('loader', { seen: [entry(10.5, 'dhcp', 'decline', { requested: '10.77.0.11' })] }),
    /gave 10\.77\.0\.11 back/,
  ],
  [
    'address-refused',
    boot('dhcp', {
      seen: [entry(11, 'dhcp', 'nak', { address: '10.99.0.1', why: 'that address is of another network' })],
    }),
  ],
  [
    'offers-not-heard',
    boot('dhcp', {
      seen: [10.1, 14, 18].flatMap((at) => [
        entry(at, 'dhcp', 'discover', rom),
        entry(at + 0.1, 'dhcp', 'offer', { decision: 'install', boot: 'x' }),
      ]),
    }),
  ],
  ['tftp-blocked', boot('loader'), /its request never came/],
  [
    'tftp-cut',
    boot('loader', {
      seen: [
        entry(11, 'tftp', 'started'),
        entry(30, 'tftp', 'lost', { bytes: 14_320, reason: 'the client fell silent' }),
      ],
    }),
    /after 14320 bytes/,
  ],
  ['tftp-refused', boot('loader', { seen: [entry(11, 'tftp', 'refused', { reason: 'no such file' })] })],
  ['loader-hangs', boot('loader', { seen: [entry(11, 'tftp', 'done', { bytes: 1 })] })],
  ['http-blocked', boot('script')],
  [
    'boot-window-closed',
    boot('script', { windowUntil: OPENED + MINUTE, seen: [entry(75, 'http', 'script-refused', { status: 403 })] }),
    /came 75 s after .* good for 60 s/,
  ],
  ['script-refused', boot('script', { seen: [entry(20, 'http', 'script-refused', { status: 403 })] })],
  [
    'ramdisk-cut',
    boot('ramdisk', {
      seen: [entry(15, 'http', 'kernel', { bytes: 9 }), entry(16, 'http', 'initrd', { cut: true, bytes: 4096 })],
    }),
    /initrd broke off 1 times/,
  ],
  ['ramdisk-not-fetched', boot('ramdisk')],
  [
    'ramdisk-panic',
    boot('claim', { console: [print(18, 'Kernel panic - not syncing: VFS: Unable to mount root fs\n')] }),
  ],
  ['ramdisk-panic', boot('work', { console: [print(28, 'Kernel panic - not syncing: Fatal machine check\n')] })],
  [
    'ramdisk-network',
    boot('claim', { console: [print(80, 'rackstart    78.10  network FAILED  no link on eth0 within 60 s\n')] }),
  ],
  ['clock-off', boot('claim', { seen: [entry(20, 'http', 'tls-refused', { alert: 'bad certificate' })] })],
  ['ca-unknown', boot('claim', { seen: [entry(20, 'http', 'tls-refused', { alert: 'unknown ca' })] })],
  [
    'machine-swapped',
    boot('claim', { seen: [entry(20, 'http', 'claim-refused', { status: 403, code: 'boot.mismatch' })] }),
  ],
  ['ramdisk-version', boot('claim', { seen: [entry(20, 'http', 'claim-refused', { status: 426 })] })],
  ['second-claimant', boot('work', { endReason: 'cut-off', ...failed('boot.claim-conflict') })],
  [
    'image-chunk-altered',
    boot('work', stage('image', 'image.altered', "the image's chunk at byte 0 came 3 times with another content")),
  ],
  ['image-map-altered', boot('work', stage('image', 'image.digest', 'the map has another SHA-256'))],
  [
    'image-not-arriving',
    boot('work', stage('image', 'boot.stage-failed', 'the image did not arrive: connect ECONNREFUSED')),
  ],
  ['image-unfit', boot('work', stage('kexec', 'image.invalid', 'the image has no kernel in /boot'))],
  [
    'disk-io-errors',
    boot('work', stage('image', 'boot.stage-failed', 'writing to /dev/sda failed: Input/output error')),
  ],
  [
    'disk-io-errors',
    boot('work', {
      ...stage('wipe', 'boot.stage-failed', 'it was killed by signal 9'),
      log: 'x\nblk_update_request: critical medium error, dev sda, sector 8\n',
    }),
    /I\/O errors/,
  ],
  ['disk-too-small', boot('work', stage('disk', 'boot.disk-rule', noDisk(500, 100, 200)))],
  ['disk-missing', boot('work', stage('disk', 'boot.disk-rule', noDisk(500)))],
  ['disk-missing', boot('work', stage('disk', 'boot.disk-rule', noDisk(500, 900)))],
  ['disk-ambiguous', boot('work', stage('disk', 'boot.disk-rule', noDisk(500, 900, 900).replace('0 do', '2 do')))],
  [
    'machine-hung',
    boot('work', {
      seen: [
        entry(25, 'dhcp', 'discover', rom),
        entry(80, 'bmc', 'watchdog', { stoodStill: true, fired: true, unfedMs: 0 }),
      ],
    }),
    /stood still in its work.*the BMC has reset it/,
  ],
  ['machine-restarted', boot('work', { seen: [entry(25, 'dhcp', 'discover', rom)] })],
  ['machine-restarted', boot('system', { seen: [entry(35, 'dhcp', 'discover', rom)] })],
  ['kexec-failed', boot('work', stage('kexec', 'boot.stage-failed', 'kexec_load failed: Operation not permitted'))],
  [
    'system-panic',
    boot('system', { console: [print(18, 'ramdisk\n'), print(33, 'Gave up waiting for root device.\n')] }),
  ],
  ['kexec-hang', boot('system', { console: [print(28, 'kexec ...\n')] })],
  [
    'system-network',
    boot('system', {
      console: [print(28, 'kexec ...\n'), print(36, 'Debian GNU/Linux 12 web-1 ttyS0\n\nweb-1 login: \n')],
    }),
  ],
  ['ssh-closed', boot('ssh', failed('ssh.unreachable', 'SSH does not answer.', { errno: 'ECONNREFUSED' }))],
  ['ssh-filtered', boot('ssh', failed('ssh.unreachable', 'SSH does not answer.'))],
  ['ssh-key-refused', boot('ssh', failed('ssh.key-refused'))],
  ['address-taken', boot('system', failed('ssh.host-key'))],
];

// What our own step met is all that there is; it is told as the failure.
const withoutLines: ReadonlySet<Cause> = new Set(['bmc-power-unsteady', 'second-claimant']);

test('each cause is found from its own evidence, with a remedy and what it stands on', (t) => {
  for (const [cause, evidence, sentence = /\w/] of cases) {
    const { verdict, findings, summary } = diagnose(evidence);
    const [first] = findings;
    t.equal(first?.cause, cause, `${cause}: ${verdict}, ${summary}`);
    t.match(first?.sentence, sentence, cause);
    t.equal(first?.remedy, causes[cause].remedy);
    if (!withoutLines.has(cause)) t.ok((first?.evidence.length ?? 0) > 0, `${cause} stands on evidence`);
  }
  t.end();
});

test('there is a case for each cause, and a rule for each', (t) => {
  const known = Object.keys(causes).sort();
  t.strictSame([...new Set(cases.map(([cause]) => cause))].sort(), known);
  t.strictSame([...new Set(rules.map(({ cause }) => cause))].sort(), known);
  t.end();
});

test('a boot that did what it should has no findings, whatever was seen on the way', (t) => {
  const bumpy = [
    entry(2, 'bmc', 'Get Chassis Status', { error: 'bmc.unreachable' }),
    entry(9, 'dhcp', 'foreign-offer', foreign),
    entry(11, 'tftp', 'lost', { bytes: 12 }),
    entry(16, 'http', 'initrd', { cut: true, bytes: 12 }),
    entry(20, 'http', 'tls-refused', { alert: 'bad certificate' }),
  ];
  const done = doneBoot();
  t.match(diagnose(done), { verdict: 'healthy', hop: null, findings: [] });
  t.match(diagnose({ ...done, seen: [...done.seen, ...bumpy] }), { verdict: 'healthy', findings: [] });
  t.end();
});

test('while a machine may still come nothing is said; silent for longer than any self-test, it is', (t) => {
  for (const hop of hops) {
    const live = { ...boot(hop), failure: undefined };
    const last = Math.max(live.seen.at(-1)?.at ?? 0, live.openedAt);
    t.match(diagnose({ ...live, at: last + 60 * SECOND }), { verdict: 'under-way', hop, findings: [] }, hop);
    t.not(diagnose({ ...live, at: last + 4 * MINUTE }).verdict, 'under-way', hop);
  }
  t.end();
});

test('a boot that was given up as late stands where it was', (t) => {
  for (const hop of hops) {
    const live = boot(hop);
    const late = {
      ...live,
      state: 'failed' as const,
      endReason: 'late: Machine m1 stands still in stage boot for 9.0 s.',
    };
    t.equal(diagnose(late).hop, diagnose(live).hop, hop);
  }
  t.end();
});

test('a boot that somebody ended is not held against the machine', (t) => {
  const revoked = { ...boot('loader'), failure: undefined, endedAt: OPENED + MINUTE, endReason: 'revoked' };
  t.match(diagnose(revoked), { verdict: 'ended', findings: [] });
  t.match(diagnose({ ...boot('loader'), ...failed('cancelled') }), { verdict: 'ended', findings: [] });
  t.end();
});

test('what contradicts itself is settled by the earliest break; what was passed is not blamed', (t) => {
  const twice = boot('loader', {
    seen: [
      entry(10.5, 'dhcp', 'decline', { requested: '10.77.0.11' }),
      entry(10.6, 'dhcp', 'foreign-offer', foreign),
      entry(11, 'tftp', 'started'),
      entry(30, 'tftp', 'lost', { bytes: 1 }),
    ],
  });
  t.strictSame(
    diagnose(twice).findings.map(({ cause }) => cause),
    ['address-in-use', 'tftp-cut'],
    'an address that two have breaks the transfer; a foreign offer that was not taken does not',
  );
  const bmc = boot('work', { ...failed('bmc.unreachable'), seen: [unreachable] });
  t.match(
    diagnose(bmc),
    { hop: 'bmc', findings: [{ cause: 'bmc-hung' }] },
    'a BMC may fall silent in a boot that came far',
  );
  t.end();
});

test('without evidence it says so, and which would have told', (t) => {
  const { verdict, hop, summary, missing } = diagnose({ ...boot('firmware'), listened: 'absent' });
  t.match({ verdict, hop }, { verdict: 'unknown', hop: 'firmware' });
  t.match(summary, /^Nothing that was seen says why: it broke at the firmware.*Chassis Status/);
  t.match(missing, [/serial-over-LAN/, /event log/]);
  const read = diagnose(boot('firmware', { seen: [entry(60, 'bmc', 'event-log-read', { faults: 0 })] }));
  t.match(read, { verdict: 'unknown', missing: [/console/, /^the screen/] });
  const mute = diagnose(boot('system'));
  t.match(
    mute,
    { verdict: 'unknown', missing: [/nothing came from its serial console/] },
    'a kexec that hangs looks like this too',
  );
  const odd = diagnose(boot('work', stage('grow', 'boot.stage-failed', 'resize2fs: what is this')));
  t.match(odd, { verdict: 'unknown', missing: [/console/, /log/] });
  t.match(odd.summary, 'The ramdisk said of its stage grow: “resize2fs: what is this”');
  t.end();
});

test('a BMC that answered just before, at the first try of this boot, has fallen silent since', (t) => {
  const second = boot('bmc', { ...failed('bmc.unreachable'), seen: [unreachable] });
  t.match(diagnose({ ...second, bmcBefore: [answered] }), { findings: [{ cause: 'bmc-hung' }] });
  t.match(diagnose(second), { findings: [{ cause: 'bmc-silent' }] });
  t.end();
});

test('UUIDs that firmware writes in another byte order are of one machine', (t) => {
  const swapped = '11111111-2222-3343-8444-555555555555';
  const evidence = boot('loader', { seen: [entry(13, 'dhcp', 'request', { ...rom, uuid: swapped })] });
  t.notOk(diagnose(evidence).findings.some(({ cause }) => cause === 'duplicate-mac'));
  t.end();
});

test("strangers' words are quoted, short, on one line, and without secrets", (t) => {
  const token = 'rackstart.token=q7Jx0_Zt-4kLw8sVb2NfYcR9mHdGpTuE1oXiQa6K5eA';
  const hostile = `Kernel panic - not syncing: \u001b[2J${token} ${'A'.repeat(50_000)}`;
  const [finding] = diagnose(boot('claim', { console: [print(18, hostile)] })).findings;
  const [line = ''] = finding?.evidence ?? [];
  t.match(line, /^“Kernel panic - not syncing: .*…”$/);
  t.ok(line.length < 200);
  t.notMatch(line, /[\p{Cc}]|q7Jx0/u);
  const forged = boot('work', stage('image', 'image.altered', 'x\n12:00:00.000 bmc all is well'));
  t.notMatch(diagnose(forged).findings[0]?.evidence.join('|'), '\n');
  t.end();
});
