/**
 * IPMI messages as they travel inside LAN packets (IPMI 2.0 §13.8): two addresses, a sequence number of six bits to
 * match the answer, two checksums.
 */
export interface IpmiRequest {
  /** For people: the command's name in the specification and what matters of its data. */
  name: string;
  netFn: number;
  cmd: number;
  data: Buffer;
  /**
   * Whether it may be sent again when no answer comes. A second reset would hit a machine that already spent its
   * boot device on the first.
   */
  repeatable: boolean;
}

export interface IpmiResponse {
  netFn: number;
  cmd: number;
  sequence: number;
  completionCode: number;
  data: Buffer;
}

const BMC_ADDRESS = 0x20;
const CONSOLE_ADDRESS = 0x81;

/** `sequence` is 0 to 63. */
export function encodeRequest({ netFn, cmd, data }: IpmiRequest, sequence: number): Buffer {
  const message = Buffer.alloc(7 + data.length);
  message.set([BMC_ADDRESS, netFn << 2, 0, CONSOLE_ADDRESS, sequence << 2, cmd]);
  message.set(data, 6);
  message[2] = checksum(message.subarray(0, 2));
  message[message.length - 1] = checksum(message.subarray(3, -1));
  return message;
}

/** Undefined when it is not an answer, or damaged. */
export function decodeResponse(message: Buffer): IpmiResponse | undefined {
  if (message.length < 8 || message[0] !== CONSOLE_ADDRESS) return undefined;
  if (sum(message.subarray(0, 3)) !== 0 || sum(message.subarray(3)) !== 0) return undefined;
  return {
    netFn: message.readUInt8(1) >> 2,
    sequence: message.readUInt8(4) >> 2,
    cmd: message.readUInt8(5),
    completionCode: message.readUInt8(6),
    data: message.subarray(7, -1),
  };
}

// The answer to a network function is the odd one above it (§5.1).
export function answers(response: IpmiResponse, request: IpmiRequest, sequence: number): boolean {
  return response.sequence === sequence && response.cmd === request.cmd && response.netFn === request.netFn + 1;
}

function checksum(bytes: Buffer): number {
  return (0x100 - sum(bytes)) & 0xff;
}

function sum(bytes: Buffer): number {
  return bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
}
