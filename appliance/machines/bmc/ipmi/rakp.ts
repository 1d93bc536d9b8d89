/**
 * Opening a session (IPMI 2.0 §13.17 to §13.24, §13.31): the console and the BMC agree on algorithms, prove to each
 * other that they know the user's password, and derive the session's keys. Pure: bytes in, bytes out.
 */
import { createSecretKey } from 'node:crypto';

import { hmac, sameCode } from './cipher-suite.ts';
import type { CipherSuite } from './cipher-suite.ts';
import type { SessionKeys } from './secure-channel.ts';

export interface OpenSession {
  suite: CipherSuite;
  /** Not 0; chosen by us, goes into every packet we get. */
  consoleId: number;
}

/** Asks for the algorithms of one suite and the highest privilege the user may have (§13.17). */
export function encodeOpenRequest(tag: number, { suite, consoleId }: OpenSession): Buffer {
  const message = Buffer.alloc(32);
  message.set([tag, 0, 0, 0]);
  message.writeUInt32LE(consoleId, 4);
  message.set([0, 0, 0, 8, suite.authentication], 8);
  message.set([1, 0, 0, 8, suite.integrity], 16);
  message.set([2, 0, 0, 8, suite.confidentiality], 24);
  return message;
}

/** What the BMC answered: its own id of the session, or one of the status codes of §13.24. */
export type Answer<T> = { value: T } | { refusal: number };

/** §13.18. A BMC that answers with other algorithms than asked for is refused with status 0x11. */
export function decodeOpenResponse(message: Buffer, tag: number, open: OpenSession): Answer<number> | undefined {
  const status = statusOf(message, tag);
  if (status !== 0) return status === undefined ? undefined : { refusal: status };
  if (message.length < 36 || message.readUInt32LE(4) !== open.consoleId) return undefined;
  const { authentication, integrity, confidentiality } = open.suite;
  const agreed = [message[16], message[24], message[32]];
  if (String(agreed) !== String([authentication, integrity, confidentiality])) return { refusal: NO_CIPHER_SUITE };
  return { value: message.readUInt32LE(8) };
}

/** Who we are in this session, and the numbers both sides mix into their proofs. */
export interface Login extends OpenSession {
  bmcId: number;
  /** 16 bytes nobody can guess. */
  consoleRandom: Buffer;
  username: Buffer;
  password: Buffer;
}

/** §13.20: our random number and our name. */
export function encodeRakp1(tag: number, { bmcId, consoleRandom, username }: Login): Buffer {
  const message = Buffer.alloc(28);
  message[0] = tag;
  message.writeUInt32LE(bmcId, 4);
  message.set(consoleRandom, 8);
  message[24] = ROLE;
  message[27] = username.length;
  return Buffer.concat([message, username]);
}

export interface BmcProof {
  bmcRandom: Buffer;
  guid: Buffer;
}

/** §13.21: the BMC's random number and its proof. A proof made with another password is refused with status 0x0f. */
export function decodeRakp2(message: Buffer, tag: number, login: Login): Answer<BmcProof> | undefined {
  const status = statusOf(message, tag);
  if (status !== 0) return status === undefined ? undefined : { refusal: status };
  const { suite, consoleId, bmcId, consoleRandom, password } = login;
  if (message.length < 40 + suite.digestBytes || message.readUInt32LE(4) !== consoleId) return undefined;
  const proof = { bmcRandom: message.subarray(8, 24), guid: message.subarray(24, 40) };
  const parts = [id(consoleId), id(bmcId), consoleRandom, proof.bmcRandom, proof.guid, user(login)];
  const valid = sameCode(hmac(suite, password, ...parts), message.subarray(40, 40 + suite.digestBytes));
  return valid ? { value: proof } : { refusal: WRONG_CHECK_VALUE };
}

/** §13.22: our proof. */
export function encodeRakp3(tag: number, login: Login, { bmcRandom }: BmcProof): Buffer {
  const { suite, consoleId, bmcId, password } = login;
  const header = Buffer.from([tag, 0, 0, 0]);
  return Buffer.concat([header, id(bmcId), hmac(suite, password, bmcRandom, id(consoleId), user(login))]);
}

/** §13.23: the BMC shows that it derived the same session key; returns the two keys it begets (§13.31, §13.32). */
export function decodeRakp4(
  message: Buffer,
  tag: number,
  login: Login,
  bmc: BmcProof,
): Answer<SessionKeys> | undefined {
  const status = statusOf(message, tag);
  if (status !== 0) return status === undefined ? undefined : { refusal: status };
  const { suite, consoleId, bmcId, consoleRandom, password } = login;
  if (message.length < 8 + suite.checkBytes || message.readUInt32LE(4) !== consoleId) return undefined;
  // K_G, the BMC's own key, is the user's password unless an administrator set one ("one-key login", §13.31).
  const sik = hmac(suite, password, consoleRandom, bmc.bmcRandom, user(login));
  const expected = hmac(suite, sik, consoleRandom, id(bmcId), bmc.guid).subarray(0, suite.checkBytes);
  if (!sameCode(expected, message.subarray(8, 8 + suite.checkBytes))) return { refusal: WRONG_CHECK_VALUE };
  const constant = (byte: number) => hmac(suite, sik, Buffer.alloc(20, byte)); // 20 bytes with SHA-256 too
  return { value: { k1: createSecretKey(constant(1)), k2: createSecretKey(constant(2).subarray(0, 16)) } };
}

/** Status codes (§13.24) that say the login itself is wrong, and those that say "not now". */
const NO_CIPHER_SUITE = 0x11;
const WRONG_CHECK_VALUE = 0x0f;
const REFUSED_LOGIN: readonly number[] = [0x09, 0x0a, 0x0c, 0x0d, 0x0e, WRONG_CHECK_VALUE];
const REFUSED_SUITE: readonly number[] = [0x03, 0x04, 0x05, 0x06, 0x07, 0x10, NO_CIPHER_SUITE];
const NO_ROOM: readonly number[] = [0x01, 0x0b];

export function meaning(status: number): 'login' | 'cipher-suite' | 'no-room' | 'other' {
  if (REFUSED_LOGIN.includes(status)) return 'login';
  if (REFUSED_SUITE.includes(status)) return 'cipher-suite';
  return NO_ROOM.includes(status) ? 'no-room' : 'other';
}

// Administrator, looked up by name alone (§13.20, byte 25): looked up by role as well, some BMCs find no such user.
const ROLE = 0x14;

// Errors may be as short as two bytes, but the tag always says which question they answer.
function statusOf(message: Buffer, tag: number): number | undefined {
  return message.length < 2 || message[0] !== tag ? undefined : message[1];
}

function id(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function user({ username }: Login): Buffer {
  return Buffer.concat([Buffer.from([ROLE, username.length]), username]);
}
