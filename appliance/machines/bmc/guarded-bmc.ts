import { MINUTE, SECOND } from '../../kernel/clock.ts';
import type { Guard, GuardRules } from '../../kernel/guard.ts';
import type { Bmc } from './bmc.ts';

/**
 * The BMCs of one rack are a cluster: what they share is the rack's management switch, and when that is down, or is only slow,
 * none of them has to find it out for itself. Three that do not answer, with none in between that does, are the switch; a BMC
 * that is dead alone fails its own calls alone. A probe costs 4 s of one caller's time, so it is made soon.
 *
 * In flight: of 40 machines in a rack, most at once. They and those that wait leave room for other racks among the 100 sagas
 * that a runner works on. The deadline is beyond what a BMC's own timing allows: two readings of the power, a command, and 20 s
 * until the machine obeys.
 */
export const rackOfBmcs: GuardRules = {
  inFlight: 32,
  waiting: 32,
  failures: 3,
  openFor: 15 * SECOND,
  deadline: 2 * MINUTE,
  isFault: ({ code }) => code === 'bmc.unreachable',
};

/** The same BMC, whose every call passes the guard of its rack, as one member of it. */
export function guardedBmc(bmc: Bmc, guard: Guard, member: string): Bmc {
  const guarded = <T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>) =>
    guard.run(work, { signal, member });
  return {
    power: (signal) => guarded(signal, (inner) => bmc.power(inner)),
    setPower: (want, signal) => guarded(signal, (inner) => bmc.setPower(want, inner)),
    bootOnce: (device, signal) => guarded(signal, (inner) => bmc.bootOnce(device, inner)),
    bootOnceAndReset: (device, signal) => guarded(signal, (inner) => bmc.bootOnceAndReset(device, inner)),
    clearBootOverride: (signal) => guarded(signal, (inner) => bmc.clearBootOverride(inner)),
    identity: (signal) => guarded(signal, (inner) => bmc.identity(inner)),
    newestEvent: (signal) => guarded(signal, (inner) => bmc.newestEvent(inner)),
    faultsSince: (after, signal) => guarded(signal, (inner) => bmc.faultsSince(after, inner)),
    watchdog: (signal) => guarded(signal, (inner) => bmc.watchdog(inner)),
    stopWatchdog: (then, signal) => guarded(signal, (inner) => bmc.stopWatchdog(then, inner)),
    close: () => bmc.close(),
  };
}
