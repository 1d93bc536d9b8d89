import { createSocket } from 'node:dgram';
import { once } from 'node:events';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Wire } from './wire.ts';

export interface TftpQuestion {
  readonly server: string;
  /** 69 unless told. */
  readonly port?: number;
  readonly file: string;
  /** The machine's own address. */
  readonly from: string;
  /** Asked for; the server may grant less (RFC 2348). */
  readonly blockSize: number;
  readonly clock: Clock;
  readonly wire: Pick<Wire, 'carry'>;
  readonly signal: AbortSignal;
}

export interface TftpFile {
  readonly bytes: number;
  /** What the server said before it sent any (RFC 2349); undefined when it granted no `tsize`. */
  readonly announced: number | undefined;
}

/**
 * Reads a file by TFTP as a PXE ROM does, with `blksize` and `tsize`, block for block, and keeps nothing of it. An acknowledgement that
 * brings no next block is sent again, five times. Rejects with the server's own message when it says no.
 *
 * Made from RFC 1350 and 2347 to 2349, and not of our server's parts: what it shows is that a stranger understands it.
 */
export async function readByTftp(question: TftpQuestion): Promise<TftpFile> {
  const { from, signal, wire } = question;
  const socket = createSocket('udp4');
  const over = new AbortController();
  const ended = AbortSignal.any([signal, over.signal]);
  try {
    socket.bind(0, from);
    await once(socket, 'listening', { signal });
    const transfer = new Transfer(question, (packet, port) => {
      wire.carry(() => socket.send(packet, port, question.server), ended);
    });
    socket.on('message', (packet, { address, port }) => {
      if (address === question.server) wire.carry(() => transfer.heard(packet, port), ended);
    });
    return await Promise.race([transfer.done, transfer.persist(ended)]);
  } finally {
    over.abort();
    socket.close();
  }
}

const PATIENCE: readonly Millis[] = [1, 1, 2, 4, 8].map((seconds) => seconds * SECOND);

class Transfer {
  readonly done: Promise<TftpFile>;
  readonly #question: TftpQuestion;
  readonly #send: (packet: Buffer, port: number) => void;
  readonly #result = Promise.withResolvers<TftpFile>();
  /** What was sent last: sent again when nothing new comes. */
  #last: Buffer;
  #serverPort: number | undefined;
  #blockSize = 512;
  #announced: number | undefined;
  #block = 0;
  #bytes = 0;

  constructor(question: TftpQuestion, send: (packet: Buffer, port: number) => void) {
    this.#question = question;
    this.#send = send;
    this.done = this.#result.promise;
    this.#last = request(question.file, question.blockSize);
  }

  /** Sends, and sends again, until aborted; rejects when the server has been silent for too long. */
  async persist(signal: AbortSignal): Promise<never> {
    const { clock, port = 69 } = this.#question;
    this.#send(this.#last, port);
    for (let silent = 0; silent < PATIENCE.length;) {
      const sent = this.#last;
      await clock.sleepUntil(clock.now() + PATIENCE[silent]!, signal);
      silent = this.#last === sent ? silent + 1 : 0;
      if (silent > 0) this.#send(sent, this.#serverPort ?? port);
    }
    throw new Error(`the TFTP server fell silent after block ${this.#block} of ${this.#question.file}`);
  }

  heard(packet: Buffer, port: number): void {
    // RFC 1350 §4: the first answer's port is the transfer's; another one is a stranger, or a second answer to a doubled request.
    if (packet.length < 4 || port !== (this.#serverPort ??= port)) return;
    switch (packet.readUInt16BE(0)) {
      case DATA:
        this.#data(packet);
        return;
      case OACK:
        this.#granted(packet);
        return;
      case ERROR: {
        const message = packet.toString('latin1', 4, 132).replace(/\0.*/s, '');
        this.#result.reject(new Error(`the TFTP server refuses ${this.#question.file}: ${message}`));
      }
    }
  }

  #granted(packet: Buffer): void {
    if (this.#block !== 0) return;
    const texts = packet.toString('latin1', 2).split('\0');
    const granted = new Map<string, number>();
    for (let at = 0; at + 1 < texts.length; at += 2) granted.set(texts[at]!.toLowerCase(), Number(texts[at + 1]));
    this.#blockSize = granted.get('blksize') ?? 512;
    this.#announced = granted.get('tsize');
    this.#acknowledge(0);
  }

  #data(packet: Buffer): void {
    const block = packet.readUInt16BE(2);
    // One that was here before is not acknowledged again: that would double every block from here on (RFC 1123 §4.2.3.1).
    if (block !== ((this.#block + 1) & 0xffff)) return;
    this.#block++;
    this.#bytes += packet.length - 4;
    this.#acknowledge(block);
    if (packet.length - 4 < this.#blockSize) this.#result.resolve({ bytes: this.#bytes, announced: this.#announced });
  }

  #acknowledge(block: number): void {
    this.#last = Buffer.from([0, ACK, block >> 8, block & 0xff]);
    this.#send(this.#last, this.#serverPort!);
  }
}

const DATA = 3;
const ACK = 4;
const ERROR = 5;
const OACK = 6;

function request(file: string, blockSize: number): Buffer {
  const words = [file, 'octet', 'blksize', String(blockSize), 'tsize', '0'];
  return Buffer.from(`\0\x01${words.join('\0')}\0`, 'latin1');
}
