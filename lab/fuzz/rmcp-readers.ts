import { createIds } from '../../appliance/kernel/ids.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { cipherSuite, hmac } from '../../appliance/machines/bmc/ipmi/cipher-suite.ts';
import type { CipherSuite } from '../../appliance/machines/bmc/ipmi/cipher-suite.ts';
import * as commands from '../../appliance/machines/bmc/ipmi/commands.ts';
import { ConsoleStream } from '../../appliance/machines/bmc/ipmi/console-stream.ts';
import { decodeResponse } from '../../appliance/machines/bmc/ipmi/message.ts';
import * as rakp from '../../appliance/machines/bmc/ipmi/rakp.ts';
import * as rmcp from '../../appliance/machines/bmc/ipmi/rmcp.ts';
import { SecureChannel } from '../../appliance/machines/bmc/ipmi/secure-channel.ts';
import type { SessionKeys } from '../../appliance/machines/bmc/ipmi/secure-channel.ts';
import { proofs } from '../sim/bmc-server-crypto.ts';
import type { Dice } from './dice.ts';
import { hostilePacket } from './rmcp-inputs.ts';

/** Both ends of a session of one suite, with the answers of its login, which the readers are fed in a changed form. */
export class Readers {
  readonly #suite: CipherSuite;
  readonly #login: rakp.Login;
  readonly #bmc: rakp.BmcProof;
  readonly #keys: SessionKeys;
  readonly #answers: { readonly open: Buffer; readonly rakp2: Buffer; readonly rakp4: Buffer };
  #ours: SecureChannel;
  #theirs: SecureChannel;

  constructor(id: 3 | 17, dice: Dice) {
    this.#suite = cipherSuite(id);
    const [consoleRandom, bmcRandom, guid] = [dice.bytes(16), dice.bytes(16), dice.bytes(16)];
    const named = { username: Buffer.from('admin'), password: Buffer.from('secret12') };
    this.#login = { suite: this.#suite, consoleId: CONSOLE_ID, bmcId: BMC_ID, consoleRandom, ...named };
    const [consoleId, bmcId] = [idBytes(CONSOLE_ID), idBytes(BMC_ID)];
    const suite = { hash: this.#suite.hash, truncated: this.#suite.checkBytes };
    const proof = proofs({ suite, consoleId, bmcId, consoleRandom, bmcRandom, guid, role: 0x14, ...named });
    const { authentication, integrity, confidentiality } = this.#suite;
    const algorithms = [
      0,
      0,
      0,
      8,
      authentication,
      0,
      0,
      0,
      1,
      0,
      0,
      8,
      integrity,
      0,
      0,
      0,
      2,
      0,
      0,
      8,
      confidentiality,
      0,
      0,
      0,
    ];
    this.#answers = {
      open: Buffer.concat([Buffer.of(TAG, 0, 4, 0), consoleId, bmcId, Buffer.from(algorithms)]),
      rakp2: Buffer.concat([Buffer.of(TAG, 0, 0, 0), consoleId, bmcRandom, guid, proof.rakp2]),
      rakp4: Buffer.concat([Buffer.of(TAG, 0, 0, 0), consoleId, proof.rakp4]),
    };
    this.#bmc = { bmcRandom, guid };
    const keys = rakp.decodeRakp4(this.#answers.rakp4, TAG, this.#login, this.#bmc);
    if (keys === undefined || !('value' in keys)) throw new Error('the right answers are not taken');
    this.#keys = keys.value;
    [this.#ours, this.#theirs] = this.#channels();
  }

  /** Has one input read. Nothing may throw, and nothing may be believed that the BMC of this session did not say. */
  read(dice: Dice): 'opened' | 'decoded' | 'refused' {
    switch (dice.below(4)) {
      case 0:
        return this.#loginAnswer(dice);
      case 1:
        return this.#sealed(dice);
      case 2:
        return this.#signed(dice);
      default:
        return this.#anything(hostilePacket(dice, this.#theirs.seal(chassisAnswer)));
    }
  }

  /** The good exchange: a right login and a right answer are believed, an answer that comes twice is not. */
  check(): void {
    [this.#ours, this.#theirs] = this.#channels();
    const { open, rakp2, rakp4 } = this.#answers;
    const taken = [
      rakp.decodeOpenResponse(open, TAG, this.#login),
      rakp.decodeRakp2(rakp2, TAG, this.#login),
      rakp.decodeRakp4(rakp4, TAG, this.#login, this.#bmc),
    ];
    if (!taken.every((answer) => answer !== undefined && 'value' in answer)) throw new Error('a right login failed');
    const packet = this.#theirs.seal(chassisAnswer);
    const response = decodeResponse(this.#ours.open(packet)?.message ?? Buffer.alloc(0));
    const power = response && commands.chassisStatus().decode(response.data);
    if (power !== 'on') throw new Error(`the power was read as ${power}`);
    if (this.#ours.open(packet) !== undefined) throw new Error('an answer was believed twice');
  }

  #loginAnswer(dice: Dice): 'decoded' | 'refused' {
    const { open, rakp2, rakp4 } = this.#answers;
    const which = dice.below(3);
    const right = [open, rakp2, rakp4][which]!;
    const header = Buffer.alloc(16);
    const changed = hostilePacket(dice, Buffer.concat([header, right])).subarray(header.length);
    switch (which) {
      case 0:
        return valueOf(rakp.decodeOpenResponse(changed, TAG, this.#login)) === undefined ? 'refused' : 'decoded';
      case 1: {
        const proof = valueOf(rakp.decodeRakp2(changed, TAG, this.#login));
        if (proof === undefined) return 'refused';
        const { bmcRandom, guid } = this.#bmc;
        if (!proof.bmcRandom.equals(bmcRandom) || !proof.guid.equals(guid))
          throw new Error('a forged RAKP 2 was believed');
        return 'decoded';
      }
      default: {
        const keys = valueOf(rakp.decodeRakp4(changed, TAG, this.#login, this.#bmc));
        return keys === undefined ? 'refused' : 'decoded';
      }
    }
  }

  /** A message that the BMC signed and that makes no sense: it is opened, and read as every answer there is. */
  #sealed(dice: Dice): 'opened' | 'refused' {
    const message = hostilePacket(dice, dice.pick([chassisAnswer, flagsAnswer, consoleAnswer]));
    const opened = this.#ours.open(this.#theirs.seal(message, dice.pick([rmcp.payload.ipmi, rmcp.payload.ipmi, 1, 2])));
    if (opened === undefined || !opened.message.equals(message))
      throw new Error('what the BMC sealed is not what was opened');
    this.#decodeAll(opened.message);
    return 'opened';
  }

  /** Rightly signed, with a payload that no right BMC would encrypt. */
  #signed(dice: Dice): 'opened' | 'refused' {
    const payload = dice.bytes(dice.pick([0, 1, 15, 16, 17, 31, 32, 33, 48, 64, dice.length(400)]));
    const header = {
      payloadType: rmcp.payload.ipmi,
      secured: true,
      sessionId: CONSOLE_ID,
      sequence: 1 + dice.below(2 ** 31),
    };
    const packet = rmcp.encodeSessionPacket({ ...header, payload });
    const trailer = Buffer.concat([dice.bytes(dice.below(4)), Buffer.of(dice.below(256), 0x07)]);
    const whole = Buffer.concat([packet, trailer]);
    const code = hmac(this.#suite, this.#keys.k1, whole.subarray(rmcp.SIGNED_FROM)).subarray(0, this.#suite.checkBytes);
    // A window of its own: the number of a packet like this would make all that follow old.
    const [ours] = this.#channels();
    const opened = ours.open(Buffer.concat([whole, code]));
    if (opened === undefined) return 'refused';
    this.#decodeAll(opened.message);
    return 'opened';
  }

  #anything(packet: Buffer): 'refused' {
    const session = rmcp.decodeSessionPacket(packet);
    if (session !== undefined && session.payload.length > packet.length) throw new Error('more payload than packet');
    rmcp.isPong(packet, TAG);
    const message = rmcp.decodeSessionless(packet);
    if (message !== undefined) this.#decodeAll(message);
    const opened = this.#ours.open(packet);
    // Unchanged, or changed and back: then it is the BMC's own word.
    if (opened !== undefined && !opened.message.equals(chassisAnswer)) throw new Error('a forged packet was believed');
    return 'refused';
  }

  #decodeAll(message: Buffer): void {
    const data = decodeResponse(message)?.data ?? message;
    for (const decode of decoders) decode(data);
    const stream = new ConsoleStream();
    for (const packet of [message, data]) {
      const output = stream.take(packet);
      if (output !== undefined && output.characters.length > packet.length)
        throw new Error('more characters than bytes');
    }
  }

  #channels(): [SecureChannel, SecureChannel] {
    const ids = createIds(new ManualClock());
    return [
      new SecureChannel(this.#suite, this.#keys, CONSOLE_ID, BMC_ID, ids),
      new SecureChannel(this.#suite, this.#keys, BMC_ID, CONSOLE_ID, ids),
    ];
  }
}

const decoders: readonly ((data: Buffer) => unknown)[] = [
  commands.chassisStatus().decode,
  commands.getBootFlags().decode,
  commands.deviceId().decode,
  commands.systemGuid().decode,
  commands.channelAuthCapabilities().decode,
  commands.consoleEnabled().decode,
  commands.eventLogInfo().decode,
  commands.eventLogEntry(1).decode,
];

const TAG = 9;
const CONSOLE_ID = 0x0a0b0c0d;
const BMC_ID = 0x01020304;
// Get Chassis Status: on; Get System Boot Options: PXE once; a word of the console.
const chassisAnswer = answerOf(0x01, 0x01, 0x21, 0x00, 0x40);
const flagsAnswer = answerOf(0x01, 0x09, 0x01, 0x05, 0xa0, 0x04, 0x00, 0x00, 0x00);
const consoleAnswer = Buffer.from('0100000048656c6c6f0d0a', 'hex');

/** A BMC's answer without an error, with its two checksums (IPMI 2.0 §13.8). */
function answerOf(netFn: number, command: number, ...data: number[]): Buffer {
  const checked = (bytes: number[]) => [...bytes, -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff];
  return Buffer.from([...checked([0x81, netFn << 2]), ...checked([0x20, 0x04, command, 0x00, ...data])]);
}

function valueOf<T>(answer: rakp.Answer<T> | undefined): T | undefined {
  return answer !== undefined && 'value' in answer ? answer.value : undefined;
}

function idBytes(id: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(id);
  return bytes;
}
