import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One packet or request of a real client, as it went over the wire. */
export interface Capture {
  /** Who sent it, with version. */
  readonly from: string;
  readonly what: string;
  readonly bytes: Buffer;
}

/**
 * What real clients sent, recorded on a network of the lab by tcpdump (HTTP: by a socket that curl and iPXE spoke to), with
 * tokens replaced by words. `hex`, or `text` where people can read it.
 */
export function readCorpus(name: 'dhcp' | 'tftp' | 'rmcp' | 'http'): readonly Capture[] {
  const text = readFileSync(join(import.meta.dirname, 'corpus', `${name}.json`), 'utf8');
  return (JSON.parse(text) as Recorded[]).map(({ from, what, ...recorded }) => ({
    from,
    what,
    bytes: 'hex' in recorded ? Buffer.from(recorded.hex, 'hex') : Buffer.from(recorded.text, 'latin1'),
  }));
}

type Recorded = { from: string; what: string } & ({ hex: string } | { text: string });
