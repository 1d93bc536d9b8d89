import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';

export interface Suite {
  hash: 'sha1' | 'sha256';
  /** Bytes of a digest that are sent along with a packet. */
  truncated: number;
}

/** By the numbers of authentication, integrity and confidentiality (IPMI 2.0 §13.28): suites 3 and 17. */
export function suiteOf(authentication: number, integrity: number, confidentiality: number): Suite | undefined {
  switch (`${authentication} ${integrity} ${confidentiality}`) {
    case '1 1 1':
      return { hash: 'sha1', truncated: 12 };
    case '3 4 1':
      return { hash: 'sha256', truncated: 16 };
    default:
      return undefined;
  }
}

/** Everything that goes into the proofs and keys of one login; ids as they travel. */
export interface LoginFacts {
  suite: Suite;
  consoleId: Buffer;
  bmcId: Buffer;
  consoleRandom: Buffer;
  bmcRandom: Buffer;
  guid: Buffer;
  role: number;
  username: Buffer;
  password: Buffer;
}

/** The three codes of §13.31. */
export function proofs(login: LoginFacts): { rakp2: Buffer; rakp3: Buffer; rakp4: Buffer } {
  const { suite, consoleId, bmcId, consoleRandom, bmcRandom, guid, password } = login;
  const who = whoOf(login);
  return {
    rakp2: digest(suite, password, [consoleId, bmcId, consoleRandom, bmcRandom, guid, who]),
    rakp3: digest(suite, password, [bmcRandom, consoleId, who]),
    rakp4: digest(suite, sessionKey(login), [consoleRandom, bmcId, guid]).subarray(0, suite.truncated),
  };
}

/** Packets of one open session, both ways. */
export class PacketCipher {
  readonly #suite: Suite;
  readonly #consoleId: Buffer;
  readonly #signingKey: Buffer;
  readonly #cipherKey: Buffer;
  #lastSent = 0;
  #lastHeard = 0;

  constructor(login: LoginFacts) {
    const key = sessionKey(login);
    this.#suite = login.suite;
    this.#consoleId = login.consoleId;
    this.#signingKey = digest(login.suite, key, [Buffer.alloc(20, 1)]);
    this.#cipherKey = digest(login.suite, key, [Buffer.alloc(20, 2)]).subarray(0, 16);
  }

  /** The message in a signed, encrypted packet that is newer than all before. */
  unwrap(packet: Buffer): Buffer | undefined {
    const signatureAt = packet.length - this.#suite.truncated;
    const ciphertextEnd = 16 + packet.readUInt16LE(14);
    if (signatureAt < ciphertextEnd + 2 || (ciphertextEnd - 16) % 16 !== 0 || ciphertextEnd < 48) return undefined;
    if (!this.#sign(packet.subarray(0, signatureAt)).equals(packet.subarray(signatureAt))) return undefined;
    const number = packet.readUInt32LE(10);
    if (number <= this.#lastHeard) return undefined;
    this.#lastHeard = number;
    const decipher = createDecipheriv('aes-128-cbc', this.#cipherKey, packet.subarray(16, 32));
    decipher.setAutoPadding(false);
    const plain = decipher.update(packet.subarray(32, ciphertextEnd));
    const padding = plain.readUInt8(plain.length - 1);
    return plain.subarray(0, Math.max(0, plain.length - padding - 1));
  }

  /** `type` is that of an RMCP+ payload, with the bits that say "signed" and "encrypted": 0xc0 IPMI, 0xc1 SOL. */
  wrap(message: Buffer, type: 0xc0 | 0xc1): Buffer {
    const vector = randomBytes(16);
    const plain = [...message];
    for (let count = 1; (plain.length + 1) % 16 !== 0; count++) plain.push(count);
    plain.push(plain.length - message.length);
    const cipher = createCipheriv('aes-128-cbc', this.#cipherKey, vector);
    cipher.setAutoPadding(false);
    const ciphertext = cipher.update(Buffer.from(plain));

    const header = Buffer.alloc(16);
    header.set([0x06, 0x00, 0xff, 0x07, 0x06, type]);
    this.#consoleId.copy(header, 6);
    header.writeUInt32LE(++this.#lastSent, 10);
    header.writeUInt16LE(16 + ciphertext.length, 14);
    // From the authentication type on: 12 of header, whole blocks, two fixed bytes. So two bytes of padding are due.
    const unsigned = Buffer.concat([header, vector, ciphertext, Buffer.from([0xff, 0xff, 0x02, 0x07])]);
    return Buffer.concat([unsigned, this.#sign(unsigned)]);
  }

  #sign(packet: Buffer): Buffer {
    return digest(this.#suite, this.#signingKey, [packet.subarray(4)]).subarray(0, this.#suite.truncated);
  }
}

function sessionKey(login: LoginFacts): Buffer {
  return digest(login.suite, login.password, [login.consoleRandom, login.bmcRandom, whoOf(login)]);
}

function whoOf({ role, username }: LoginFacts): Buffer {
  return Buffer.concat([Buffer.from([role, username.length]), username]);
}

function digest(suite: Suite, key: Buffer, parts: readonly Buffer[]): Buffer {
  return createHmac(suite.hash, key).update(Buffer.concat(parts)).digest();
}
