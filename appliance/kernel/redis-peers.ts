import { Redis } from 'ioredis';
import type { RedisOptions } from 'ioredis';

import { SECOND } from './clock.ts';
import type { Millis } from './clock.ts';
import type { Log } from './log.ts';
import type { Peers } from './peers.ts';
import type { Secret } from './secret.ts';
import type { Service } from './service.ts';

export interface RedisPeersOptions {
  /** `redis://…`, `rediss://…` or the path of a Unix socket; it may hold a password. */
  url: Secret;
  /** The same for all processes of one appliance, and for no others: it keeps appliances apart that share a server. */
  appliance: string;
  /** This process, among them. */
  self: string;
  log: Log;
}

/**
 * Peers that hear each other by Redis' publish and subscribe; its keys say who does a work for all. Nothing is kept in Redis
 * that would be missed: while it is away nobody is told anything, and it is asked again after 0.1 s, 0.2 s … 10 s.
 */
export class RedisPeers implements Peers, Service {
  readonly name = 'redis-peers';
  readonly #appliance: string;
  readonly #self: string;
  readonly #log: Log;
  readonly #listeners = new Map<string, Set<(word: string | undefined) => void>>();
  readonly #commands: Redis;
  /** A connection that has subscribed can do nothing else. */
  readonly #subscriber: Redis;
  /** What was last logged of it: one line a change, not one a try. */
  #told: 'connected' | 'away' | undefined;

  constructor({ url, appliance, self, log }: RedisPeersOptions) {
    this.#appliance = appliance;
    this.#self = self;
    this.#log = log;
    this.#commands = new Redis(url.reveal(), options);
    this.#subscriber = new Redis(url.reveal(), options);
  }

  get connected(): boolean {
    return this.#commands.status === 'ready' && this.#subscriber.status === 'ready';
  }

  async run(signal: AbortSignal): Promise<void> {
    for (const redis of [this.#commands, this.#subscriber]) {
      redis.on('ready', () => this.#ready(redis));
      redis.on('error', (error: Error) => this.#away(error.message));
      redis.on('close', () => this.#away('the connection is closed'));
      // It tries for ever; `error` tells of each.
      redis.connect().catch(() => undefined);
    }
    this.#subscriber.on('message', (channel: string, message: string) => this.#heard(channel, message));
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    for (const redis of [this.#commands, this.#subscriber])
      redis
        .removeAllListeners()
        .on('error', () => undefined)
        .disconnect();
  }

  tell(topic: string, word: string): void {
    if (this.#commands.status !== 'ready') return;
    this.#commands.publish(this.#channel(topic), `${this.#self} ${word}`).catch(() => undefined);
  }

  hear(topic: string, listener: (word: string | undefined) => void): () => void {
    const listeners = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, listeners.add(listener));
    if (this.#subscriber.status === 'ready') this.#subscribe();
    return () => void listeners.delete(listener);
  }

  async isOurs(work: string, hold: Millis): Promise<boolean> {
    if (this.#commands.status !== 'ready') return true;
    const key = this.#channel(work);
    try {
      if ((await this.#commands.set(key, this.#self, 'PX', hold, 'NX')) === 'OK') return true;
      if ((await this.#commands.get(key)) !== this.#self) return false;
      await this.#commands.pexpire(key, hold);
      return true;
    } catch {
      return true;
    }
  }

  #ready(redis: Redis): void {
    if (redis === this.#subscriber) this.#subscribe();
    if (!this.connected || this.#told === 'connected') return;
    this.#told = 'connected';
    this.#log.info({}, 'Redis is connected: processes hear of each other at once');
  }

  #away(reason: string): void {
    if (this.#told === 'away') return;
    this.#told = 'away';
    this.#log.warn({ reason }, 'Redis is away: processes hear of each other when they next look');
  }

  #subscribe(): void {
    const topics = [...this.#listeners.keys()];
    if (topics.length === 0) return;
    this.#subscriber.subscribe(...topics.map((topic) => this.#channel(topic))).then(
      // What was told before we listened again is found by looking.
      () => this.#listeners.forEach((listeners) => listeners.forEach((listener) => listener(undefined))),
      () => undefined,
    );
  }

  #heard(channel: string, message: string): void {
    const from = message.split(' ', 1)[0] ?? '';
    if (from === this.#self) return;
    const word = message.slice(from.length + 1);
    const topic = channel.slice(this.#channel('').length);
    this.#listeners.get(topic)?.forEach((listener) => listener(word));
  }

  #channel(name: string): string {
    return `rackstart:${this.#appliance}:${name}`;
  }
}

const options = {
  lazyConnect: true,
  // What can't be said now is not said later.
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResubscribe: false,
  connectTimeout: 5 * SECOND,
  // A server that has stopped answering is away.
  commandTimeout: SECOND,
  keepAlive: 10 * SECOND,
  retryStrategy: (tries: number) => Math.min(100 * 2 ** Math.min(tries - 1, 10), 10 * SECOND),
} satisfies RedisOptions;
