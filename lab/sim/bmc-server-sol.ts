import type { Answer } from './bmc-server-sensors.ts';

/** The serial port of a simulated machine, from the side of its BMC. */
export interface SerialLine {
  /** Tells what the machine prints from now on, until the returned function is called. */
  listen(listener: (bytes: Buffer) => void): () => void;
  /** What somebody types. */
  type(bytes: Buffer): void;
}

/** A serial port that a simulated machine prints to. What nobody listens to is gone. */
export class SerialPort implements SerialLine {
  readonly typed: Buffer[] = [];
  #listener: ((bytes: Buffer) => void) | undefined;

  listen(listener: (bytes: Buffer) => void): () => void {
    this.#listener = listener;
    return () => {
      if (this.#listener === listener) this.#listener = undefined;
    };
  }

  get listened(): boolean {
    return this.#listener !== undefined;
  }

  type(bytes: Buffer): void {
    this.typed.push(Buffer.from(bytes));
  }

  print(text: string | Buffer): void {
    this.#listener?.(Buffer.from(text));
  }
}

/** A session as far as serial-over-LAN needs it. */
export interface SolSession {
  readonly id: Buffer;
  /** Sends a payload of type 1 (SOL), signed and encrypted. */
  send(payload: Buffer): void;
}

/**
 * Serial-over-LAN of a BMC whose machine has a serial port (IPMI 2.0 §15, §24, §26): one instance, for one session at a time.
 * Data packets carry a number and are sent again until they are acknowledged; an acknowledgement of a part of one is
 * answered by the rest, under the next number.
 */
export class SerialOverLan {
  readonly #line: SerialLine | undefined;
  readonly #port: number;
  #active: { session: SolSession; release: () => void } | undefined;
  #waiting = Buffer.alloc(0);
  #overrun = false;
  #sent: { number: number; characters: Buffer; tries: number; timer: NodeJS.Timeout } | undefined;
  #lastNumber = 0;
  #heardNumber = 0;
  #heardLength = 0;

  /** `port` is where the BMC listens: payloads travel as commands do. */
  constructor(line: SerialLine | undefined, port: number) {
    this.#line = line;
    this.#port = port;
  }

  /** Network functions "app" (0x06) and "transport" (0x0c); undefined for a command that is not of payloads. */
  run(netFn: number, command: number, data: Buffer, session: SolSession | undefined): Answer | undefined {
    switch (`${netFn} ${command}`) {
      case '6 72':
        return session && this.#activate(data, session);
      case '6 73':
        return this.#deactivate(data);
      case '6 74':
        return data[0] === SOL ? [OK, 1, this.#active === undefined ? 0 : 1, 0] : [INVALID];
      case '6 75':
        return [OK, ...(this.#active?.session.id.toReversed() ?? [0, 0, 0, 0]), ...Array<number>(8).fill(0)];
      case '6 78':
        return [OK, this.#line === undefined ? 0b01 : 0b11, 0, 0x3f, 0, 0, 0, 0, 0];
      case '6 79':
        return this.#line !== undefined && data[1] === SOL ? [OK, 0x10] : [NOT_AVAILABLE];
      case '12 34':
        return this.#parameter(data[1]);
      default:
        return undefined;
    }
  }

  /** A payload of type 1 that a session sent; what is not of the session that has the console is ignored. */
  hear(payload: Buffer, session: SolSession): void {
    if (payload.length < 4 || !this.#isActive(session)) return;
    const [number, acknowledged, accepted, operation] = [...payload.subarray(0, 4)] as [number, number, number, number];
    if (acknowledged !== 0) this.#acknowledged(acknowledged, accepted, (operation & NACK) !== 0);
    if (number === 0) return;
    const characters = payload.subarray(4);
    // One that came before, because our acknowledgement was lost, is acknowledged again and typed once.
    const fresh = number === this.#heardNumber ? characters.subarray(this.#heardLength) : characters;
    [this.#heardNumber, this.#heardLength] = [number, characters.length];
    if (fresh.length > 0) this.#line?.type(fresh);
    session.send(Buffer.from([0, number, characters.length, 0]));
  }

  /** Ends what this session has of the console: it was closed, or timed out. */
  sessionEnded(session: SolSession): void {
    if (this.#isActive(session)) this.end();
  }

  end(): void {
    this.#active?.release();
    this.#active = undefined;
    clearTimeout(this.#sent?.timer);
    this.#sent = undefined;
    this.#waiting = Buffer.alloc(0);
  }

  #isActive(session: SolSession): boolean {
    return this.#active?.session.id.equals(session.id) === true;
  }

  // §24.1: sizes, port, no VLAN.
  #activate(data: Buffer, session: SolSession): Answer {
    if (this.#line === undefined) return [PAYLOAD_DISABLED];
    if (data.length !== 6 || data[0] !== SOL || data[1] !== 1) return [INVALID];
    if ((data.readUInt8(2) & ENCRYPTED) === 0) return [NOT_WITHOUT_ENCRYPTION];
    if (this.#active !== undefined && !this.#isActive(session)) return [ALREADY_ACTIVE];
    if (this.#active === undefined) {
      const release = this.#line.listen((bytes) => this.#print(bytes));
      this.#active = { session, release };
      [this.#lastNumber, this.#heardNumber] = [0, 0];
    }
    const size = [MOST_CHARACTERS + 4, 0];
    return [OK, 0, 0, 0, 0, ...size, ...size, ...this.#portBytes(), 0xff, 0xff];
  }

  // §24.2: anybody with the privilege may take it away; who had it is told by a packet that says so.
  #deactivate(data: Buffer): Answer {
    if (data[0] !== SOL) return [INVALID];
    if (this.#active === undefined) return [NOT_ACTIVE];
    this.#active.session.send(Buffer.from([0, 0, 0, DEACTIVATING]));
    this.end();
    return [OK];
  }

  // §26.3: what a client reads before it activates.
  #parameter(number: number | undefined): Answer {
    const parameters: Record<number, readonly number[]> = {
      0: [0], // not being set
      1: [this.#line === undefined ? 0 : 1], // enabled
      2: [0xc4], // encrypted and signed, by administrators
      3: [4, MOST_CHARACTERS], // accumulates for 20 ms
      4: [RETRIES, RETRY_MS / 10],
      5: [0x0a], // 115.2 kbit/s
      6: [0x0a],
      7: [0x01], // channel
      8: this.#portBytes(),
    };
    const value = number === undefined ? undefined : parameters[number];
    return value === undefined ? [0x80] : [OK, 0x11, ...value];
  }

  #portBytes(): number[] {
    return [this.#port & 0xff, this.#port >> 8];
  }

  #print(bytes: Buffer): void {
    const all = Buffer.concat([this.#waiting, bytes]);
    if (all.length > MOST_WAITING) this.#overrun = true;
    this.#waiting = all.subarray(-MOST_WAITING);
    this.#sendNext();
  }

  #sendNext(): void {
    if (this.#sent !== undefined || this.#active === undefined || this.#waiting.length === 0) return;
    const characters = this.#waiting.subarray(0, MOST_CHARACTERS);
    this.#waiting = this.#waiting.subarray(characters.length);
    this.#lastNumber = (this.#lastNumber % 15) + 1;
    this.#transmit({ number: this.#lastNumber, characters, tries: 0, status: this.#overrun ? OVERRUN : 0 });
    this.#overrun = false;
  }

  #transmit(packet: { number: number; characters: Buffer; tries: number; status: number }): void {
    const { number, characters, tries, status } = packet;
    if (tries > RETRIES) {
      // Table 26-5, parameter 4: characters that nobody acknowledges are dropped.
      this.#sent = undefined;
      this.#overrun = true;
      this.#sendNext();
      return;
    }
    const timer = setTimeout(() => this.#transmit({ ...packet, tries: tries + 1 }), RETRY_MS);
    this.#sent = { number, characters, tries, timer };
    this.#active?.session.send(Buffer.concat([Buffer.from([number, 0, 0, status]), characters]));
  }

  #acknowledged(number: number, accepted: number, refused: boolean): void {
    if (this.#sent?.number !== number) return;
    const { characters, timer } = this.#sent;
    if (refused && accepted === 0) return; // sent again when its time has come
    clearTimeout(timer);
    this.#sent = undefined;
    this.#waiting = Buffer.concat([characters.subarray(accepted), this.#waiting]);
    this.#sendNext();
  }
}

const OK = 0x00;
const INVALID = 0xcc;
const NOT_AVAILABLE = 0x80;
// §24.1 and §24.2, completion codes of payloads.
const ALREADY_ACTIVE = 0x80;
const NOT_ACTIVE = 0x80;
const PAYLOAD_DISABLED = 0x81;
const NOT_WITHOUT_ENCRYPTION = 0x84;

const SOL = 1;
const ENCRYPTED = 0x80;
const NACK = 0x40;
const DEACTIVATING = 0x10;
const OVERRUN = 0x08;
const MOST_CHARACTERS = 200;
const MOST_WAITING = 64 * 1024;
const RETRIES = 7;
const RETRY_MS = 100;
