import type { Captured } from '../rack/rack.ts';
import { run } from '../process/run.ts';

/** What `sentChunks` needs of the packets: all that machines are sent in the clear, as far as what is asked goes. */
export const CLEAR_PORT: Captured = { filter: 'tcp port 8080', bytes: 500 };

export interface SentChunk {
  /** How often it, or a part of it, began to be sent. */
  readonly answers: number;
  /** Of its compressed bytes, as often as they were. */
  readonly bytes: number;
}

/**
 * How much of each chunk, by its digest, the appliance has sent, whoever ran meanwhile: read from a capture of the wire, up to
 * a time (ms since 1970) where one is told. What the kernel repeats is not sent twice.
 */
export async function sentChunks(pcapFile: string, before = Infinity): Promise<ReadonlyMap<string, SentChunk>> {
  const sent = new Map<string, SentChunk>();
  /** By connection, which asks for one thing after the other. */
  const asked = new Map<string, { readonly sha256: string; isAnswered: boolean }>();
  for (const { at, stream, isAnswer, length, payload } of await segments(pcapFile)) {
    if (at >= before) break;
    if (!isAnswer) {
      const [, sha256 = ''] = /^GET \/chunk\/([0-9a-f]{64}) /.exec(payload) ?? [];
      asked.set(stream, { sha256, isAnswered: false });
      continue;
    }
    const about = asked.get(stream);
    if (about === undefined || about.sha256 === '') continue;
    // Node sends the head of an answer in one piece.
    const head = about.isAnswered ? 0 : payload.indexOf('\r\n\r\n') + 4;
    const { answers = 0, bytes = 0 } = sent.get(about.sha256) ?? {};
    const isNew = !about.isAnswered && /^HTTP\/1\.1 20[06] /.test(payload);
    sent.set(about.sha256, { answers: answers + (isNew ? 1 : 0), bytes: bytes + length - head });
    about.isAnswered = true;
  }
  return sent;
}

interface Segment {
  readonly at: number;
  readonly stream: string;
  readonly isAnswer: boolean;
  readonly length: number;
  /** As far as it was captured. */
  readonly payload: string;
}

/** Every segment with content, in its order. */
async function segments(pcapFile: string): Promise<Segment[]> {
  const filter = 'tcp.len > 0 and not tcp.analysis.retransmission and not tcp.analysis.spurious_retransmission';
  const names = ['frame.time_epoch', 'tcp.stream', 'tcp.srcport', 'tcp.len', 'tcp.payload'];
  const fields = names.flatMap((name) => ['-e', name]);
  const printed = await run(['tshark', '-n', '-r', pcapFile, '-Y', filter, '-T', 'fields', ...fields]);
  return printed
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [seconds, stream = '', port, length, payload = ''] = line.split('\t');
      const bytes = Buffer.from(payload.replaceAll(':', ''), 'hex');
      return {
        ...{ at: Number(seconds) * 1_000, stream, isAnswer: port === '8080' },
        ...{ length: Number(length), payload: bytes.toString('latin1') },
      };
    });
}
