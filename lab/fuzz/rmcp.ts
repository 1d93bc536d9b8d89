import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { once } from 'node:events';

import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { asRackstartError } from '../../appliance/kernel/errors.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import type { Bmc } from '../../appliance/machines/bmc/bmc.ts';
import { followConsole } from '../../appliance/machines/bmc/console.ts';
import type { ConsoleListener } from '../../appliance/machines/bmc/console.ts';
import { openBmc } from '../../appliance/machines/bmc/open-bmc.ts';
import { startBmcServer } from '../sim/bmc-server.ts';
import { simulatedMachine } from '../sim/bmc-server-machine.ts';
import type { SimulatedMachine } from '../sim/bmc-server-machine.ts';
import { SerialPort } from '../sim/bmc-server-sol.ts';
import type { Find, Input, Target } from './campaign.ts';
import { turns } from './campaign.ts';
import { Dice } from './dice.ts';
import { hostilePacket } from './rmcp-inputs.ts';
import { Readers } from './rmcp-readers.ts';

/**
 * Our IPMI client against hostile BMCs: its readers directly; through a socket, the client itself, with a peer on the path
 * to a right BMC that adds packets to each answer, or sends them in its place. Whatever comes, a command ends in bounded
 * time with an error of its own or with the truth, and what was accepted was done.
 */
export async function openRmcp(find: Find, seed: number): Promise<Target> {
  const readers = ([3, 17] as const).map((suite) => new Readers(suite, new Dice('rmcp', seed, 'login', suite)));
  const reached: Record<string, number> = { opened: 0, decoded: 0, refused: 0 };
  const clock = new ManualClock();
  const racks = await Promise.all(([3, 17] as const).map((suite) => openRack(suite, clock)));
  const chapter: Input[] = [];

  const tellStory = async () => {
    const inputs = chapter.splice(0);
    const [first] = inputs;
    if (first === undefined) return;
    const rack = first.story.pick(racks);
    const dice = inputs.map((input) => input.dice);
    rack.path.load(dice, {
      manner: first.story.pick(MANNERS),
      skipped: first.story.below(MOST_SKIPPED + 1),
      share: first.story.pick([1, 2, 4, 8]),
    });
    // Until every packet was sent: a command may end before.
    for (let command = 0; !rack.path.idle(); command++) {
      if (command > MOST_SKIPPED + dice.length) throw new Error('the BMC is not asked any more');
      const outcome = await rack.converse(first.story, (what) => find(what, first));
      reached[outcome] = (reached[outcome] ?? 0) + 1;
    }
  };

  return {
    reached,
    async feed(input: Input) {
      if (input.way === 'socket') {
        if (input.chapter === 0) await tellStory();
        chapter.push(input);
        return;
      }
      try {
        reached[input.story.pick(readers).read(input.dice)]!++;
      } catch (error) {
        find(String(error instanceof Error ? error.stack : error), input);
      }
    },
    settle: tellStory,
    async exchange() {
      await clock.advance(MINUTE + SECOND);
      for (const reader of readers) reader.check();
      for (const rack of racks) await rack.check();
    },
    async rest() {
      for (const rack of racks) await rack.hangUp();
    },
    async state() {
      return { waiting: clock.nextWake(), sessions: racks.map(({ path }) => path.idle()) };
    },
    async close() {
      for (const rack of racks) await rack.stop();
    },
  };
}

/** How the hostile packets come: in front of the right answer, behind it, or with no right answer at all. */
const MANNERS = ['before', 'before', 'behind', 'instead'] as const;

interface Hostility {
  readonly manner: (typeof MANNERS)[number];
  /** Answers that go through before the first hostile packet. */
  readonly skipped: number;
  /** Packets an answer. */
  readonly share: number;
}

/** Right answers before the first hostile packet: a login has five. */
const MOST_SKIPPED = 4;

/** A BMC with its machine, the peer on the path to it, and our client. */
async function openRack(suite: 3 | 17, clock: ManualClock) {
  const machine = simulatedMachine();
  const serial = new SerialPort();
  const login = { username: 'admin', password: 'secret12' };
  // A login that breaks at its end keeps its slot for a minute, as with a real BMC.
  const slots = { sessions: 16, clock };
  const server = await startBmcServer({
    address: ADDRESS,
    port: 0,
    ...login,
    chassis: { ...machine.chassis, serial },
    ...slots,
  });
  const path = await openPath(server.port);
  const ids = createIds(clock);
  const deps = { clock, ids, log: silentLog, onCommand: () => undefined, timing };
  const kind = { kind: 'ipmi', address: ADDRESS, port: path.port, cipherSuite: suite } as const;
  const endpoint = { ...kind, ...login, password: new Secret(login.password) };
  const connect = () => openBmc(endpoint, deps);
  const follow: Follow = (onOutput, signal) =>
    followConsole(endpoint, { clock, ids, patience: timing.patience }, onOutput, signal);
  let bmc = connect();
  const hangUp = async () => {
    await inTime(clock, bmc.close());
    bmc = connect();
  };
  return {
    path,
    hangUp,
    /** One command while the peer is at work; resolves to what came of it. */
    async converse(story: Dice, wrong: (what: string) => void): Promise<string> {
      if (story.percent(20)) await hangUp();
      try {
        if (story.percent(4)) {
          const { heard, complaint } = await inTime(clock, listen(follow, serial));
          if (complaint !== undefined) wrong(complaint);
          return heard ? 'heard' : 'silent';
        }
        const complaint = await inTime(clock, command(bmc, machine, story));
        if (complaint !== undefined) wrong(complaint);
        return 'done';
      } catch (error) {
        const { code } = asRackstartError(error);
        if (!code.startsWith('bmc.')) wrong(`ended with ${String(error instanceof Error ? error.stack : error)}`);
        return code;
      }
    },
    /** The good exchange: what a session of a day would do. */
    async check(): Promise<void> {
      await hangUp();
      await inTime(clock, bmc.setPower('off', never));
      await inTime(clock, bmc.bootOnceAndReset('pxe', never));
      const [power, id] = [await inTime(clock, bmc.power(never)), await inTime(clock, bmc.identity(never))];
      if (power !== 'on' || (await machine.power()) !== 'on') throw new Error(`the power is ${power}`);
      if (id.productId !== 0x0f02) throw new Error(`the BMC is ${JSON.stringify(id)}`);
      if ((await machine.bootDevice()) !== 'pxe') throw new Error('the boot device is not what was set');
    },
    async stop() {
      await inTime(clock, bmc.close());
      await path.stop();
      await server.stop();
    },
  };
}

/** Gives one command; what is wrong with what came of it, or undefined. Its own errors are thrown. */
async function command(bmc: Bmc, machine: SimulatedMachine, story: Dice): Promise<string | undefined> {
  switch (story.below(6)) {
    case 0:
    case 1: {
      machine.chassis.setPower(story.percent(50));
      const [told, is] = [await bmc.power(never), await machine.power()];
      return told === is || told === 'unknown' ? undefined : `the power is ${is}, and was read as ${told}`;
    }
    case 2: {
      const { productId } = await bmc.identity(never);
      return productId === 0x0f02 ? undefined : `the product was read as ${productId}`;
    }
    case 3: {
      const want = story.pick(['on', 'off'] as const);
      await bmc.setPower(want, never);
      return (await machine.power()) === want ? undefined : `power ${want} was believed`;
    }
    case 4: {
      const [fault] = (await bmc.faultsSince(0, never)).faults;
      return fault === undefined ? undefined : `a fault was read: ${JSON.stringify(fault)}`;
    }
    default: {
      await bmc.bootOnce('pxe', never);
      return (await machine.bootDevice()) === 'pxe' ? undefined : 'a boot device was believed';
    }
  }
}

type Follow = (onOutput: ConsoleListener, signal: AbortSignal) => Promise<unknown>;

interface Listened {
  readonly heard: boolean;
  readonly complaint: string | undefined;
}

/** Hears the machine's console while it prints: what was heard was printed, each line once and in order. */
async function listen(follow: Follow, serial: SerialPort): Promise<Listened> {
  const console = { heard: '', lost: false, ended: false };
  const stopping = new AbortController();
  const onOutput: ConsoleListener = (characters, lost) => {
    console.heard += characters.toString('latin1');
    console.lost ||= lost;
  };
  const following = follow(onOutput, stopping.signal)
    .catch((error: unknown) => {
      if (error !== ENOUGH) throw error;
    })
    .finally(() => (console.ended = true));
  following.catch(() => undefined);
  let printed = '';
  for (let line = 0; line < 10 && !console.ended; line++) {
    await turns(8);
    const text = `line ${line}\n`;
    printed += text;
    serial.print(text);
  }
  stopping.abort(ENOUGH);
  await following;
  const isTrue = console.lost || printed.includes(console.heard);
  const complaint = isTrue ? undefined : `"${printed}" was heard as "${console.heard}"`;
  return { heard: console.heard !== '', complaint };
}

const ENOUGH = new Error('enough was heard');

/** Lets time pass whenever nothing else happens, and no more than a command may take. */
async function inTime<T>(clock: ManualClock, work: Promise<T>): Promise<T> {
  const state = { ended: false };
  const outcome = work.finally(() => (state.ended = true));
  outcome.catch(() => undefined);
  const deadline = clock.now() + LONGEST_COMMAND;
  for (let turn = 1; !state.ended; turn++) {
    await turns(1);
    if (turn % PATIENT_TURNS === 0) await clock.advance(250);
    if (clock.now() > deadline) throw new Error(`a command takes more than ${LONGEST_COMMAND / 1_000} s`);
  }
  return outcome;
}

interface Path {
  readonly port: number;
  /** What to say, one packet of each dice. */
  load(dice: readonly Dice[], how: Hostility): void;
  idle(): boolean;
  stop(): Promise<void>;
}

/** Stands between client and BMC. Each answer gets its share of what is loaded; when all is said, it is an honest relay. */
async function openPath(serverPort: number): Promise<Path> {
  const [front, back] = [createSocket('udp4'), createSocket('udp4')];
  let client = 0;
  let loaded: Dice[] = [];
  let { manner, skipped, share }: Hostility = { manner: 'before', skipped: 0, share: 0 };
  front.on('message', (packet, { port }) => {
    client = port;
    back.send(packet, serverPort, ADDRESS);
  });
  back.on('message', (answer) => {
    const hostile = loaded.splice(0, skipped-- > 0 ? 0 : share).map((dice) => hostilePacket(dice, answer));
    const isLost = manner === 'instead' && hostile.length > 0;
    const packets = isLost ? hostile : manner === 'behind' ? [answer, ...hostile] : [...hostile, answer];
    for (const packet of packets) front.send(packet, client, ADDRESS);
  });
  // The client has closed its socket before the last packet came.
  for (const socket of [front, back]) socket.on('error', () => undefined);
  front.bind(0, ADDRESS);
  back.bind(0, ADDRESS);
  await Promise.all([once(front, 'listening'), once(back, 'listening')]);
  return {
    port: front.address().port,
    load(dice, how) {
      loaded = [...dice];
      ({ manner, skipped, share } = how);
    },
    idle: () => loaded.length === 0,
    stop: () => closed([front, back]),
  };
}

async function closed(sockets: readonly Socket[]): Promise<void> {
  const all = Promise.all(sockets.map((socket) => once(socket, 'close')));
  for (const socket of sockets) socket.close();
  await all;
}

const ADDRESS = '10.77.0.1';
const PATIENT_TURNS = 30;
// Every message is asked four times at most, a second each; a power change is waited for for another five.
const timing = { patience: { each: SECOND, times: 4 }, rate: { burst: 1_000, perSecond: 1_000 }, powerDeadline: 5_000 };
const LONGEST_COMMAND = 120_000;
const never = new AbortController().signal;
