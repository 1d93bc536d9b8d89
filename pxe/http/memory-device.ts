export interface MemoryModule {
  /** As the board names its slot, with its bank where it has one: boards name the slots of each bank alike. */
  readonly slot: string;
  readonly mib: number;
  readonly serial: string;
}

/**
 * Reads one Memory Device of a firmware's SMBIOS table (DMTF DSP0134 3.7, §6.1 and §7.18): the structure, the texts behind it, two
 * zeros. Undefined: the slot is empty, the firmware does not tell what is in it, or this is no such structure.
 */
export function readMemoryDevice(bytes: Buffer): MemoryModule | undefined {
  const length = bytes.length < 2 ? 0 : bytes.readUInt8(LENGTH);
  if (length < SHORTEST || length > bytes.length || bytes.readUInt8(TYPE) !== MEMORY_DEVICE) return undefined;
  const fields = bytes.subarray(0, length);
  const mib = sizeOf(fields);
  if (mib === undefined) return undefined;
  const texts = bytes.subarray(length).toString('latin1').split('\0');
  // Texts are counted from 1; 0 is none. Fields that an older firmware does not have are none, too.
  const text = (at: number) => printable(texts[(fields[at] ?? 0) - 1] ?? '');
  const slot = [text(BANK), text(DEVICE)].filter((name) => name !== '').join(' ');
  return { slot, mib, serial: text(SERIAL) };
}

const MEMORY_DEVICE = 17;

// Offsets, and the length as SMBIOS 2.1 began with it.
const TYPE = 0x00;
const LENGTH = 0x01;
const SIZE = 0x0c;
const DEVICE = 0x10;
const BANK = 0x11;
const SERIAL = 0x18;
const EXTENDED_SIZE = 0x1c;
const SHORTEST = 0x15;

/** In MiB; undefined: nothing there, or unknown. */
function sizeOf(fields: Buffer): number | undefined {
  const size = fields.readUInt16LE(SIZE);
  if (size === 0 || size === 0xffff) return undefined;
  if (size === 0x7fff) {
    // Bit 31 is reserved.
    return fields.length < EXTENDED_SIZE + 4 ? undefined : fields.readUInt32LE(EXTENDED_SIZE) & 0x7fff_ffff;
  }
  return (size & 0x8000) === 0 ? size : Math.floor((size & 0x7fff) / 1024);
}

function printable(text: string): string {
  return text
    .replaceAll(/[^ -~]/g, '')
    .trim()
    .slice(0, LONGEST_NAME);
}

const LONGEST_NAME = 64;
