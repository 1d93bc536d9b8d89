/**
 * What a switch says of itself and of its port, `sw-7/eth3`, in an Ethernet frame with LLDP (IEEE 802.1AB-2016, §8): its system name,
 * or its chassis ID where it has none, and the port ID. Undefined: this is no such frame, it names nobody, or the switch says good-bye.
 */
export function readLldpFrame(frame: Buffer): string | undefined {
  if (frame.length < HEADER || frame.readUInt16BE(HEADER - 2) !== LLDP) return undefined;
  const fields = fieldsOf(frame.subarray(HEADER));
  const lifetime = fields.get(LIFETIME);
  if (lifetime === undefined || lifetime.length < 2 || lifetime.readUInt16BE(0) === 0) return undefined;
  const name = printable(fields.get(SYSTEM_NAME) ?? Buffer.of());
  const chassis = name === '' ? identity(fields.get(CHASSIS), CHASSIS_TEXTS) : name;
  const port = identity(fields.get(PORT), PORT_TEXTS);
  return chassis === '' || port === '' ? undefined : `${chassis}/${port}`;
}

/** Two MAC addresses and the EtherType. */
const HEADER = 14;
const LLDP = 0x88cc;

// Types of fields (table 8-1), and the subtypes of both IDs that are text (tables 8-2 and 8-3); the others are numbers of some kind.
const END = 0;
const CHASSIS = 1;
const PORT = 2;
const LIFETIME = 3;
const SYSTEM_NAME = 5;
const CHASSIS_TEXTS = [1, 2, 3, 6, 7];
const PORT_TEXTS = [1, 2, 5, 7];

/** Each field by its type, the first of each: seven bits of type, nine of length (§8.4). What is cut ends them. */
function fieldsOf(data: Buffer): ReadonlyMap<number, Buffer> {
  const fields = new Map<number, Buffer>();
  let at = 0;
  while (at + 2 <= data.length) {
    const header = data.readUInt16BE(at);
    const [type, length] = [header >> 9, header & 0x1ff];
    at += 2 + length;
    if (type === END || at > data.length) break;
    if (!fields.has(type)) fields.set(type, data.subarray(at - length, at));
  }
  return fields;
}

/** A chassis or port ID (§8.5.2, §8.5.3): text, or bytes as MACs are written. */
function identity(field: Buffer | undefined, texts: readonly number[]): string {
  const [subtype = 0, ...id] = field ?? [];
  const bytes = Buffer.from(id);
  if (texts.includes(subtype)) return printable(bytes);
  return bytes
    .subarray(0, MOST_BYTES)
    .toString('hex')
    .replaceAll(/..(?=.)/g, '$&:');
}

const MOST_BYTES = 16;

/** As the manifest takes it for a switch port: ASCII, at most 200 characters with the slash. */
function printable(bytes: Buffer): string {
  return bytes
    .toString('latin1')
    .replaceAll(/[^ -~]/g, '')
    .trim()
    .slice(0, LONGEST_NAME)
    .trim();
}

const LONGEST_NAME = 99;
