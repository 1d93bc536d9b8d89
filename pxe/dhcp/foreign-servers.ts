import { networkInterfaces } from 'node:os';

import type { EventLog } from '../../appliance/events/event-log.ts';
import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import type { PacketSocket } from '../../appliance/kernel/packet-socket.ts';
import { openPacketSocket } from '../../appliance/kernel/packet-socket.ts';
import type { Service } from '../../appliance/kernel/service.ts';
import type { Store } from '../../appliance/store/store.ts';
import type { Mac } from '../boot-client.ts';
import { parseMac } from '../boot-client.ts';
import type { Timeline } from '../timeline.ts';
import { noteForeignServer } from './foreign-server-records.ts';
import type { DhcpFrame } from './frame.ts';
import { clientFrame, readDhcpFrame, toDhcpClients } from './frame.ts';
import { messageType, option, readAddress, readMessageType } from './options.ts';
import { BOOT_REPLY, BOOT_REQUEST, BROADCAST_FLAG, encodePacket, NO_ADDRESS, parsePacket } from './packet.ts';

export interface ForeignServersOptions {
  readonly device: string;
  readonly subnetId: string;
  readonly serverAddress: string;
  /** Beside a server that is meant to be there (proxy DHCP), none is worth an alert. */
  readonly expected: boolean;
  readonly store: Store;
  readonly events: Pick<EventLog, 'append'>;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly log: Log;
  readonly open?: typeof openPacketSocket;
  /** Of the device. */
  readonly mac?: Mac | undefined;
}

/**
 * Finds other DHCP servers on the segment. It hears every OFFER and ACK that reaches the device, with the MAC of its frame;
 * and since a switch keeps from us what is sent to a client alone, it asks for an address itself now and then, which it
 * never takes, and at once when a client chose somebody else's offer.
 */
export class ForeignServers implements Service {
  readonly name: string;
  readonly #options: ForeignServersOptions;
  readonly #log: Log;
  /** When each was last written down, by MAC and address. */
  readonly #noted = new Map<string, Millis>();
  #probedAt: Millis = -Infinity;
  #sought = false;

  constructor(options: ForeignServersOptions) {
    this.#options = options;
    this.name = `foreign-dhcp ${options.device}`;
    this.#log = options.log.child({ service: 'foreign-dhcp', device: options.device });
  }

  async run(signal: AbortSignal): Promise<void> {
    const { device, clock, open = openPacketSocket } = this.#options;
    let socket;
    try {
      socket = open(device, toDhcpClients());
    } catch (error) {
      this.#log.warn({ err: error }, 'other DHCP servers can not be looked for');
      return;
    }
    try {
      while (!signal.aborted) {
        for (let frame = socket.receive(); frame !== undefined; frame = socket.receive()) await this.#hear(frame);
        this.#probe(socket);
        await clock.sleepUntil(clock.now() + POLL, signal).catch(() => undefined);
      }
    } finally {
      socket.close();
    }
  }

  /** A client of ours has taken the offer of the server at `address`. */
  chosen(client: Mac, address: string): void {
    this.#sought = true;
    const { timeline, clock, expected } = this.#options;
    if (expected) return;
    const detail = { server: address, meaning: OTHER_SERVER };
    timeline.seen(client, { at: clock.now(), source: 'dhcp', name: 'foreign-chosen', detail });
  }

  #probe(socket: PacketSocket): void {
    const { clock, device, mac = parseMac(networkInterfaces()[device]?.[0]?.mac ?? '') } = this.#options;
    const since = clock.now() - this.#probedAt;
    if (mac === undefined || (since >= 0 && since < (this.#sought ? MINUTE : PROBE_EVERY))) return;
    this.#probedAt = clock.now();
    this.#sought = false;
    try {
      socket.send(clientFrame(mac, discover(mac, clock.now())));
    } catch (error) {
      // The link is down, say.
      this.#log.warn({ err: error }, 'other DHCP servers could not be asked for');
    }
  }

  async #hear(bytes: Buffer): Promise<void> {
    const frame = readDhcpFrame(bytes);
    const answer = frame && readAnswer(frame);
    if (answer === undefined || answer.server === this.#options.serverAddress) return;
    const { timeline, clock, expected } = this.#options;
    const { server, mac, client, type, frame: seen } = answer;
    if (!expected) {
      const detail = { server, serverMac: mac, address: answer.offered, meaning: OTHER_SERVER };
      const packet = { from: `${seen.source}:67`, to: `${seen.destination}:68`, bytes: seen.bytes };
      timeline.seen(client, { at: clock.now(), source: 'dhcp', name: `foreign-${type}`, detail, packet });
    }
    await this.#note(answer).catch((error: unknown) => {
      this.#noted.delete(`${mac} ${server}`);
      this.#log.warn({ err: error, server, mac }, 'another DHCP server could not be written down');
    });
  }

  async #note({ server, mac, client }: ForeignAnswer): Promise<void> {
    const { store, events, clock, subnetId, expected } = this.#options;
    const key = `${mac} ${server}`;
    const at = clock.now();
    const noted = this.#noted.get(key);
    if (noted !== undefined && at >= noted && at - noted < NOTE_EVERY) return;
    // A spoofer may play any number of servers.
    if (this.#noted.size >= MOST_REMEMBERED) this.#noted.clear();
    this.#noted.set(key, at);
    const sighting = { subnetId, server, mac, client, at };
    const isNew = await store.transaction((tx) => noteForeignServer(tx, events, sighting, { alert: !expected }));
    if (isNew && !expected) this.#log.warn({ server, mac, client }, 'another DHCP server is on this segment');
  }
}

interface ForeignAnswer {
  readonly server: string;
  readonly mac: Mac;
  readonly client: Mac;
  readonly type: 'offer' | 'ack';
  readonly offered: string;
  readonly frame: DhcpFrame;
}

const OTHER_SERVER = 'another DHCP server is on this segment';
// Nothing waits for it; the kernel keeps some hundred frames until then.
const POLL: Millis = SECOND / 2;
const PROBE_EVERY: Millis = 5 * MINUTE;
const NOTE_EVERY: Millis = MINUTE;
const MOST_REMEMBERED = 100;

function readAnswer(frame: DhcpFrame): ForeignAnswer | undefined {
  const packet = parsePacket(frame.bytes);
  if (typeof packet === 'string' || packet.op !== BOOT_REPLY) return undefined;
  const type = readMessageType(packet.options);
  const client = parseMac(
    Buffer.from(packet.chaddr.subarray(0, 6))
      .toString('hex')
      .replace(/(..)(?=.)/g, '$1:'),
  );
  const server = readAddress(packet.options, option.serverId) ?? frame.source;
  if ((type !== 'offer' && type !== 'ack') || client === undefined || server === NO_ADDRESS) return undefined;
  return { server, mac: frame.sourceMac, client, type, offered: packet.yiaddr, frame };
}

/** A DISCOVER that asks to be answered by broadcast, so that the answer comes to us whatever address it offers. */
function discover(mac: Mac, now: Millis): Buffer {
  const chaddr = Buffer.alloc(16);
  chaddr.write(mac.replaceAll(':', ''), 'hex');
  return encodePacket({
    op: BOOT_REQUEST,
    hardwareType: 1,
    hardwareLength: 6,
    hops: 0,
    // No one looks for the answer by it.
    xid: now % 2 ** 32,
    secs: 0,
    flags: BROADCAST_FLAG,
    ciaddr: NO_ADDRESS,
    yiaddr: NO_ADDRESS,
    siaddr: NO_ADDRESS,
    giaddr: NO_ADDRESS,
    chaddr,
    sname: '',
    file: '',
    options: new Map([
      [option.messageType, messageType('discover')],
      [option.vendorClass, Buffer.from('rackstart')],
      [option.parameterList, Uint8Array.of(option.subnetMask, option.router)],
    ]),
  });
}
