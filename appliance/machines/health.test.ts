import { test } from 'tap';

import type { HealthCheck } from '../../pxe/boot-plan.ts';
import { judgeCheck } from './health.ts';

const disk = { name: 'sda', bytes: 100, serial: 'S1', smart: 'ok' } as const;
const healthy: HealthCheck = {
  cores: 8,
  memoryMib: 1024,
  memory: { testedKib: 1024, wrongBytes: 0, corrected: 10, uncorrected: 0 },
  clockOffset: 60,
  disks: [disk],
  nics: [],
};

test('a machine that works has nothing found, and all of it was looked at', (t) => {
  t.same(judgeCheck(healthy).findings, []);
  t.same([...judgeCheck(healthy).lookedAt].sort(), [
    'clock-off',
    'disk-smart-failing',
    'disk-unreadable',
    'memory-fault',
  ]);
  t.end();
});

const faults: [Partial<HealthCheck>, string, RegExp][] = [
  [{ memory: { testedKib: 8, wrongBytes: 1 } }, 'memory-fault', /1 bytes of 8 KiB came back changed/],
  [{ memory: { testedKib: 8, wrongBytes: 0, uncorrected: 1 } }, 'memory-fault', /1 errors were beyond correction/],
  [{ memory: { testedKib: 8, wrongBytes: 0, corrected: 11 } }, 'memory-fault', /11 errors were corrected/],
  [{ disks: [disk, { ...disk, name: 'sdb', unreadableAt: 0 }] }, 'disk-unreadable', /^sdb .*S1.* at byte 0\.$/],
  [{ disks: [{ ...disk, serial: '', smart: 'failing' }] }, 'disk-smart-failing', /^sda: SMART/],
  [{ clockOffset: 61 }, 'clock-off', /61 s ahead/],
  [{ clockOffset: -61 }, 'clock-off', /61 s behind/],
];
for (const [change, type, message] of faults) {
  test(`${JSON.stringify(change)} is ${type}`, (t) => {
    const { findings } = judgeCheck({ ...healthy, ...change });
    t.match(findings, [{ type, message }]);
    t.equal(findings.length, 1);
    t.end();
  });
}

test('what was not tried resolves nothing', (t) => {
  const { clockOffset: _, ...unasked } = healthy;
  const { findings, lookedAt } = judgeCheck({ ...unasked, memory: { testedKib: 0, wrongBytes: 0 } });
  t.same(findings, []);
  t.same([...lookedAt].sort(), ['disk-smart-failing', 'disk-unreadable']);
  t.same(judgeCheck({ ...healthy, disks: [{ ...disk, smart: 'unknown' }] }).findings, [], 'a disk may say nothing');
  t.end();
});
