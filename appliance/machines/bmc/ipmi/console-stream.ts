/**
 * Serial-over-LAN packets (IPMI 2.0 §15.9): a number, the number that is acknowledged, how many characters were accepted, a
 * byte of status, then characters. Pure; a BMC may send anything.
 */
export interface ConsoleOutput {
  /** What the machine printed and was not heard before. */
  readonly characters: Buffer;
  /** The BMC could not keep up: characters before these are gone. */
  readonly lost: boolean;
  /** The BMC has ended it, or given it to somebody else. */
  readonly ended: boolean;
  /** What the BMC must get; until then it sends the same again. */
  readonly acknowledgement: Buffer | undefined;
}

/** What comes from one activation of a console, each character once. */
export class ConsoleStream {
  #number = 0;
  #taken = 0;

  /** Undefined for what is cut short. */
  take(packet: Buffer): ConsoleOutput | undefined {
    if (packet.length < HEADER) return undefined;
    const [number, status] = [packet.readUInt8(0) & 0x0f, packet.readUInt8(3)];
    const flags = { lost: (status & OVERRUN) !== 0, ended: (status & DEACTIVATING) !== 0 };
    // Number 0 carries no characters: an acknowledgement, or a word of its status.
    if (number === 0) return { ...flags, characters: Buffer.alloc(0), acknowledgement: undefined };
    const characters = packet.subarray(HEADER, HEADER + MOST_ACCEPTED);
    // §15.11: one whose acknowledgement was lost comes again, and may have grown meanwhile.
    const known = number === this.#number ? this.#taken : 0;
    this.#number = number;
    this.#taken = Math.max(known, characters.length);
    const acknowledgement = Buffer.from([0, number, characters.length, 0]);
    return { ...flags, characters: characters.subarray(known), acknowledgement };
  }
}

const HEADER = 4;
const MOST_ACCEPTED = 0xff; // what the count in an acknowledgement can say
const OVERRUN = 0x08;
const DEACTIVATING = 0x10;
