/** TFTP packets (RFC 1350 §5, RFC 2347): pure, and never trusting a length. */
export type TftpPacket =
  | {
      readonly kind: 'read' | 'write';
      readonly file: string;
      /** In lower case. */
      readonly mode: string;
      /** By name in lower case; of an option named twice, the first. */
      readonly options: ReadonlyMap<string, string>;
    }
  | { readonly kind: 'data' | 'ack'; readonly block: number }
  | { readonly kind: 'error'; readonly code: number; readonly message: string };

/** RFC 1350, appendix. */
export const TFTP_ERROR = {
  undefined: 0,
  fileNotFound: 1,
  accessViolation: 2,
  illegalOperation: 4,
  unknownTransfer: 5,
} as const;

export type TftpErrorCode = (typeof TFTP_ERROR)[keyof typeof TFTP_ERROR];

/** What a client may send; undefined for everything else. */
export function parsePacket(bytes: Buffer): TftpPacket | undefined {
  if (bytes.length < 4) return undefined;
  const number = bytes.readUInt16BE(2);
  switch (bytes.readUInt16BE(0)) {
    case READ:
      return parseRequest('read', bytes);
    case WRITE:
      return parseRequest('write', bytes);
    case DATA:
      return { kind: 'data', block: number };
    case ACK:
      return bytes.length === 4 ? { kind: 'ack', block: number } : undefined;
    case ERROR:
      // Clients forget the terminating zero here; the text is for people only.
      return { kind: 'error', code: number, message: bytes.toString('latin1', 4, 4 + MAX_TEXT).replace(/\0.*/s, '') };
    default:
      return undefined;
  }
}

/** `block` counts without end; on the wire it rolls over from 65535 to 0, as every client that outlives 65535 blocks expects. */
export function encodeData(block: number, data: Buffer, start = 0, end = data.length): Buffer {
  const packet = Buffer.allocUnsafe(4 + end - start);
  packet.writeUInt16BE(DATA, 0);
  packet.writeUInt16BE(block & 0xffff, 2);
  data.copy(packet, 4, start, end);
  return packet;
}

/** An option acknowledgement (RFC 2347). */
export function encodeOptions(options: ReadonlyMap<string, number>): Buffer {
  const text = [...options].map(([name, value]) => `${name}\0${String(value)}\0`).join('');
  return Buffer.from(`\0${String.fromCharCode(OACK)}${text}`, 'latin1');
}

export function encodeError(code: TftpErrorCode, message: string): Buffer {
  return Buffer.from(`\0${String.fromCharCode(ERROR)}\0${String.fromCharCode(code)}${message}\0`, 'latin1');
}

const READ = 1;
const WRITE = 2;
const DATA = 3;
const ACK = 4;
const ERROR = 5;
const OACK = 6;

/** RFC 2347: a request is at most 512 octets. */
const MAX_REQUEST = 512;
const MAX_TEXT = 128;

function parseRequest(kind: 'read' | 'write', bytes: Buffer): TftpPacket | undefined {
  if (bytes.length > MAX_REQUEST) return undefined;
  const texts = bytes.toString('latin1', 2).split('\0');
  // What follows the last zero is cut off, or was never meant.
  const [file, mode, ...rest] = texts.slice(0, -1);
  if (file === undefined || file === '' || mode === undefined) return undefined;
  const options = new Map<string, string>();
  for (let at = 0; at + 1 < rest.length; at += 2) {
    const name = (rest[at] ?? '').toLowerCase();
    // Firmware pads requests with zeros.
    if (name === '') break;
    if (!options.has(name)) options.set(name, rest[at + 1] ?? '');
  }
  return { kind, file, mode: mode.toLowerCase(), options };
}
