import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import type { RemoteInfo } from 'node:dgram';
import { once } from 'node:events';

import { runBmcCommand } from './bmc-server-commands.ts';
import type { SimulatedChassis } from './bmc-server-commands.ts';
import { PacketCipher, proofs, suiteOf } from './bmc-server-crypto.ts';
import type { LoginFacts } from './bmc-server-crypto.ts';

/**
 * A BMC in this process that speaks RMCP+ with cipher suites 3 and 17 (`ipmi_sim` knows no SHA-256), for tests and
 * simulated machines. It shares no code with our client, and is shown right by `ipmitool` first.
 */
export interface BmcServerOptions {
  address: string;
  /** 0 takes any free port. */
  port: number;
  username: string;
  password: string;
  chassis: SimulatedChassis;
  faults?: BmcFaults;
}

/** What goes wrong on the way; may be changed while the server runs. */
export interface BmcFaults {
  /** Asked before each answer, counted from 0 since the start: true loses it, after the command was carried out. */
  dropAnswer?: (index: number) => boolean;
  delayMs?: number;
  duplicate?: boolean;
  /** Commands in a session end with this completion code, such as 0xc0 (busy). */
  completionCode?: number;
}

export interface BmcServer {
  readonly port: number;
  readonly faults: BmcFaults;
  /** Ends it with all its sessions; stopping twice is the same as once. */
  stop(): Promise<void>;
}

export async function startBmcServer(options: BmcServerOptions): Promise<BmcServer> {
  const socket = createSocket('udp4');
  const faults = options.faults ?? {};
  const bmc = new SimulatedBmc(options, faults);
  const timers = new Set<NodeJS.Timeout>();
  let answers = 0;
  let stopped = false;

  const send = (packet: Buffer, to: RemoteInfo) => socket.send(packet, to.port, to.address);
  socket.on('message', (packet, from) => {
    const answer = bmc.answer(packet);
    if (answer === undefined || faults.dropAnswer?.(answers++) === true) return;
    const copies = faults.duplicate === true ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      if (faults.delayMs === undefined) send(answer, from);
      else {
        const timer = setTimeout(() => {
          timers.delete(timer);
          send(answer, from);
        }, faults.delayMs);
        timers.add(timer);
      }
    }
  });

  socket.bind(options.port, options.address);
  await once(socket, 'listening');
  return {
    port: socket.address().port,
    faults,
    stop: async () => {
      if (stopped) return;
      stopped = true;
      timers.forEach((timer) => clearTimeout(timer));
      const closed = once(socket, 'close');
      socket.close();
      await closed;
    },
  };
}

interface Login extends LoginFacts {
  /** Set by RAKP 1 and 3; commands are heard when it is open. */
  state: 'agreed' | 'challenged' | 'open';
  cipher?: PacketCipher;
}

class SimulatedBmc {
  readonly #options: BmcServerOptions;
  readonly #faults: BmcFaults;
  readonly #logins = new Map<number, Login>();
  readonly #guid = randomBytes(16);

  constructor(options: BmcServerOptions, faults: BmcFaults) {
    this.#options = options;
    this.#faults = faults;
  }

  /** The answer to one datagram, if it deserves one. Damaged and foreign ones do not. */
  answer(packet: Buffer): Buffer | undefined {
    if (packet.length < 6 || packet.readUInt8(0) !== 6) return undefined;
    if (packet.readUInt8(3) === 6) return this.#pong(packet);
    if (packet.readUInt8(3) !== 7) return undefined;
    if (packet.readUInt8(4) === 0) return this.#sessionless(packet);
    if (packet.readUInt8(4) !== 6 || packet.length < 16) return undefined;
    const length = packet.readUInt16LE(14);
    if (packet.length < 16 + length) return undefined;
    const type = packet.readUInt8(5);
    const payload = packet.subarray(16, 16 + length);
    switch (type) {
      case 0x10:
        return this.#plain(0x11, this.#openSession(payload));
      case 0x12:
        return this.#plain(0x13, this.#rakp1(payload));
      case 0x14:
        return this.#plain(0x15, this.#rakp3(payload));
      case 0xc0:
        return this.#command(packet);
      default:
        return undefined;
    }
  }

  // ASF 2.0 §3.2.4.3: enterprise 4542, pong, tag; sixteen bytes that say "IPMI supported".
  #pong(packet: Buffer): Buffer | undefined {
    if (packet.length < 12 || packet.readUInt8(8) !== 0x80) return undefined;
    const tag = packet.subarray(9, 10).toString('hex');
    return Buffer.from(`0600ff06000011be40${tag}0010000011be000000008100000000000000`, 'hex');
  }

  // Authentication type none, sequence 0, session 0, length, message: for channel capabilities alone.
  #sessionless(packet: Buffer): Buffer | undefined {
    if (packet.length < 14) return undefined;
    const message = packet.subarray(14, 14 + packet.readUInt8(13));
    if (message.length < 7 || message.readUInt8(5) !== 0x38) return undefined;
    const answer = this.#run(message);
    return Buffer.concat([packet.subarray(0, 13), Buffer.from([answer.length]), answer]);
  }

  #plain(type: number, payload: Buffer | undefined): Buffer | undefined {
    if (payload === undefined) return undefined;
    const header = Buffer.from('0600ff070600' + '00000000' + '00000000' + '0000', 'hex');
    header.writeUInt8(type, 5);
    header.writeUInt16LE(payload.length, 14);
    return Buffer.concat([header, payload]);
  }

  #openSession(payload: Buffer): Buffer | undefined {
    if (payload.length < 32) return undefined;
    const [tag, consoleId] = [payload.readUInt8(0), payload.subarray(4, 8)];
    const suite = suiteOf(payload.readUInt8(12), payload.readUInt8(20), payload.readUInt8(28));
    if (suite === undefined) return Buffer.concat([Buffer.from([tag, 0x11, 0, 0]), consoleId]);
    const bmcId = randomBytes(4);
    const nothing = Buffer.alloc(0);
    this.#logins.set(bmcId.readUInt32LE(0), {
      ...{ state: 'agreed', suite, consoleId: Buffer.from(consoleId), bmcId, guid: this.#guid },
      ...{ consoleRandom: nothing, bmcRandom: randomBytes(16), role: 0, username: nothing },
      password: Buffer.from(this.#options.password),
    });
    return Buffer.concat([Buffer.from([tag, 0, 4, 0]), consoleId, bmcId, payload.subarray(8, 32)]);
  }

  #rakp1(payload: Buffer): Buffer | undefined {
    if (payload.length < 28 || payload.length < 28 + payload.readUInt8(27)) return undefined;
    const [tag, login] = [payload.readUInt8(0), this.#logins.get(payload.readUInt32LE(4))];
    if (login === undefined) return Buffer.from([tag, 0x02, 0, 0, 0, 0, 0, 0]);
    const username = payload.subarray(28, 28 + payload.readUInt8(27));
    if (username.toString() !== this.#options.username) {
      return Buffer.concat([Buffer.from([tag, 0x0d, 0, 0]), login.consoleId]);
    }
    login.consoleRandom = Buffer.from(payload.subarray(8, 24));
    login.role = payload.readUInt8(24);
    login.username = Buffer.from(username);
    login.state = 'challenged';
    const fields = [login.consoleId, login.bmcRandom, login.guid, proofs(login).rakp2];
    return Buffer.concat([Buffer.from([tag, 0, 0, 0]), ...fields]);
  }

  #rakp3(payload: Buffer): Buffer | undefined {
    if (payload.length < 8) return undefined;
    const [tag, status, id] = [payload.readUInt8(0), payload.readUInt8(1), payload.readUInt32LE(4)];
    const login = this.#logins.get(id);
    if (login === undefined || login.state === 'agreed') return Buffer.from([tag, 0x02, 0, 0, 0, 0, 0, 0]);
    if (status !== 0 || !payload.subarray(8).equals(proofs(login).rakp3)) {
      this.#logins.delete(id);
      return Buffer.concat([Buffer.from([tag, 0x0f, 0, 0]), login.consoleId]);
    }
    login.state = 'open';
    login.cipher ??= new PacketCipher(login); // asked twice when our answer was lost: the same session
    return Buffer.concat([Buffer.from([tag, 0, 0, 0]), login.consoleId, proofs(login).rakp4]);
  }

  #command(packet: Buffer): Buffer | undefined {
    const id = packet.readUInt32LE(6);
    const cipher = this.#logins.get(id)?.cipher;
    const message = cipher?.unwrap(packet);
    if (cipher === undefined || message === undefined || message.length < 7) return undefined;
    const answer = this.#run(message, this.#faults.completionCode);
    const isClose = message.readUInt8(1) >> 2 === 0x06 && message.readUInt8(5) === 0x3c;
    if (isClose) this.#logins.delete(id);
    return cipher.wrap(answer);
  }

  // §13.8: who, network function, checksum; whom, number, command, result, checksum.
  #run(message: Buffer, fault?: number): Buffer {
    const [netFn, command] = [message.readUInt8(1) >> 2, message.readUInt8(5)];
    const data = message.subarray(6, -1);
    const result = fault === undefined ? runBmcCommand(netFn, command, data, this.#options.chassis) : [fault];
    const head = [message.readUInt8(3), (netFn + 1) << 2];
    const body = [message.readUInt8(0), message.readUInt8(4), command, ...result];
    return Buffer.from([...head, twosComplement(head), ...body, twosComplement(body)]);
  }
}

function twosComplement(bytes: readonly number[]): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}
