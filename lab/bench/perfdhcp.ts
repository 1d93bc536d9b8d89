import { startProcess } from '../process/start.ts';

export interface Load {
  /** Four-way exchanges begun a second. */
  readonly rate: number;
  readonly seconds: number;
  /** How many clients take turns, numbered from `firstMac` on. */
  readonly clients: number;
  readonly firstMac: string;
  /** Where it sends from: an address of its own for each that runs at a time. */
  readonly from: string;
  readonly server: string;
}

export interface Exchanges {
  readonly begun: number;
  /** Those that got their ACK. */
  readonly completed: number;
  /** Of those begun, what was not completed. */
  readonly lost: number;
}

/** Kea's load generator, by `exec` in the clients' network; it asks as a relay of that network does. */
export async function perfdhcp(
  load: Load,
  { exec, logFile }: { exec: (argv: readonly string[]) => string[]; logFile: string },
): Promise<Exchanges> {
  const { rate, seconds, clients, firstMac, from, server } = load;
  const many = ['-r', String(rate), '-p', String(seconds), '-R', String(clients), '-b', `mac=${firstMac}`];
  // Half a second for the last answers; it is part of the period.
  const argv = ['perfdhcp', '-4', ...many, '-W', '500000', '-l', from, server];
  const running = await startProcess({ argv: exec(argv), logFile });
  const patience = setTimeout(() => void running.stop(), (seconds + 10) * 1_000);
  await running.ended; // its exit code tells of drops, as its report does
  clearTimeout(patience);
  const [discovers, requests] = running.log().split('***Statistics for: REQUEST-ACK***');
  const begun = figure(discovers, 'sent packets');
  const completed = figure(requests, 'received packets');
  return { begun, completed, lost: 1 - completed / begun };
}

function figure(report: string | undefined, name: string): number {
  const found = new RegExp(`^${name}: (\\d+)$`, 'm').exec(report ?? '');
  if (found === null) throw new Error(`perfdhcp did not report its ${name}:\n${report ?? ''}`);
  return Number(found[1]);
}
