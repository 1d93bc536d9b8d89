import type { Clock } from '../../appliance/kernel/clock.ts';
import type { Answer } from './bmc-server-sensors.ts';

/** The system event log of a BMC (IPMI 2.0 §31, §32). Full, it takes no more, as on most. */
export class SystemEventLog {
  readonly #clock: Clock;
  #records: { id: number; record: Buffer }[] = [];
  #lastId = 0;
  #reservation = 0;
  #addedAt = 0;
  #erasedAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What the BMC notes by itself: of the power unit, that it went off or came on (table 42-3, type 0x09). */
  powerChanged(on: boolean): void {
    const asserted = on ? 0x80 : 0x00;
    this.#add(Buffer.from([0, 0, SYSTEM_EVENT, 0, 0, 0, 0, BMC, 0, 0x04, 0x09, 0x01, asserted | 0x6f, 0, 0xff, 0xff]));
  }

  /** Network function "storage" (0x0a); undefined for a command that is not of the log. */
  run(command: number, data: Buffer): Answer | undefined {
    switch (command) {
      case 0x40:
        return this.#info();
      case 0x42:
        return [OK, ...le16((this.#reservation = (this.#reservation % 0xffff) + 1))];
      case 0x43:
        return this.#entry(data);
      case 0x44:
        return data.length === 16 ? this.#added(data) : [WRONG_LENGTH];
      case 0x47:
        return this.#clear(data);
      case 0x48:
        return [OK, ...le32(this.#now())];
      default:
        return undefined;
    }
  }

  #info(): Answer {
    const free = (CAPACITY - this.#records.length) * 16;
    return [OK, 0x51, ...le16(this.#records.length), ...le16(free), ...le32(this.#addedAt), ...le32(this.#erasedAt), 2];
  }

  #entry(data: Buffer): Answer {
    if (data.length < 6) return [WRONG_LENGTH];
    const [id, offset, wanted] = [data.readUInt16LE(2), data.readUInt8(4), data.readUInt8(5)];
    const index =
      id === 0 ? 0 : id === LAST ? this.#records.length - 1 : this.#records.findIndex((one) => one.id === id);
    const found = this.#records[index];
    if (found === undefined) return [NOT_PRESENT];
    const next = this.#records[index + 1]?.id ?? LAST;
    return [OK, ...le16(next), ...found.record.subarray(offset, offset + wanted)];
  }

  #added(record: Buffer): Answer {
    const id = this.#add(record);
    return id === undefined ? [OUT_OF_SPACE] : [OK, ...le16(id)];
  }

  // §31.9: "CLR" under a reservation; 0xaa begins, 0x00 asks how far it is.
  #clear(data: Buffer): Answer {
    if (data.length !== 6 || data.toString('latin1', 2, 5) !== 'CLR') return [INVALID];
    if (data.readUInt16LE(0) !== this.#reservation) return [RESERVATION_CANCELLED];
    if (data[5] === 0xaa) {
      this.#records = [];
      this.#erasedAt = this.#now();
    }
    return [OK, 0x01];
  }

  #add(record: Buffer): number | undefined {
    if (this.#records.length >= CAPACITY) return undefined;
    this.#lastId = (this.#lastId % 0xfffe) + 1;
    this.#addedAt = this.#now();
    // Not from the pool: each record that is kept would keep 64 KiB.
    const stamped = Buffer.alloc(record.length);
    record.copy(stamped);
    stamped.writeUInt16LE(this.#lastId, 0);
    stamped.writeUInt32LE(this.#addedAt, 3);
    this.#records.push({ id: this.#lastId, record: stamped });
    return this.#lastId;
  }

  #now(): number {
    return Math.floor(this.#clock.now() / 1000);
  }
}

function le16(value: number): [number, number] {
  return [value & 0xff, value >> 8];
}

function le32(value: number): number[] {
  return [...le16(value & 0xffff), ...le16(value >>> 16)];
}

const CAPACITY = 512;
const BMC = 0x20;
const SYSTEM_EVENT = 0x02;
const LAST = 0xffff;

const OK = 0x00;
const OUT_OF_SPACE = 0xc4;
const RESERVATION_CANCELLED = 0xc5;
const WRONG_LENGTH = 0xc7;
const NOT_PRESENT = 0xcb;
const INVALID = 0xcc;
