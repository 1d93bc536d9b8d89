/** Entries of the system event log (IPMI 2.0 §31.5, §32.1), and what they say of the hardware (table 42-3). Pure. */
import type { HardwareFault } from '../bmc.ts';

export interface LoggedEvent {
  readonly id: number;
  /** The id of the entry behind it; `eventIds.end` when it is the newest. */
  readonly next: number;
  /** Undefined for what says nothing of a fault. */
  readonly fault: HardwareFault | undefined;
}

/** Ids that no entry has: they ask for the first and the newest, and say that none comes behind. */
export const eventIds = { oldest: 0x0000, newest: 0xffff, end: 0xffff } as const;

/** Undefined when cut short, or of an id that no entry can have. */
export function decodeEvent(data: Buffer): LoggedEvent | undefined {
  if (data.length < 2 + RECORD_BYTES) return undefined;
  const record = data.subarray(2, 2 + RECORD_BYTES);
  const id = record.readUInt16LE(0);
  if (id === eventIds.oldest || id === eventIds.newest) return undefined;
  return { id, next: data.readUInt16LE(0), fault: faultIn(id, record) };
}

const RECORD_BYTES = 16;

/** Of what the BMC records by the specification, and of faults that came, not of those that went. */
function faultIn(id: number, record: Buffer): HardwareFault | undefined {
  if (record[2] !== SYSTEM_EVENT || record[12] !== SENSOR_SPECIFIC_ASSERTED) return undefined;
  const [type, sensor, data, detail] = [...record.subarray(10, 12), ...record.subarray(13, 15)];
  const [part, events] = faults[type ?? 0] ?? [];
  const event = events?.[(data ?? 0) & 0x0f];
  if (part === undefined || event === undefined) return undefined;
  const isExplained = ((data ?? 0) & 0xc0) === EXPLAINED_BY_DETAIL;
  if (part === 'firmware' && isExplained && harmless.has(detail ?? 0)) return undefined;
  return { part, event, record: id, sensor: sensor ?? 0 };
}

const SYSTEM_EVENT = 0x02;
// §32.1: bit 7 of the event type is clear when the event came; 0x6f says that its sensor's type tells what its offset means.
const SENSOR_SPECIFIC_ASSERTED = 0x6f;
// §29.7: the second byte of event data extends the first.
const EXPLAINED_BY_DETAIL = 0xc0;

/** By sensor type, then by offset: what a machine does not get over, and no threshold, presence or prediction. */
const faults: Readonly<Record<number, readonly [HardwareFault['part'], Readonly<Record<number, string>>]>> = {
  0x07: ['processor', { 0x0: 'IERR', 0x1: 'Thermal Trip', 0xb: 'Uncorrectable machine check exception' }],
  0x08: ['power supply', { 0x1: 'Power Supply Failure detected' }],
  0x0c: ['memory', { 0x1: 'Uncorrectable ECC', 0x2: 'Parity' }],
  0x0d: ['disk', { 0x1: 'Drive Fault' }],
  0x0f: ['firmware', { 0x0: 'System Firmware Error (POST Error)', 0x1: 'System Firmware Hang' }],
};

/** POST errors that a server without keyboard and screen lives with: diskette, keyboard, removable medium, video. */
const harmless: ReadonlySet<number> = new Set([0x05, 0x07, 0x08, 0x09, 0x0a]);
