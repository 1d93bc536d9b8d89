import { chmodSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

// As nvme-cli 2.3 and hdparm 9.65 print them; the disks are made up.
const idController = (oacs: string, fna: string, sanicap = '0') => `NVME Identify Controller:
vid       : 0x1b36
sn        : RS0001
oacs      : ${oacs}
fna       : ${fna}
sanicap   : ${sanicap}
`;
const idNamespace = (flbas: string, dps: string) => `NVME Identify Namespace 1:
nsze    : 0x100000
flbas   : ${flbas}
dps     : ${dps}
`;
const sanitizeLog = (status: string) => `Sanitize Progress                      (SPROG) :  65535
Sanitize Status                        (SSTAT) :  ${status}
Sanitize Command Dword 10 Information (SCDW10) :  0x2
`;

const security = (...lines: string[]) => `/dev/sda:

ATA device, with non-removable media
Commands/features:
	Enabled	Supported:
	   *	SMART feature set
Security:
	Master password revision code = 65534
${lines.map((line) => `\t${line}\n`).join('')}	2min for SECURITY ERASE UNIT. 2min for ENHANCED SECURITY ERASE UNIT.
Logical Unit WWN Device Identifier: 5000000000000000
	not	frozen
`;

test('an NVMe disk that can be formatted is, by its key where it has one, and keeps its format', async (t) => {
  for (const [controller, namespace, options, method] of [
    [idController('0x17', '0x4'), idNamespace('0', '0'), '--lbaf=0 --ms=0 --pi=0 --pil=0', 'nvme-format-crypto'],
    [idController('0x17', '0'), idNamespace('0', '0'), '--lbaf=0 --ms=0 --pi=0 --pil=0', 'nvme-format'],
    [idController('0x2', '0x3'), idNamespace('0x31', '0x9'), '--lbaf=17 --ms=1 --pi=1 --pil=1', 'nvme-format'],
  ] as const) {
    const { erase, asked } = nvme(t, { 'id-ctrl': controller, 'id-ns': namespace, format: '' });
    t.equal(await erase(), `${method}\n`);
    const ses = method === 'nvme-format-crypto' ? 2 : 1;
    t.match(asked(), `format /dev/nvme0n1 ${options} --force --timeout=86400000 --ses=${ses}\n`);
  }
});

test('a disk whose key cannot be thrown away is formatted all the same', async (t) => {
  const { erase, asked } = nvme(
    t,
    { 'id-ctrl': idController('0x2', '0x4'), 'id-ns': idNamespace('0', '0') },
    '--ses=1',
  );
  t.equal(await erase(), 'nvme-format\n');
  t.match(asked(), /--ses=2\n.*--ses=1\n/s);
});

test('an NVMe disk that can only be sanitized is, and it is waited for', async (t) => {
  for (const [sanicap, action, method] of [
    ['0x3', 2, 'nvme-sanitize-block'],
    ['0xa0000002', 2, 'nvme-sanitize-block'],
    ['0x1', 4, 'nvme-sanitize-crypto'],
  ] as const) {
    const { erase, asked } = nvme(t, {
      ...{ 'id-ctrl': idController('0', '0', sanicap), sanitize: '' },
      'sanitize-log': [sanitizeLog('0x2'), sanitizeLog('0x2'), sanitizeLog('0x101')],
    });
    t.equal(await erase(), `${method}\n`);
    t.match(asked(), `sanitize /dev/nvme0n1 --sanact=${action}\n`);
    t.equal(asked().match(/sanitize-log/g)?.length, 3);
  }
  const failed = nvme(t, {
    ...{ 'id-ctrl': idController('0', '0', '0x2'), sanitize: '' },
    'sanitize-log': [sanitizeLog('0x2'), sanitizeLog('0x3')],
  });
  t.equal(await failed.erase(), 'none\n', 'one that fails is no erased disk');
});

test('an NVMe disk that can do neither, or does not answer, does not count as erased', async (t) => {
  t.equal(await nvme(t, { 'id-ctrl': idController('0', '0') }).erase(), 'none\n');
  t.equal(await nvme(t, {}).erase(), 'none\n');
  const odd = { 'id-ctrl': idController('$(touch x)', '0x', '0xzz') };
  t.equal(await nvme(t, odd).erase(), 'none\n', 'nor one that says what is no number');
});

test('an ATA disk is erased in the way that leaves zeros, and an SSD with its spare blocks', async (t) => {
  const able = security('\tsupported', 'not\tenabled', 'not\tlocked', 'not\tfrozen', '\tsupported: enhanced erase');
  for (const [type, kind] of [
    ['hdd', 'erase'],
    ['ssd', 'erase-enhanced'],
  ] as const) {
    const { erase, asked } = ata(t, able, type);
    t.equal(await erase(), `ata-${kind}\n`);
    t.equal(
      asked(),
      `-I /dev/sda\n--user-master u --security-set-pass rackstart /dev/sda\n--user-master u --security-${kind} rackstart /dev/sda\n`,
    );
  }
  const plain = security('\tsupported', 'not\tenabled', 'not\tlocked', 'not\tfrozen', 'not\tsupported: enhanced erase');
  t.equal(await ata(t, plain, 'ssd').erase(), 'ata-erase\n');
});

test('a frozen disk is not told to erase itself, nor one that has no such command', async (t) => {
  const frozen = security('\tsupported', 'not\tenabled', 'not\tlocked', '\tfrozen', 'not\tsupported: enhanced erase');
  const { erase, asked } = ata(t, frozen, 'ssd');
  t.equal(await erase(), '/dev/sda is frozen by the firmware and takes no erase command\nnone\n');
  t.equal(asked(), '-I /dev/sda\n');
  t.equal(await ata(t, security('not\tsupported'), 'ssd').erase(), 'none\n');
  t.equal(await ata(t, '', 'ssd').erase(), 'none\n', 'a virtual disk says nothing of it');
});

test('an erase that was cut short goes on under the password it began with, and one that fails unlocks the disk', async (t) => {
  const begun = security('\tsupported', '\tenabled', '\tlocked', 'not\tfrozen', 'not\tsupported: enhanced erase');
  const again = ata(t, begun, 'hdd');
  t.equal(await again.erase(), 'ata-erase\n');
  t.notMatch(again.asked(), 'set-pass');
  const broken = ata(t, begun, 'hdd', '--security-erase');
  t.equal(await broken.erase(), 'none\n');
  t.match(broken.asked(), /--security-disable rackstart \/dev\/sda\n$/);
});

interface Disk {
  erase: () => Promise<string>;
  asked: () => string;
}

// The n-th answer to the n-th question, the last from then on; a subcommand without one fails, and so does a call without `only`.
function nvme(t: Test, answers: Readonly<Record<string, string | readonly string[]>>, only = ''): Disk {
  const ramdisk = fakeRamdisk(t);
  for (const [command, said] of Object.entries(answers)) {
    [said].flat().forEach((each, index) => ramdisk.put(`run/said/${command}.${index}`, each));
  }
  const format = only === '' ? '' : `case $* in format*${only}*) exit 0 ;; esac\n`;
  return disk(
    ramdisk,
    'nvme',
    '/dev/nvme0n1',
    `${format}touch "$RUN/said/$1.count"
    count=$(wc -c <"$RUN/said/$1.count"); printf x >>"$RUN/said/$1.count"
    while [ "$count" -gt 0 ] && [ ! -e "$RUN/said/$1.$count" ]; do count=$((count - 1)); done
    exec cat "$RUN/said/$1.$count"`,
  );
}

function ata(t: Test, identity: string, type: 'hdd' | 'ssd', fails = 'nothing'): Disk {
  const ramdisk = fakeRamdisk(t);
  ramdisk.put('run/identity', identity);
  ramdisk.put('sys/block/sda/queue/rotational', type === 'hdd' ? '1\n' : '0\n');
  return disk(
    ramdisk,
    'hdparm',
    '/dev/sda',
    `case $* in
    *${fails}*) exit 1 ;;
    -I*) [ -s "$RUN/identity" ] && exec cat "$RUN/identity"; exit 1 ;;
    esac`,
  );
}

function disk(ramdisk: FakeRamdisk, program: string, device: string, script: string): Disk {
  ramdisk.put(`bin/${program}`, `#!/bin/sh\necho "$*" >>"$RUN/asked"\n${script}\n`);
  chmodSync(ramdisk.path(`bin/${program}`), 0o755);
  ramdisk.put('run/asked', '');
  const quietly = 'progress() { :; }; cut_off() { return 1; }; say() { echo "$*"; }';
  return {
    erase: () => ramdisk.shell(`${quietly}; if erase_itself ${device}; then echo "$method"; else echo none; fi`),
    asked: () => ramdisk.read('run/asked'),
  };
}
