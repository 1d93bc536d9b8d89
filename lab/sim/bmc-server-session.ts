import { randomBytes } from 'node:crypto';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { runBmcCommand } from './bmc-server-commands.ts';
import type { BmcParts } from './bmc-server-commands.ts';
import { PacketCipher, proofs, suiteOf } from './bmc-server-crypto.ts';
import type { LoginFacts } from './bmc-server-crypto.ts';
import type { Mishaps } from './bmc-server-faults.ts';
import type { SolSession } from './bmc-server-sol.ts';

export interface BmcAccess {
  readonly username: string;
  readonly password: string;
  /** How many may be logged in at once. */
  readonly sessions: number;
  readonly clock: Clock;
}

type Send = (packet: Buffer) => void;

interface Login extends LoginFacts {
  /** Set by RAKP 1 and 3; commands are heard when it is open. */
  state: 'agreed' | 'challenged' | 'open';
  heardAt: Millis;
  /** To where its last packet came from. */
  send: Send;
  cipher?: PacketCipher;
  sol?: SolSession;
}

/** RMCP, the logins and the sessions of one BMC. */
export class SimulatedBmc {
  readonly #access: BmcAccess;
  readonly #parts: BmcParts;
  readonly #mishaps: Mishaps;
  readonly #logins = new Map<number, Login>();
  readonly #guid = randomBytes(16);

  constructor(access: BmcAccess, parts: BmcParts, mishaps: Mishaps) {
    this.#access = access;
    this.#parts = parts;
    this.#mishaps = mishaps;
  }

  get sessions(): number {
    return [...this.#logins.values()].filter(({ state }) => state === 'open').length;
  }

  /** Takes one datagram, and answers it if it deserves that. Damaged and foreign ones do not. */
  hear(packet: Buffer, send: Send): void {
    const answer = this.#answer(packet, send);
    if (answer !== undefined) send(answer);
  }

  forget(): void {
    this.#logins.clear();
    this.#parts.sol.end();
  }

  #answer(packet: Buffer, send: Send): Buffer | undefined {
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
        return this.#plain(0x11, this.#openSession(payload, send));
      case 0x12:
        return this.#plain(0x13, this.#rakp1(payload));
      case 0x14:
        return this.#plain(0x15, this.#rakp3(payload));
      case 0xc0:
      case 0xc1:
        return this.#inSession(packet, type, send);
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
    const answer = this.#run(message, undefined);
    return Buffer.concat([packet.subarray(0, 13), Buffer.from([answer.length]), answer]);
  }

  #plain(type: number, payload: Buffer | undefined): Buffer | undefined {
    if (payload === undefined) return undefined;
    const header = Buffer.from('0600ff070600' + '00000000' + '00000000' + '0000', 'hex');
    header.writeUInt8(type, 5);
    header.writeUInt16LE(payload.length, 14);
    return Buffer.concat([header, payload]);
  }

  #openSession(payload: Buffer, send: Send): Buffer | undefined {
    if (payload.length < 32) return undefined;
    const [tag, consoleId] = [payload.readUInt8(0), payload.subarray(4, 8)];
    const refuse = (status: number) => Buffer.concat([Buffer.from([tag, status, 0, 0]), consoleId]);
    const suite = suiteOf(payload.readUInt8(12), payload.readUInt8(20), payload.readUInt8(28));
    if (suite === undefined) return refuse(0x11);
    if (!this.#hasRoom()) return refuse(0x01);
    const bmcId = randomBytes(4);
    const nothing = Buffer.alloc(0);
    this.#logins.set(bmcId.readUInt32LE(0), {
      ...{ state: 'agreed', suite, consoleId: Buffer.from(consoleId), bmcId, guid: this.#guid },
      ...{ consoleRandom: nothing, bmcRandom: randomBytes(16), role: 0, username: nothing },
      ...{ heardAt: this.#access.clock.now(), send },
      password: Buffer.from(this.#access.password),
    });
    return Buffer.concat([Buffer.from([tag, 0, 4, 0]), consoleId, bmcId, payload.subarray(8, 32)]);
  }

  // §6.12.15: who has been silent for a minute is logged out. A login that stopped half-way makes room for the next.
  #hasRoom(): boolean {
    const now = this.#access.clock.now();
    for (const [id, login] of this.#logins) {
      if (now - login.heardAt >= SESSION_TIMEOUT) this.#logOut(id);
    }
    if (this.#logins.size < this.#access.sessions) return true;
    const unfinished = [...this.#logins].find(([, { state }]) => state !== 'open');
    if (unfinished !== undefined) this.#logOut(unfinished[0]);
    return unfinished !== undefined;
  }

  #logOut(id: number): void {
    const sol = this.#logins.get(id)?.sol;
    if (sol !== undefined) this.#parts.sol.sessionEnded(sol);
    this.#logins.delete(id);
  }

  #rakp1(payload: Buffer): Buffer | undefined {
    if (payload.length < 28 || payload.length < 28 + payload.readUInt8(27)) return undefined;
    const [tag, login] = [payload.readUInt8(0), this.#logins.get(payload.readUInt32LE(4))];
    if (login === undefined) return Buffer.from([tag, 0x02, 0, 0, 0, 0, 0, 0]);
    const username = payload.subarray(28, 28 + payload.readUInt8(27));
    if (username.toString() !== this.#access.username) {
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
      this.#logOut(id);
      return Buffer.concat([Buffer.from([tag, 0x0f, 0, 0]), login.consoleId]);
    }
    login.state = 'open';
    login.cipher ??= new PacketCipher(login); // asked twice when our answer was lost: the same session
    return Buffer.concat([Buffer.from([tag, 0, 0, 0]), login.consoleId, proofs(login).rakp4]);
  }

  #inSession(packet: Buffer, type: number, send: Send): Buffer | undefined {
    const id = packet.readUInt32LE(6);
    const login = this.#logins.get(id);
    const cipher = login?.cipher;
    const message = cipher?.unwrap(packet);
    if (login === undefined || cipher === undefined || message === undefined) return undefined;
    login.heardAt = this.#access.clock.now();
    login.send = send;
    login.sol ??= { id: login.bmcId, send: (payload) => login.send(cipher.wrap(payload, 0xc1)) };
    if (type === 0xc1) {
      this.#parts.sol.hear(message, login.sol);
      return undefined;
    }
    if (message.length < 7) return undefined;
    const answer = this.#run(message, login.sol);
    const isClose = message.readUInt8(1) >> 2 === 0x06 && message.readUInt8(5) === 0x3c;
    if (isClose) this.#logOut(id);
    return cipher.wrap(answer, 0xc0);
  }

  // §13.8: who, network function, checksum; whom, number, command, result, checksum.
  #run(message: Buffer, session: SolSession | undefined): Buffer {
    const [netFn, command] = [message.readUInt8(1) >> 2, message.readUInt8(5)];
    const data = message.subarray(6, -1);
    const { completionCode, times, ...faults } = session === undefined ? FAULTLESS : this.#mishaps.command();
    const run = () => runBmcCommand(netFn, command, data, this.#parts, session, faults);
    if (times === 2 && completionCode === 0) run();
    const result = completionCode === 0 ? run() : [completionCode];
    const head = [message.readUInt8(3), (netFn + 1) << 2];
    const body = [message.readUInt8(0), message.readUInt8(4), command, ...result];
    return Buffer.from([...head, twosComplement(head), ...body, twosComplement(body)]);
  }
}

const SESSION_TIMEOUT: Millis = 60_000;

// Outside of a session a BMC tells no more than what it can.
const FAULTLESS = { completionCode: 0, times: 1, liesAboutPower: false, dropsBootFlags: false } as const;

function twosComplement(bytes: readonly number[]): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}
