import type { RemoteInfo, Socket } from 'node:dgram';

import { SECOND, systemClock } from '../../appliance/kernel/clock.ts';
import type { Millis } from '../../appliance/kernel/clock.ts';
import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';

export interface TftpSource {
  readonly address: string;
  readonly port: number;
  readonly file: string;
  /** The client's own address, where it has several. */
  readonly from?: string;
  /** Asked for when it is not 512. */
  readonly blockSize?: number;
  /** Asked for when it is not 1 (RFC 7440). */
  readonly windowSize?: number;
  /** How long to be silent before it asks again; a second unless told. */
  readonly patience?: Millis;
}

/** The file, and what the server granted. */
export interface Fetched {
  readonly data: Buffer;
  readonly blockSize: number;
  readonly windowSize: number;
}

/**
 * Fetches a file as a boot ROM does, from an address in numbers: acknowledges every window, at a gap the last block in order,
 * every repeated block again, and asks again itself when it has heard nothing for a while, at most ten times. Rejects with what the server
 * refuses it for.
 */
export async function fetchFile(source: TftpSource): Promise<Fetched> {
  const socket = openDeviceSocket({ address: source.from, port: 0 });
  try {
    return await new Download(socket, source).done;
  } finally {
    socket.close();
  }
}

class Download {
  readonly done: Promise<Fetched>;
  readonly #socket: Socket;
  readonly #source: TftpSource;
  readonly #settle = Promise.withResolvers<Fetched>();
  readonly #blocks: Buffer[] = [];
  readonly #request: Buffer;
  /** The port of the transfer, from the first answer on (RFC 1350 §4). */
  #port: number | undefined;
  #blockSize = 512;
  #windowSize = 1;
  #inWindow = 0;
  #gapTold = false;
  #last: Buffer;
  #heardAt: Millis = 0;
  #tries = 0;

  constructor(socket: Socket, source: TftpSource) {
    this.#socket = socket;
    this.#source = source;
    this.#request = this.#last = request(source);
    socket.on('message', (packet, from) => this.#receive(packet, from));
    socket.on('error', (error) => this.#settle.reject(error));
    this.#send(this.#request);
    const timer = setInterval(() => this.#repeat(), SECOND / 10);
    this.done = this.#settle.promise.finally(() => clearInterval(timer));
  }

  #receive(packet: Buffer, { port }: RemoteInfo): void {
    this.#port ??= port;
    if (port !== this.#port || packet.length < 4) return;
    this.#heardAt = systemClock.now();
    this.#tries = 0;
    const kind = packet.readUInt16BE(0);
    if (kind === DATA) this.#data(packet);
    else if (kind === OACK) this.#options(packet);
    else if (kind === ERROR) {
      this.#settle.reject(new Error(`TFTP error ${packet.readUInt16BE(2)}: ${text(packet.subarray(4))}`));
    }
  }

  #options(packet: Buffer): void {
    if (this.#blocks.length > 0) return;
    const words = packet.toString('latin1', 2).split('\0');
    const granted = (name: string) => Number(words[words.indexOf(name) + 1]);
    if (words.includes('blksize')) this.#blockSize = granted('blksize');
    if (words.includes('windowsize')) this.#windowSize = granted('windowsize');
    this.#acknowledge();
  }

  #data(packet: Buffer): void {
    const wanted = this.#blocks.length + 1;
    if (packet.readUInt16BE(2) !== (wanted & 0xffff)) {
      // One acknowledgement a gap: each one makes the server send the window again.
      const old = ((wanted - packet.readUInt16BE(2)) & 0xffff) < 0x8000;
      if (old || !this.#gapTold) this.#acknowledge();
      this.#gapTold = !old;
      return;
    }
    this.#gapTold = false;
    this.#blocks.push(packet.subarray(4));
    this.#inWindow += 1;
    const ended = packet.length - 4 < this.#blockSize;
    if (ended || this.#inWindow >= this.#windowSize) this.#acknowledge();
    if (!ended) return;
    const granted = { blockSize: this.#blockSize, windowSize: this.#windowSize };
    this.#settle.resolve({ data: Buffer.concat(this.#blocks), ...granted });
  }

  #acknowledge(): void {
    this.#inWindow = 0;
    const ack = Buffer.allocUnsafe(4);
    ack.writeUInt16BE(ACK, 0);
    ack.writeUInt16BE(this.#blocks.length & 0xffff, 2);
    this.#send(ack);
  }

  #repeat(): void {
    const { patience = SECOND } = this.#source;
    if (systemClock.now() < this.#heardAt + patience) return;
    this.#tries += 1;
    if (this.#tries > MAX_TRIES) this.#settle.reject(new Error(`no answer for ${this.#source.file}`));
    else this.#send(this.#last);
  }

  #send(packet: Buffer): void {
    this.#last = packet;
    this.#heardAt = systemClock.now();
    this.#socket.send(packet, this.#port ?? this.#source.port, this.#source.address);
  }
}

function request({ file, blockSize = 512, windowSize = 1 }: TftpSource): Buffer {
  const words = [file, 'octet'];
  if (blockSize !== 512) words.push('blksize', String(blockSize));
  if (windowSize !== 1) words.push('windowsize', String(windowSize));
  return Buffer.from(`\0${String.fromCharCode(READ)}${words.join('\0')}\0`, 'latin1');
}

function text(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/\0.*/s, '');
}

const READ = 1;
const DATA = 3;
const ACK = 4;
const ERROR = 5;
const OACK = 6;

const MAX_TRIES = 10;
