import type { LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import type { BlockList } from 'node:net';
import { isIP } from 'node:net';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { isPublicAddress } from './public-address.ts';

/** From where images may be imported. */
export interface SourceRules {
  /** Hosts, `example.org` or `example.org:8443`: these alone, and none below them. */
  readonly hosts: readonly string[];
  /** Addresses inside of the house that are not refused; empty but where a mirror stands there. */
  readonly allowed: BlockList;
  /** Every address of a host. */
  readonly resolve: (host: string) => Promise<readonly string[]>;
}

/** By the resolver of this machine, /etc/hosts included. */
export async function resolveBySystem(host: string): Promise<readonly string[]> {
  const found: LookupAddress[] = await lookup(host, { all: true, order: 'verbatim' });
  return found.map(({ address }) => address);
}

/** Errors: `image.source-refused` for what is no https URL of a listed host, or tells secrets. */
export function checkedUrl(text: string, { hosts }: Pick<SourceRules, 'hosts'>): URL {
  const url = URL.parse(text);
  if (url?.protocol !== 'https:') throw refused('Images are imported by https alone');
  if (url.username !== '' || url.password !== '') throw refused('A URL with a password in it is not taken');
  if (url.hash !== '') throw refused('A URL of a file has no fragment');
  const port = url.port === '' ? '443' : url.port;
  const listed = hosts.map((host) => host.toLowerCase());
  if (listed.includes(`${url.hostname}:${port}`) || (port === '443' && listed.includes(url.hostname))) return url;
  throw refused(`Nothing is imported from ${url.hostname}:${port}`);
}

/**
 * The addresses of a host, each of them one that may be spoken to: a name with one address inside of the house is refused, not
 * used by its others. Errors: `image.source-refused`; `image.source-failed` when it has none.
 */
export async function checkedAddresses(
  { hostname }: URL,
  { allowed, resolve }: SourceRules,
): Promise<readonly string[]> {
  const literal = hostname.replace(/^\[(.*)\]$/, '$1');
  const addresses = isIP(literal) === 0 ? await resolved(hostname, resolve) : [literal];
  const wrong = addresses.find((address) => !isPublicAddress(address, allowed));
  if (wrong !== undefined) throw refused(`${hostname} is at ${wrong}, which is not an address of the internet`);
  return addresses;
}

export function refused(why: string): RackstartError {
  return new RackstartError('image.source-refused', `${why}.`);
}

export function sourceFailed(why: string, cause?: unknown): RackstartError {
  return new RackstartError('image.source-failed', `${why}.`, cause === undefined ? {} : { cause });
}

async function resolved(host: string, resolve: SourceRules['resolve']): Promise<readonly string[]> {
  const addresses = await resolve(host).catch((cause: unknown) => {
    throw sourceFailed(`${host} has no address`, cause);
  });
  if (addresses.length === 0) throw sourceFailed(`${host} has no address`);
  return addresses;
}
