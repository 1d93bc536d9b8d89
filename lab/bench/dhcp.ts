import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { DhcpPeer, Link, Pool } from './dhcp-peers.ts';
import { CLIENTS, dnsmasq, kea, openLink, ours, SERVER } from './dhcp-peers.ts';
import type { Exchanges, Load } from './perfdhcp.ts';
import { perfdhcp } from './perfdhcp.ts';
import { moreIsBetter } from './report.ts';
import type { Bench, Row } from './report.ts';

/**
 * Strangers' leases under load, by Kea's own generator: the real daemon beside Kea and dnsmasq, each over a veth pair of its
 * own. They take turns, so that whatever else the machine does hits all alike.
 */
export const bench: Bench = {
  name: 'dhcp',
  about: 'four-way exchanges/s beside Kea and dnsmasq, leases durable; and with every address leased',

  async run(say) {
    const directory = await mkdtemp(join(tmpdir(), 'rs-bench-dhcp-'));
    try {
      return [...(await highestRates(directory, say)), ...(await fullPools(directory, say))];
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};

type Say = (line: string) => void;

const SECONDS = 5;
const MOST_LOST = 0.001;
/** Each halves what is left, in ratio: from a factor of 40 to one of 1.06. */
const ROUNDS = 6;
const LOWEST = { [ours.name]: 400, [kea.name]: 400, [dnsmasq.name]: 25 };
const FACTOR = 40;

/** The highest rate at which less than 0.1 % of the exchanges are lost, for 50,000 clients. */
async function highestRates(directory: string, say: Say): Promise<Row[]> {
  const pool: Pool = { first: '10.77.1.0', last: '10.77.250.255' };
  return withServers(join(directory, 'rates'), pool, async (served) => {
    const searches = served.map((one) => {
      const low = LOWEST[one.peer.name]!;
      return { ...one, low, high: low * FACTOR, best: 0 };
    });
    for (let round = 1; round <= ROUNDS; round++) {
      for (const search of searches) {
        const rate = Math.round(Math.sqrt(search.low * search.high));
        // Once more when it fails: this machine has other things to do, too.
        const completed = (await kept(search, rate, say)) ?? (await kept(search, rate, say));
        if (completed === undefined) search.high = rate;
        else Object.assign(search, { low: rate, best: completed });
      }
    }
    const [own, ...peers] = searches;
    return peers.map(({ peer, best }) =>
      moreIsBetter({
        case: `four-way exchanges, < ${MOST_LOST * 100} % lost`,
        unit: 'per s',
        ours: own!.best,
        peer: best,
        peerName: `${peer.name} (syncs: ${peer.syncs})`,
        aim: 1,
      }),
    );
  });
}

/** Exchanges completed a second; undefined when too many were lost. */
async function kept({ peer, load }: Served, rate: number, say: Say): Promise<number | undefined> {
  const { begun, completed, lost } = await load({ ...strangers(rate, SECONDS), from: CLIENTS[0] });
  say(`${peer.name}: ${rate}/s offered, ${begun} begun, ${(lost * 100).toFixed(3)} % lost`);
  return lost < MOST_LOST ? Math.min(rate, completed / (SECONDS - GRACE)) : undefined;
}

/** The half second at the end of a run, in which nothing is begun any more. */
const GRACE = 0.5;

const HOLDERS = 1_000;
const HOLDERS_A_SECOND = 50;
const STORM_SECONDS = 8;
const STORM = 4_000;

/**
 * Every address is leased, and 4,000 strangers a second ask for one all the same. A server stands that if those who have a
 * lease still get theirs: 50 a second of them come back, by four-way exchanges from a second address. The measure is the share
 * of these that is completed.
 */
async function fullPools(directory: string, say: Say): Promise<Row[]> {
  const pool: Pool = { first: '10.77.1.0', last: '10.77.4.231' };
  return withServers(join(directory, 'full'), pool, async (served) => {
    const shares: { name: string; calm: number; storm: number }[] = [];
    for (const { peer, load } of served) {
      const filled = await load(holders(200, 1 + HOLDERS / 200));
      const calm = await load(holders(HOLDERS_A_SECOND, 3));
      const [crowd, held] = await Promise.all([
        load({ ...strangers(STORM, STORM_SECONDS), firstMac: '00:1c:01:00:00:00' }),
        load(holders(HOLDERS_A_SECOND, STORM_SECONDS - 1)),
      ]);
      say(
        `${peer.name}: full after ${filled.completed} exchanges; ${percent(calm)} % of their holders served in the calm, ` +
          `${percent(held)} % in a storm of ${crowd.begun} strangers, of whom ${crowd.completed} got an address`,
      );
      shares.push({ name: peer.name, calm: percent(calm), storm: percent(held) });
    }
    const [own, ...peers] = shares;
    const row = { case: `${STORM} strangers/s, no address left: holders served`, unit: '%', ours: own!.storm };
    return [
      moreIsBetter({ ...row, peer: own!.calm, peerName: 'without the storm', aim: 0.99 }),
      // A peer that serves nobody counts as one in a thousand.
      ...peers.map(({ name, storm }) => moreIsBetter({ ...row, peer: Math.max(storm, 0.1), peerName: name, aim: 1 })),
    ];
  });
}

function percent({ lost }: Exchanges): number {
  return Number((100 * (1 - lost)).toFixed(1));
}

function strangers(rate: number, seconds: number): Omit<Load, 'server'> {
  return { rate, seconds, clients: 50_000, firstMac: '00:0c:01:00:00:00', from: CLIENTS[0] };
}

function holders(rate: number, seconds: number): Omit<Load, 'server'> {
  return { rate, seconds, clients: HOLDERS, firstMac: '00:0c:01:00:00:00', from: CLIENTS[1] };
}

interface Served {
  readonly peer: DhcpPeer;
  readonly load: (load: Omit<Load, 'server'>) => Promise<Exchanges>;
}

/** All three serve, each on its own link; idle ones cost the others nothing. */
async function withServers<T>(directory: string, pool: Pool, work: (served: Served[]) => Promise<T>): Promise<T> {
  const links: Link[] = [];
  const stops: (() => Promise<unknown>)[] = [];
  try {
    const served: Served[] = [];
    for (const peer of [ours, kea, dnsmasq]) {
      const name = peer.name.toLowerCase();
      const link = await openLink(`${name}-${pool.last.split('.')[2]!}`, join(directory, name));
      links.push(link);
      stops.push(await peer.start(link, pool));
      let runs = 0;
      const load = (asked: Omit<Load, 'server'>) =>
        perfdhcp(
          { ...asked, server: SERVER },
          { exec: link.atClients, logFile: join(link.directory, `perfdhcp-${++runs}.log`) },
        );
      served.push({ peer, load });
    }
    return await work(served);
  } finally {
    await Promise.all(stops.map((stop) => stop()));
    for (const link of links) link.close();
  }
}
