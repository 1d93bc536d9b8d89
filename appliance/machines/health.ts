import type { HealthCheck } from '../../pxe/boot-plan.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Tx } from '../store/store.ts';
import { checkedVerdict } from './inventory-drift.ts';
import { knownHardware, lossesOf } from './known-hardware.ts';
import type { Finding, Verdict } from './verdict.ts';
import { passVerdict } from './verdict.ts';

/** Writes down what a check of a machine's health found: what is wrong becomes an issue, what is in order resolves one. */
export async function recordCheck(
  tx: Tx,
  deps: { readonly events: EventLog; readonly ids: Ids },
  { machineId, check, at }: { machineId: string; check: HealthCheck; at: Millis },
): Promise<void> {
  await tx.updateTable('machines').set({ checked_at: at }).where('id', '=', machineId).execute();
  const losses = lossesOf(await knownHardware(tx, machineId), check);
  const drift = await checkedVerdict(tx, machineId, check, at);
  for (const verdict of [losses, judgeCheck(check), drift])
    await passVerdict(tx, deps, verdict, { machineId, by: 'check', at });
}

/** What of it does not work, for any machine, whatever is known of it. */
export function judgeCheck(check: HealthCheck): Verdict {
  const findings = [badMemory, unreadableDisks, failingDisks, wrongClock]
    .map((look) => look(check))
    .filter((finding) => finding !== undefined);
  const always = ['disk-unreadable', 'disk-smart-failing'] as const;
  return {
    findings,
    // What was not tried says nothing.
    lookedAt: [
      ...always,
      ...(check.memory.testedKib > 0 ? (['memory-fault'] as const) : []),
      ...(check.clockOffset === undefined ? [] : (['clock-off'] as const)),
    ],
  };
}

// Healthy memory has a corrected error in months; the check comes minutes after the power.
const MOST_CORRECTED = 10;

function badMemory({ memory }: HealthCheck): Finding | undefined {
  const { testedKib, wrongBytes, corrected = 0, uncorrected = 0 } = memory;
  const faults = [
    ...(wrongBytes > 0 ? [`${String(wrongBytes)} bytes of ${String(testedKib)} KiB came back changed`] : []),
    ...(uncorrected > 0 ? [`${String(uncorrected)} errors were beyond correction`] : []),
    ...(corrected > MOST_CORRECTED ? [`${String(corrected)} errors were corrected since the power came`] : []),
  ];
  return faults.length === 0 ? undefined : { type: 'memory-fault', message: `${faults.join('; ')}.`, evidence: memory };
}

function unreadableDisks({ disks }: HealthCheck): Finding | undefined {
  const bad = disks.filter(({ unreadableAt }) => unreadableAt !== undefined);
  if (bad.length === 0) return undefined;
  const places = bad.map((disk) => `${labelOf(disk)} cannot be read at byte ${String(disk.unreadableAt)}`);
  return { type: 'disk-unreadable', message: `${places.join('; ')}.`, evidence: { disks: bad } };
}

function failingDisks({ disks }: HealthCheck): Finding | undefined {
  const bad = disks.filter(({ smart }) => smart === 'failing');
  if (bad.length === 0) return undefined;
  const message = `${bad.map(labelOf).join(', ')}: SMART says that failure is near.`;
  return { type: 'disk-smart-failing', message, evidence: { disks: bad } };
}

// Certificates and logs bear a minute; a clock that lost its battery is off by years.
const CLOCK_TOLERANCE_S = 60;

function wrongClock({ clockOffset }: HealthCheck): Finding | undefined {
  if (clockOffset === undefined || Math.abs(clockOffset) <= CLOCK_TOLERANCE_S) return undefined;
  const message = `It is ${String(Math.abs(clockOffset))} s ${clockOffset > 0 ? 'ahead' : 'behind'}.`;
  return { type: 'clock-off', message, evidence: { offsetSeconds: clockOffset } };
}

function labelOf({ name, serial }: HealthCheck['disks'][number]): string {
  return serial === '' ? name : `${name} (serial ${serial})`;
}
