/** RMCP packets (IPMI 2.0 §13.1.3; ASF 2.0 §3.2): four bytes in front of everything on UDP port 623. */
const HEADER = Buffer.from([0x06, 0x00, 0xff, 0x07]); // version 1.0, no acknowledgement wanted, class IPMI
const AUTHTYPE_NONE = 0x00;
const AUTHTYPE_RMCP_PLUS = 0x06;

/** Payload types (§13.27.3). */
export const payload = {
  ipmi: 0x00,
  /** Serial-over-LAN. */
  sol: 0x01,
  openRequest: 0x10,
  openResponse: 0x11,
  rakp1: 0x12,
  rakp2: 0x13,
  rakp3: 0x14,
  rakp4: 0x15,
};

const ENCRYPTED = 0x80;
const AUTHENTICATED = 0x40;

/** An IPMI message outside a session, in the IPMI 1.5 wrapper (§13.6) every BMC understands. */
export function encodeSessionless(message: Buffer): Buffer {
  return Buffer.concat([HEADER, Buffer.alloc(9), Buffer.from([message.length]), message]);
}

export function decodeSessionless(packet: Buffer): Buffer | undefined {
  if (packet.length < 14 || !isIpmi(packet) || packet[4] !== AUTHTYPE_NONE) return undefined;
  const end = 14 + packet.readUInt8(13);
  return packet.length < end ? undefined : packet.subarray(14, end);
}

/** One RMCP+ packet (§13.6, table 13-8) up to and without its session trailer. */
export interface SessionPacket {
  payloadType: number;
  /** Both or neither, in the cipher suites spoken here. */
  secured: boolean;
  sessionId: number;
  sequence: number;
  payload: Buffer;
}

export function encodeSessionPacket({ payloadType, secured, sessionId, sequence, payload }: SessionPacket): Buffer {
  const header = Buffer.alloc(16);
  HEADER.copy(header);
  header[4] = AUTHTYPE_RMCP_PLUS;
  header[5] = payloadType | (secured ? ENCRYPTED | AUTHENTICATED : 0);
  header.writeUInt32LE(sessionId, 6);
  header.writeUInt32LE(sequence, 10);
  header.writeUInt16LE(payload.length, 14);
  return Buffer.concat([header, payload]);
}

/** Undefined for anything else than a whole RMCP+ packet, or one that is secured only half. */
export function decodeSessionPacket(packet: Buffer): SessionPacket | undefined {
  if (packet.length < 16 || !isIpmi(packet) || packet[4] !== AUTHTYPE_RMCP_PLUS) return undefined;
  const flags = packet.readUInt8(5) & (ENCRYPTED | AUTHENTICATED);
  const end = 16 + packet.readUInt16LE(14);
  if (packet.length < end || flags === ENCRYPTED || flags === AUTHENTICATED) return undefined;
  return {
    payloadType: packet.readUInt8(5) & 0x3f,
    secured: flags !== 0,
    sessionId: packet.readUInt32LE(6),
    sequence: packet.readUInt32LE(10),
    payload: packet.subarray(16, end),
  };
}

/** Where the signed part of a packet begins: behind the RMCP header (§13.28.4). */
export const SIGNED_FROM = 4;

/** Presence ping and pong (ASF 2.0 §3.2.4.2, §3.2.4.3; IPMI 2.0 §13.2.3), which a BMC answers before any login. */
export function encodePing(tag: number): Buffer {
  return Buffer.from([0x06, 0x00, 0xff, 0x06, ...ASF_ENTERPRISE, 0x80, tag, 0x00, 0x00]);
}

export function isPong(packet: Buffer, tag: number): boolean {
  if (packet.length < 12 || packet[0] !== 0x06 || packet[3] !== 0x06) return false;
  return packet.subarray(4, 8).equals(Buffer.from(ASF_ENTERPRISE)) && packet[8] === 0x40 && packet[9] === tag;
}

const ASF_ENTERPRISE = [0x00, 0x00, 0x11, 0xbe];

function isIpmi(packet: Buffer): boolean {
  return packet[0] === 0x06 && packet[3] === 0x07;
}
