import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Pack } from 'tar-stream';
import { pack } from 'tar-stream';

import { captureHeader, captureRecord } from '../../pxe/packet-capture.ts';
import type { SeenPacket, TimelineEntry } from '../../pxe/timeline.ts';
import { wholeTimeline } from '../../pxe/timeline-records.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Log } from '../kernel/log.ts';
import { SecretMask, maskSecrets } from '../kernel/secret-mask.ts';
import type { Reader } from '../store/store.ts';
import type { BootView } from './boot-history.ts';
import { diagnose } from './diagnosis/diagnose.ts';
import { gatherEvidence } from './diagnosis/gather.ts';

/** What one boot's bundle holds, in this order. */
export const bundleFiles = {
  'README.txt': 'this',
  'boot.json': 'the machine, what it was ordered to do, its stages with their times, how it ended',
  'diagnosis.json': 'why it failed, by what was seen of it, and what to do',
  'timeline.jsonl': 'everything that was seen, one thing a line, on one clock (UTC)',
  'packets.pcap': 'DHCP and TFTP as they were on the wire; Ethernet addresses are made up',
  'bmc.jsonl': 'each command to the BMC, with its completion code and how long it took (ms)',
  'console.log': 'what the machine printed on its serial port, where its BMC has serial-over-LAN',
  'ramdisk.log': "the ramdisk's own log: it sends one when it fails",
  'agent.log': 'what the installed server said of itself',
} as const;

type BundleFile = keyof typeof bundleFiles;

/**
 * Everything known of one boot, as a gzipped tar to hand to somebody else: secrets are overwritten. It is gathered in a
 * temporary directory, which is gone when the stream has ended, however it ends.
 */
export async function bootBundle(
  read: Reader,
  boot: BootView,
  { at, log }: { readonly at: Millis; readonly log: Log },
): Promise<Readable> {
  const directory = await mkdtemp(join(tmpdir(), 'rackstart-bundle-'));
  const remove = () => rm(directory, { recursive: true, force: true });
  try {
    await gather(read, boot, directory, at);
  } catch (error) {
    await remove();
    throw error;
  }
  const [tar, compressed] = [pack(), createGzip()];
  const failed = (error: unknown) =>
    log.debug({ session: boot.session.id, error }, 'a bundle was not taken to its end');
  void Promise.all([pipeline(tar, compressed), fill(tar, directory, boot)])
    .catch(failed)
    .finally(remove);
  return compressed;
}

async function fill(tar: Pack, directory: string, { session }: BootView): Promise<void> {
  const mtime = new Date(session.ended_at ?? session.seen_at);
  try {
    for (const name of Object.keys(bundleFiles)) {
      const path = join(directory, name);
      const { size } = await stat(path);
      const entry = tar.entry({ name: `${session.id}/${name}`, size, mtime, mode: 0o600 });
      await pipeline(createReadStream(path), entry);
    }
    tar.finalize();
  } catch (error) {
    tar.destroy(error instanceof Error ? error : undefined);
    throw error;
  }
}

async function gather(read: Reader, boot: BootView, directory: string, at: Millis): Promise<void> {
  const files = new Map<BundleFile, FileHandle>();
  try {
    for (const name of Object.keys(bundleFiles) as BundleFile[]) {
      files.set(name, await open(join(directory, name), 'wx', 0o600));
    }
    const write = async (name: BundleFile, content: string | Buffer) => {
      await files.get(name)?.appendFile(content);
    };
    await write('README.txt', readme(boot));
    await write('boot.json', `${masked(shownBoot(boot), 2)}\n`);
    const evidence = await gatherEvidence(read, boot.session.id, at);
    await write('diagnosis.json', `${masked(diagnose(evidence), 2)}\n`);
    await write('packets.pcap', captureHeader());
    for await (const entry of wholeTimeline(read, boot.session.id)) {
      await write('timeline.jsonl', `${masked(shownEntry(entry))}\n`);
      const log = ramdiskLog(entry) ?? '';
      const mask = new SecretMask();
      for (let at = 0; at < log.length; at += PIECE) await write('ramdisk.log', mask.mask(log.slice(at, at + PIECE)));
      const part = partOf(entry);
      if (part !== undefined) await write(...part);
      const record = entry.packet && captureRecord(entry.at, maskedPacket(entry.packet));
      if (record !== undefined) await write('packets.pcap', record);
    }
  } finally {
    await Promise.all([...files.values()].map((file) => file.close()));
  }
}

// A megabyte is masked in a tenth of a second: others get their turn in between.
const PIECE = 64 * 1024;

function ramdiskLog({ source, name, detail: { text } }: TimelineEntry): string | undefined {
  return source === 'ramdisk' && name === 'log' && typeof text === 'string' ? text : undefined;
}

/** Where an entry stands beside the timeline, and what is written of it there. */
function partOf({ at, source, name, detail }: TimelineEntry): [BundleFile, string] | undefined {
  const time = new Date(at).toISOString();
  switch (source) {
    case 'bmc':
      return ['bmc.jsonl', `${masked({ at: time, command: name, ...detail })}\n`];
    case 'console':
      return ['console.log', consoleText(name, detail)];
    case 'agent':
      return ['agent.log', `${time} ${name} ${masked(detail)}\n`];
    default:
      return undefined;
  }
}

/** What was printed; what is missing in it in brackets. */
function consoleText(name: string, { text, dropped, lost, ...rest }: TimelineEntry['detail']): string {
  if (name !== 'output') return `\n[${name} ${masked(rest)}]\n`;
  const missing = [
    ...(lost === true ? ['\n[something is missing here]\n'] : []),
    ...(typeof dropped === 'number' ? [`\n[${String(dropped)} characters were left out: too many at once]\n`] : []),
  ];
  return missing.join('') + (typeof text === 'string' ? maskSecrets(text) : '');
}

function shownBoot({ session, machine, verb, attemptId, stages }: BootView): unknown {
  return {
    session: session.id,
    machine,
    order: { verb, generation: session.generation, attempt: attemptId },
    state: session.state,
    endReason: session.end_reason,
    openedAt: iso(session.opened_at),
    poweredAt: iso(session.powered_at),
    claimedAt: iso(session.claimed_at),
    endedAt: iso(session.ended_at),
    stages: stages.map(({ name, startedAt, endedAt, facts }) => {
      return { name, startedAt: iso(startedAt), endedAt: iso(endedAt ?? null), facts };
    }),
  };
}

/** The ramdisk's log has a file of its own, packets too. */
function shownEntry(entry: TimelineEntry): unknown {
  const { at, source, name, detail, packet } = entry;
  const log = ramdiskLog(entry);
  const shown = log === undefined ? detail : { characters: log.length };
  const datagram = packet && { from: packet.from, to: packet.to, bytes: packet.bytes.length };
  return { at: iso(at), source, name, detail: shown, ...(datagram === undefined ? {} : { packet: datagram }) };
}

/** JSON of it: what stands under the name of a secret is left out, what looks like one in any text is overwritten. */
function masked(value: unknown, indent?: number): string {
  const replace = (name: string, inner: unknown) => {
    if (typeof inner !== 'string') return inner;
    return SECRET_NAME.test(name) ? '[secret]' : maskSecrets(inner);
  };
  return JSON.stringify(value, replace, indent);
}

const SECRET_NAME = /token|bearer|password|credential|secret|authorization|private/i;

/** As long as it was: each byte that may be of a secret becomes a star. Who recorded it should have done so already. */
function maskedPacket(packet: SeenPacket): SeenPacket {
  const text = maskSecrets(Buffer.from(packet.bytes).toString('latin1'));
  return { ...packet, bytes: Buffer.from(text, 'latin1') };
}

function readme({ session, machine }: BootView): string {
  const width = Math.max(...Object.keys(bundleFiles).map((name) => name.length));
  const lines = Object.entries(bundleFiles).map(([name, what]) => `${name.padEnd(width)}  ${what}\n`);
  const title = `Boot ${session.id} of machine ${machine.name}, opened ${String(iso(session.opened_at))}.\n\n`;
  return `${title}${lines.join('')}\nTokens, passwords and keys are overwritten by stars. All times are those of the appliance.\n`;
}

function iso(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
