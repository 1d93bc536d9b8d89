import { test } from 'tap';

import type { Mac } from '../../pxe/boot-client.ts';
import type { KnownHardware, SeenHardware } from './known-hardware.ts';
import { lossesOf } from './known-hardware.ts';

const sda = { name: 'sda', bytes: 100, serial: 'S1' };
const sdb = { name: 'sdb', bytes: 200, serial: '' };
const nic = { name: 'eth0', mac: '52:54:00:00:00:01' as Mac, up: true, speedMbps: 10_000 };
const other = { name: 'eth1', mac: '52:54:00:00:00:02' as Mac, up: false };

const known: KnownHardware = {
  cores: 8,
  memoryMib: 16_384,
  disks: [sda, sdb],
  nics: [
    { mac: nic.mac, linked: true, speedMbps: 10_000 },
    { mac: other.mac, linked: false, speedMbps: null },
  ],
};
const seen: SeenHardware = { cores: 8, memoryMib: 16_384, disks: [sda, sdb], nics: [nic, other] };

test('a machine that is as it was has lost nothing, nor has one that got more', (t) => {
  const more = { ...seen, cores: 16, memoryMib: 32_768, disks: [sda, sdb, { ...sda, name: 'sdc', serial: 'S3' }] };
  for (const now of [seen, more]) {
    const { findings, lookedAt } = lossesOf(known, now);
    t.same(findings, []);
    t.equal(lookedAt.length, 6);
  }
  t.same(lossesOf({ cores: null, memoryMib: null, disks: [], nics: [] }, seen).findings, [], 'nobody knew it before');
  t.end();
});

const losses: [title: string, now: Partial<SeenHardware>, type: string, message: RegExp, expected: unknown][] = [
  ['cores', { cores: 7 }, 'cpu-missing', /has 7 cores, and had 8/, 8],
  ['memory', { memoryMib: 15_360 }, 'memory-missing', /15360 MiB of memory, and had 16384/, 16_384],
  ['a disk, by its serial', { disks: [{ ...sda, serial: 'S9' }, sdb] }, 'disk-missing', /sda, serial S1/, [sda]],
  ['a disk without a serial, by its place', { disks: [sda] }, 'disk-missing', /^Gone: sdb\.$/, [sdb]],
  ['a NIC', { nics: [nic] }, 'nic-missing', /00:02/, [other.mac]],
  ['a link', { nics: [{ ...nic, up: false }, other] }, 'nic-no-link', /00:01/, [nic.mac]],
  [
    'speed',
    { nics: [{ ...nic, speedMbps: 1_000 }, other] },
    'nic-slow',
    /00:01 at 1000 instead of 10000 Mbit/,
    { [nic.mac]: 10_000 },
  ],
];
for (const [title, now, type, message, expected] of losses) {
  test(`a machine that has lost ${title} is told by ${type} alone`, (t) => {
    const { findings } = lossesOf(known, { ...seen, ...now });
    t.match(findings, [{ type, message, evidence: { expected } }]);
    t.equal(findings.length, 1);
    t.end();
  });
}

test('a disk that moved to another place is still there, and firmware may keep a little memory', (t) => {
  const moved = { ...seen, disks: [{ ...sda, name: 'sdz' }, sdb], memoryMib: 16_200 };
  t.same(lossesOf(known, moved).findings, []);
  t.end();
});

test('of a NIC without a link nobody says that its speed is in order', (t) => {
  const { lookedAt } = lossesOf(known, { ...seen, nics: [{ name: 'eth0', mac: nic.mac, up: true }, other] });
  t.notOk(lookedAt.includes('nic-slow'));
  t.end();
});
