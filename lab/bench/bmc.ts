import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import type { Bmc, BmcEndpoint } from '../../appliance/machines/bmc/bmc.ts';
import { defaultTiming, openBmc } from '../../appliance/machines/bmc/open-bmc.ts';
import { startIpmiSim } from '../bmc/ipmi-sim.ts';
import { run } from '../process/run.ts';
import { median, moreIsBetter } from './report.ts';
import type { Bench, Row } from './report.ts';
import { orderToReset } from './reset.ts';

/**
 * Our IPMI client beside `ipmitool`, both asking one `ipmi_sim` for the power of its machine; and how long the whole daemon
 * takes from an order to the command that starts its machine.
 */
export const bench: Bench = {
  name: 'bmc',
  about: 'IPMI commands per second beside ipmitool exec and one ipmitool process a command; ms from POST to reset',

  async run(say) {
    const directory = await mkdtemp(join(tmpdir(), 'rs-bench-bmc-'));
    try {
      return [...(await commandRates(directory, say)), ...(await orderToReset(directory, say))];
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};

const ROUNDS = 7;
/** Of one round; many, so that ipmitool's one login a round does not count. */
const COMMANDS = 5_000;
/** Each costs a process and a login. */
const PROCESSES = 30;

/** Get Chassis Status (IPMI 2.0 §28.2), our session kept over all rounds. The runs take turns: load hits all alike. */
async function commandRates(directory: string, say: (line: string) => void): Promise<Row[]> {
  const login = { address: '127.0.0.1', port: 15_900, username: 'admin' };
  const password = 'bench-secret';
  // Without a chassis program, so that the clients are measured and not the processes a BMC would start.
  const simulator = await startIpmiSim({ ...login, password, directory, name: 'bench' });
  const endpoint: BmcEndpoint = { ...login, kind: 'ipmi', password: new Secret(password), cipherSuite: 3 };
  const kept = openSession(endpoint);
  try {
    const script = join(directory, 'commands');
    await writeFile(script, 'chassis power status\n'.repeat(COMMANDS));
    const rates = { ours: [] as number[], exec: [] as number[], processes: [] as number[] };
    for (let round = 1; round <= ROUNDS; round++) {
      rates.ours.push(await perSecond(COMMANDS, () => ours(kept)));
      rates.exec.push(await perSecond(COMMANDS, () => ipmitoolExec(endpoint, script)));
      rates.processes.push(await perSecond(PROCESSES, () => ipmitoolProcesses(endpoint)));
      const figures = Object.entries(rates).map(([who, rounds]) => `${who} ${Math.round(rounds.at(-1) ?? NaN)}/s`);
      say(`round ${round} of ${ROUNDS}: ${figures.join(', ')}`);
    }
    const [own, unit] = [median(rates.ours), 'commands/s'];
    const [exec, processes] = [median(rates.exec), median(rates.processes)];
    return [
      moreIsBetter({
        case: 'power status, one session',
        unit,
        ours: own,
        peer: exec,
        peerName: 'ipmitool exec',
        aim: 2,
      }),
      moreIsBetter({
        case: 'power status',
        unit,
        ours: own,
        peer: processes,
        peerName: 'ipmitool per command',
        aim: 2,
      }),
    ];
  } finally {
    await kept.bmc.close();
    await simulator.stop();
  }
}

/** Rejects when a different number of commands was answered than the rate would claim. */
async function perSecond(commands: number, work: () => Promise<number>): Promise<number> {
  const start = performance.now();
  const answered = await work();
  const seconds = (performance.now() - start) / 1_000;
  if (answered !== commands) throw new Error(`${answered} of ${commands} commands were answered`);
  return commands / seconds;
}

interface KeptSession {
  bmc: Bmc;
  answered: () => number;
}

function openSession(endpoint: BmcEndpoint): KeptSession {
  let answered = 0;
  const bmc = openBmc(endpoint, {
    clock: systemClock,
    ids: createIds(systemClock),
    log: silentLog,
    onCommand: ({ command, completionCode }) => {
      if (command === 'Get Chassis Status' && completionCode === 0) answered++;
    },
    timing: { ...defaultTiming, rate: { burst: 2 * ROUNDS * COMMANDS, perSecond: 1_000 } }, // the limit is for real BMCs
  });
  return { bmc, answered: () => answered };
}

async function ours({ bmc, answered }: KeptSession): Promise<number> {
  const before = answered();
  // `power` believes the second of two equal answers: two commands a call.
  for (let call = 0; call < COMMANDS / 2; call++) await bmc.power(never);
  return answered() - before;
}

async function ipmitoolExec(endpoint: BmcEndpoint, script: string): Promise<number> {
  return statusLines(await ipmitool(endpoint, 'exec', script));
}

async function ipmitoolProcesses(endpoint: BmcEndpoint): Promise<number> {
  let answered = 0;
  for (let count = 0; count < PROCESSES; count++) {
    answered += statusLines(await ipmitool(endpoint, 'chassis', 'power', 'status'));
  }
  return answered;
}

function statusLines(output: string): number {
  return output.match(/^Chassis Power is off$/gm)?.length ?? 0;
}

function ipmitool({ address, port, username, password }: BmcEndpoint, ...command: string[]): Promise<string> {
  const peer = ['-I', 'lanplus', '-C', '3', '-H', address, '-p', String(port), '-U', username, '-E'];
  return run(['ipmitool', ...peer, ...command], { env: { IPMITOOL_PASSWORD: password.reveal() } });
}

const never = new AbortController().signal;
