import { test } from 'tap';

import type { Evidence, Others, Party } from './blame.ts';
import { blame } from './blame.ts';

const none = { all: 0, image: 0, rack: 0 };
const alone: Others = { failed: none, served: { all: 9, image: 9, rack: 9 } };
const failing = (failed: Partial<Others['failed']>, served: Partial<Others['served']> = {}): Others => ({
  failed: { ...none, ...failed },
  served: { ...none, ...served },
});

interface Case {
  readonly what: string;
  readonly seen: Partial<Evidence>;
  readonly party: Party;
  /** Whether another machine may do better; true unless told. */
  readonly elsewhere?: boolean;
  readonly because?: RegExp;
}

// Lines as kernels and event logs write them.
const cases: readonly Case[] = [
  { what: 'an image whose map is another', seen: { code: 'image.digest' }, party: 'image', elsewhere: false },
  {
    what: 'an image without a kernel',
    seen: { code: 'image.invalid', stage: 'kexec' },
    party: 'image',
    elsewhere: false,
  },
  { what: 'chunks that come altered to one', seen: { code: 'image.altered', stage: 'image' }, party: 'network' },
  {
    ...{ what: 'chunks that come altered to all', party: 'network', elsewhere: false },
    seen: { code: 'image.altered', others: failing({ all: 2, image: 2 }) },
  },
  { what: 'a boot that a stranger claims', seen: { code: 'boot.claim-conflict' }, party: 'network' },
  { what: 'an image server that is dead', seen: { code: 'image.unreachable' }, party: 'service', elsewhere: false },
  { what: 'a defect of ours', seen: { code: 'internal', stage: 'configure' }, party: 'service', elsewhere: false },
  { what: 'a subnet without a free address', seen: { code: 'address.pool-empty' }, party: 'service', elsewhere: false },
  {
    ...{ what: 'a defect of ours on a machine that has a bad disk too', party: 'service', elsewhere: false },
    seen: { code: 'config.invalid', lines: ['I/O error, dev sda, sector 8'] },
  },
  { what: 'a disk that does not give back what was written', seen: { code: 'disk.failed' }, party: 'machine' },
  { what: 'hardware that was not inspected', seen: { code: 'boot.mismatch' }, party: 'machine' },
  { what: 'a BMC with another password', seen: { code: 'bmc.auth', stage: 'configure' }, party: 'machine' },
  { what: 'a BMC that lies', seen: { code: 'bmc.lied' }, party: 'machine', because: /bmc\.lied/ },
  {
    ...{ what: 'the third disk of a rack within half an hour', party: 'machine' },
    seen: { code: 'disk.failed', stage: 'image', others: failing({ all: 2, image: 2, rack: 2 }) },
  },
  {
    ...{ what: 'BMCs of a rack that answer nobody', party: 'network' },
    seen: { code: 'bmc.unreachable', others: failing({ all: 2, rack: 2 }, { all: 5 }) },
  },
  { what: 'a machine that falls silent', seen: { stage: 'image' }, party: 'unknown' },
  { what: 'a failure that nobody explains', seen: { code: 'boot.stage-failed', stage: 'kexec' }, party: 'unknown' },
  { what: 'disks that match no rule', seen: { code: 'boot.disk-rule', stage: 'disk' }, party: 'unknown' },
  { what: 'a server that refuses its key', seen: { code: 'ssh.key-refused', stage: 'verify' }, party: 'unknown' },
  {
    ...{ what: 'servers of one image of which none comes up', party: 'image', elsewhere: false },
    seen: { stage: 'boot', others: failing({ all: 2, image: 2, rack: 1 }) },
  },
  {
    ...{ what: 'two that do not come up of an image that serves many', party: 'unknown' },
    seen: { stage: 'boot', others: failing({ all: 2, image: 2, rack: 2 }, { all: 9, image: 9, rack: 9 }) },
  },
  {
    ...{ what: 'a rack in which nobody gets an address, all with one image', party: 'network' },
    seen: { stage: 'dhcp', others: failing({ all: 3, image: 3, rack: 3 }, { all: 9 }) },
  },
  {
    ...{ what: 'machines everywhere that get no script', party: 'service', elsewhere: false },
    seen: { stage: 'loader', others: failing({ all: 6, rack: 1 }, { all: 1, rack: 5 }) },
  },
  {
    ...{ what: 'a silence that comes a third time where others serve', party: 'machine' },
    ...{ seen: { stage: 'dhcp', repeated: 2 }, because: /2 times before/ },
  },
  { what: 'a silence that comes a second time', seen: { stage: 'dhcp', repeated: 1 }, party: 'unknown' },
  {
    ...{ what: 'a silence that comes a third time with an image that serves nowhere', party: 'unknown' },
    seen: { stage: 'boot', repeated: 2, others: failing({}) },
  },
  ...(
    [
      ['blk_update_request: I/O error, dev sda, sector 2048 op 0x1:(WRITE) flags 0x4800', 'disk'],
      ['[   12.3] critical medium error, dev nvme0n1, sector 93 op 0x0:(READ)', 'disk'],
      ['Buffer I/O error on dev sdb, logical block 12, lost async page write', 'disk'],
      ['nvme nvme0: controller is down; will reset: CSTS=0xffffffff', 'disk'],
      ['nvme nvme1: Device not ready; aborting reset, CSTS=0x1', 'disk'],
      ['ata3.00: failed command: WRITE FPDMA QUEUED', 'disk'],
      ['ata3.00: exception Emask 0x10 SAct 0x0 SErr 0x400100 action 0x6 frozen', 'disk'],
      ['Drive Slot / Bay Drive 3 | Drive Fault | Asserted', 'disk'],
      ['EDAC MC0: 1 UE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0', 'memory'],
      ['Memory DIMM A3 | Uncorrectable ECC | Asserted', 'memory'],
      ['mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 7', 'processor'],
      ['Processor CPU1 | IERR | Asserted', 'processor'],
      ['pcieport 0000:00:1c.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer', 'card'],
      ['NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out', 'network card'],
      ['e1000e 0000:00:19.0 eth0: Detected Hardware Unit Hang:', 'network card'],
      ['Power Supply PS1 | Failure detected | Asserted', 'power supply'],
    ] as const
  ).map(([line, part]): Case => {
    const lines = ['all is well', line];
    return {
      what: `a kernel or event log: ${line}`,
      seen: { lines },
      party: 'machine',
      because: new RegExp(`^its ${part}: `),
    };
  }),
  {
    what: 'what the BMC has recorded in this boot, before what the kernel says',
    seen: {
      faults: [{ part: 'memory', event: 'Uncorrectable ECC', record: 12, sensor: 1 }],
      lines: ['ata3.00: failed command: WRITE FPDMA QUEUED'],
    },
    party: 'machine',
    because: /^its memory: the event log of its BMC says Uncorrectable ECC \(entry 12\)$/,
  },
  {
    what: 'a machine that its own BMC saw standing still',
    seen: { stage: 'image', stoodStill: true },
    party: 'machine',
    because: /^it stood still in the ramdisk: the watchdog of its BMC was not kept up any more$/,
  },
  {
    what: 'machines that stand still together',
    seen: { stage: 'image', stoodStill: true, others: failing({ all: 2 }) },
    party: 'service',
    elsewhere: false,
  },
  {
    what: 'an image that is refused, whatever the BMC has recorded',
    seen: { code: 'image.invalid', faults: [{ part: 'disk', event: 'Drive Fault', record: 1, sensor: 1 }] },
    party: 'image',
    elsewhere: false,
  },
  ...[
    'blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ)',
    'Buffer I/O error on dev sr0, logical block 0, async page read',
    'I/O error, dev loop0, sector 4',
    'ata1.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x0',
    'EDAC MC0: 1 CE memory read error on DIMM_A1',
    'pcieport 0000:00:1c.0: PCIe Bus Error: severity=Corrected, type=Physical Layer',
    'e1000e: eth0 NIC Link is Down',
    'the disk has had no error',
  ].map((line): Case => ({ what: `what healthy machines say: ${line}`, seen: { lines: [line] }, party: 'unknown' })),
];

for (const { what, seen, party, elsewhere = true, because = /./ } of cases) {
  test(`${party}: ${what}`, async (t) => {
    const evidence = {
      code: 'boot.stage-late',
      stage: 'dhcp',
      faults: [],
      stoodStill: false,
      lines: [],
      others: alone,
      repeated: 0,
    } as const;
    t.match(blame({ ...evidence, ...seen }), { party, elsewhere, because });
  });
}

test('so many disks at once are not to blame by themselves', async (t) => {
  const seen = {
    code: 'disk.failed',
    stage: 'image',
    faults: [],
    stoodStill: false,
    lines: [],
    repeated: 0,
  } as const;
  t.match(blame({ ...seen, others: failing({ all: 8, rack: 1 }, { all: 2, rack: 2 }) }), { party: 'service' });
  // Of 1,000 deploys 23 meet a disk that fails.
  const many = { all: 23, image: 23, rack: 2 };
  t.match(blame({ ...seen, others: { failed: many, served: { all: 970, image: 970, rack: 30 } } }), {
    party: 'machine',
  });
});
