import { networkInterfaces } from 'node:os';

import ipaddr from 'ipaddr.js';

import { SECOND, type Clock, type Millis } from '../appliance/kernel/clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { Log } from '../appliance/kernel/log.ts';
import { openRawIcmp6, type RawIcmp6 } from '../appliance/kernel/native-socket.ts';
import type { Service } from '../appliance/kernel/service.ts';

/** A provisioning interface and the IPv6 prefix announced on it, such as `fd52:7374:1::/64`. */
export interface AdvertisedLink {
  readonly device: string;
  readonly prefix: string;
}

export interface RouterAdvertiserOptions {
  readonly links: readonly AdvertisedLink[];
  readonly clock: Clock;
  readonly log: Log;
  /** What opens the interface; tests put their own in its place. */
  readonly open?: typeof openRawIcmp6;
}

/**
 * Announces a prefix on each provisioning interface (RFC 4861 §6.2): every PERIOD, and at once to who asks.
 *
 * iPXE starts IPv6 autoconfiguration beside DHCP and shows "Configuring" until both are done: it asks for routers
 * and, unheard, gives up after 13 s. The first advertisement ends that (`ipv6conf_rx_router_advertisement` in its
 * net/ndp.c), but one with the managed or other flag starts DHCPv6 instead, another wait. It does not look at the router
 * lifetime, so we tell the truth: 0, we are nobody's default router.
 */
export class RouterAdvertiser implements Service {
  readonly name = 'router-advertisement';
  readonly #links: readonly AdvertisedLink[];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #open: typeof openRawIcmp6;

  constructor({ links, clock, log, open = openRawIcmp6 }: RouterAdvertiserOptions) {
    this.#links = links;
    this.#clock = clock;
    this.#log = log;
    this.#open = open;
  }

  async run(signal: AbortSignal): Promise<void> {
    const sockets: RawIcmp6[] = [];
    try {
      const opened = this.#links.map((link) => {
        const socket = this.#open(link.device, ROUTER_SOLICITATION);
        sockets.push(socket);
        return { link, socket };
      });
      await Promise.all(opened.map(({ link, socket }) => this.#advertise(link, socket, signal)));
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      for (const socket of sockets) socket.close();
    }
  }

  async #advertise({ device, prefix }: AdvertisedLink, socket: RawIcmp6, signal: AbortSignal): Promise<void> {
    const advertisement = encodeRouterAdvertisement({ prefix, mac: macOf(device) });
    let announced: Millis = -Infinity;
    let asked = false;
    let reachable = true;
    const send = (destination: string) => {
      try {
        socket.send(advertisement, destination);
        if (!reachable) this.#log.info({ device }, 'router advertisements go out again');
        reachable = true;
      } catch (error) {
        // The link is down, or its address not yet confirmed: the next round tries again.
        if (reachable) this.#log.warn({ device, error }, 'a router advertisement could not be sent');
        reachable = false;
      }
    };
    for (;;) {
      for (const source of solicitors(socket)) {
        // A solicitor without an address can only be answered through the group; one from another link gets nothing
        // of its own, so that nobody can have our answers sent to a third party.
        if (source === UNSPECIFIED) asked = true;
        else if (isLinkLocal(source)) send(source);
      }
      const since = this.#clock.now() - announced;
      if (since >= PERIOD || (asked && since >= MIN_DELAY_BETWEEN_RAS)) {
        announced = this.#clock.now();
        asked = false;
        send(ALL_NODES);
      }
      await this.#clock.sleepUntil(this.#clock.now() + POLL, signal);
    }
  }
}

export interface AdvertisementContent {
  readonly prefix: string;
  /** The sender's hardware address, `52:54:00:77:00:01`; the option is left out without one. */
  readonly mac?: string | undefined;
}

/**
 * A router advertisement from its ICMPv6 type on, checksum left 0 for the kernel (RFC 4861 §4.2, §4.6.1, §4.6.2).
 * Throws `config.invalid` when the prefix is none.
 */
export function encodeRouterAdvertisement({ prefix, mac }: AdvertisementContent): Buffer {
  const [address, length] = parsePrefix(prefix);

  const header = Buffer.alloc(16);
  header.writeUInt8(ROUTER_ADVERTISEMENT, 0);
  header.writeUInt8(HOP_LIMIT, 4);
  // Flags (5), router lifetime (6), reachable and retransmission time (8, 12) stay 0: no DHCPv6, no router, unspecified.

  const information = Buffer.alloc(32);
  information.set([3, 4, length, ON_LINK | AUTONOMOUS]);
  information.writeUInt32BE(VALID_LIFETIME / SECOND, 4);
  information.writeUInt32BE(PREFERRED_LIFETIME / SECOND, 8);
  information.set(address, 16);

  const linkLayer = mac === undefined ? [] : [Buffer.from([1, 1, ...Buffer.from(mac.replaceAll(':', ''), 'hex')])];
  return Buffer.concat([header, ...linkLayer, information]);
}

/** RFC 4861 §6.1.1, as far as a raw socket shows the packet; the kernel has checked the checksum. */
export function isRouterSolicitation(message: Buffer, source: string): boolean {
  if (message.length < 8 || message[0] !== ROUTER_SOLICITATION || message[1] !== 0) return false;
  for (let at = 8; at < message.length;) {
    const length = (message[at + 1] ?? 0) * 8;
    if (length === 0 || at + length > message.length) return false;
    if (message[at] === 1 && source === UNSPECIFIED) return false;
    at += length;
  }
  return true;
}

const ROUTER_SOLICITATION = 133;
const ROUTER_ADVERTISEMENT = 134;
const ON_LINK = 0x80;
const AUTONOMOUS = 0x40;
/** What hosts on the link shall put into their own packets. */
const HOP_LIMIT = 64;
const ALL_NODES = 'ff02::1';
const UNSPECIFIED = '::';

/** Between unasked advertisements: for the host whose question was lost. */
const PERIOD: Millis = 60 * SECOND;
/** RFC 4861 §10, for answers to the group. */
const MIN_DELAY_BETWEEN_RAS: Millis = 3 * SECOND;
/** How late an answer may be; a look costs one system call. */
const POLL: Millis = 100;
/** At most so many questions are read in one look: a flood costs a bounded part of our time. */
const MAX_SOLICITATIONS = 64;
// Long against PERIOD, short against the life of an address whose appliance was taken away.
const VALID_LIFETIME: Millis = 3600 * SECOND;
const PREFERRED_LIFETIME: Millis = 1800 * SECOND;

function solicitors(socket: RawIcmp6): Set<string> {
  const sources = new Set<string>();
  for (let read = 0; read < MAX_SOLICITATIONS; read++) {
    const received = socket.receive();
    if (received === undefined) break;
    if (isRouterSolicitation(received.message, received.source)) sources.add(received.source);
  }
  return sources;
}

function isLinkLocal(address: string): boolean {
  return ipaddr.IPv6.isValid(address) && ipaddr.IPv6.parse(address).range() === 'linkLocal';
}

function parsePrefix(prefix: string): [address: number[], length: number] {
  if (!ipaddr.IPv6.isValidCIDR(prefix)) {
    throw new RackstartError('config.invalid', `"${prefix}" is not an IPv6 prefix such as fd52:7374:1::/64`);
  }
  return [ipaddr.IPv6.networkAddressFromCIDR(prefix).toByteArray(), ipaddr.IPv6.parseCIDR(prefix)[1]];
}

function macOf(device: string): string | undefined {
  return networkInterfaces()[device]?.[0]?.mac;
}
