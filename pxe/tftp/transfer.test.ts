import { test } from 'tap';

import { SECOND, type Millis } from '../../appliance/kernel/clock.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { seededRandom } from '../../lab/loss/seeded-random.ts';
import { negotiate } from './options.ts';
import { Transfer } from './transfer.ts';

const LIMITS = { blockSize: 65_464, windowSize: 64 };

test('one block at a time, and a file of whole blocks ends with an empty one', (t) => {
  const { transfer, data } = transferOf(1024);
  t.same(sent(transfer.begin(0)), ['data 1: 512']);
  t.same(sent(transfer.acknowledge(1, 0)), ['data 2: 512']);
  t.same(sent(transfer.acknowledge(2, 0)), ['data 3: 0']);
  t.equal(transfer.state, 'running');
  t.same(transfer.acknowledge(3, 0), []);
  t.equal(transfer.state, 'done');
  t.equal(transfer.bytesAcknowledged, data.length);
  t.end();
});

test('granted options go first and are acknowledged as block 0', (t) => {
  const { transfer } = transferOf(20, { blksize: '8', windowsize: '2' });
  t.same(sent(transfer.begin(0)), ['options']);
  t.same(transfer.acknowledge(1, 0), [], 'nothing to acknowledge yet');
  t.notOk(transfer.answered);
  t.same(sent(transfer.acknowledge(0, 0)), ['data 1: 8', 'data 2: 8']);
  t.ok(transfer.answered);
  t.same(transfer.acknowledge(0, 0), [], 'a second one sends nothing');
  t.same(sent(transfer.acknowledge(2, 0)), ['data 3: 4']);
  t.same(transfer.acknowledge(3, 0), []);
  t.equal(transfer.state, 'done');
  t.end();
});

test('an acknowledgement inside the window sends again from the lost block', (t) => {
  const { transfer } = transferOf(100, { blksize: '10', windowsize: '4' });
  transfer.begin(0);
  transfer.acknowledge(0, 0);
  t.same(sent(transfer.acknowledge(2, 0)), ['data 3: 10', 'data 4: 10', 'data 5: 10', 'data 6: 10']);
  t.same(transfer.acknowledge(2, 0), [], 'a duplicate sends nothing');
  t.same(transfer.acknowledge(1, 0), [], 'an old one sends nothing');
  t.same(transfer.acknowledge(7, 0), [], 'one of a block never sent sends nothing');
  t.equal(transfer.bytesAcknowledged, 20, 'and none of these is believed');
  t.same(sent(transfer.acknowledge(6, 0)), ['data 7: 10', 'data 8: 10', 'data 9: 10', 'data 10: 10']);
  t.end();
});

test('duplicated acknowledgements never double the blocks', (t) => {
  const { transfer } = transferOf(100 * 512);
  let packets = transfer.begin(0).length;
  for (let block = 1; block <= transfer.blocks; block++) {
    for (let copy = 0; copy < 3; copy++) packets += transfer.acknowledge(block, 0).length;
  }
  t.equal(transfer.state, 'done');
  t.equal(packets, transfer.blocks);
  t.end();
});

test('silence is answered by the same block after 1, 2, 4, 8, 16 and 16 s, then the client is lost', (t) => {
  const { transfer } = transferOf(100);
  transfer.begin(0);
  const waits: Millis[] = [];
  for (let now = 0; ; now = transfer.retryAt) {
    if (now > 0) {
      const packets = sent(transfer.expire(now));
      if (transfer.state === 'lost') break;
      t.same(packets, ['data 1: 100']);
    }
    t.same(transfer.expire(transfer.retryAt - 1), [], 'not before its time');
    waits.push(transfer.retryAt - now);
  }
  t.same(
    waits,
    [1, 2, 4, 8, 16, 16].map((seconds) => seconds * SECOND),
  );
  t.same(transfer.acknowledge(1, transfer.retryAt), [], 'lost is lost');
  t.equal(transfer.state, 'lost');
  t.end();
});

test('a negotiated timeout is kept, and an answer to what was sent once takes the back-off away', (t) => {
  const { transfer } = transferOf(2000, { timeout: '20' });
  transfer.begin(0);
  t.equal(transfer.retryAt, 20 * SECOND);
  t.same(sent(transfer.expire(20 * SECOND)), ['options']);
  t.equal(transfer.retryAt, 40 * SECOND);
  const quick = transferOf(2000).transfer;
  quick.begin(0);
  quick.expire(1 * SECOND);
  t.equal(quick.retryAt, 3 * SECOND);
  quick.acknowledge(1, 2 * SECOND);
  t.equal(quick.retryAt, 4 * SECOND, 'which copy was answered is not known');
  quick.acknowledge(2, 2 * SECOND + 10);
  t.equal(quick.retryAt, 2 * SECOND + 110, 'now it is known to be quick');
  t.end();
});

test('block numbers roll over past 65535', (t) => {
  const { transfer, data } = transferOf(70_000 * 8 + 3, { blksize: '8', windowsize: '64' });
  const received: Buffer[] = [];
  let expected = 1;
  let misnumbered = 0;
  transfer.begin(0);
  for (let packets = transfer.acknowledge(0, 0); packets.length > 0;) {
    for (const packet of packets) {
      if (packet.readUInt16BE(2) !== (expected & 0xffff)) misnumbered += 1;
      received.push(packet.subarray(4));
      expected += 1;
    }
    packets = transfer.acknowledge((expected - 1) & 0xffff, 0);
  }
  t.equal(transfer.state, 'done');
  t.equal(misnumbered, 0);
  t.ok(Buffer.concat(received).equals(data));
  t.end();
});

for (const windowsize of ['1', '4', '16']) {
  test(`a window of ${windowsize} survives loss, duplicates and reordering`, async (t) => {
    const clock = new ManualClock();
    const random = seededRandom(Number(windowsize));
    const { transfer, data } = transferOf(300 * 8 + 5, { blksize: '8', windowsize });
    const client = lockstepClient(Number(windowsize));
    // What is on the wire towards the client: a few overtake, some are lost, some come twice.
    const wire: Buffer[] = [];
    const put = (packets: Buffer[]) => {
      for (const packet of packets) {
        if (random() < 0.1) continue;
        wire.splice(wire.length - Math.min(wire.length, random() < 0.1 ? 2 : 0), 0, packet);
        if (random() < 0.1) wire.push(packet);
      }
    };
    put(transfer.begin(clock.now()));
    for (let step = 0; transfer.state === 'running' && step < 100_000; step++) {
      const packet = wire.shift();
      if (packet === undefined) {
        await clock.advance(transfer.retryAt - clock.now());
        put(transfer.expire(clock.now()));
        continue;
      }
      for (const block of client.receive(packet)) {
        if (random() < 0.1) continue;
        put(transfer.acknowledge(block, clock.now()));
        if (random() < 0.1) put(transfer.acknowledge(block, clock.now()));
      }
    }
    t.equal(transfer.state, 'done');
    t.ok(client.contents().equals(data), 'byte for byte');
  });
}

function transferOf(size: number, options: Record<string, string> = {}) {
  const data = Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index * 31) ^ (index >> 8)));
  return { data, transfer: new Transfer(data, negotiate(new Map(Object.entries(options)), size, LIMITS)) };
}

function sent(packets: Buffer[]): string[] {
  return packets.map((packet) =>
    packet[1] === 6 ? 'options' : `data ${String(packet.readUInt16BE(2))}: ${String(packet.length - 4)}`,
  );
}

/** A receiver by RFC 7440: acknowledges each full window, and at a gap the last block in order. */
function lockstepClient(window: number) {
  const blocks: Buffer[] = [];
  let inWindow = 0;
  return {
    contents: () => Buffer.concat(blocks),
    receive(packet: Buffer): number[] {
      if (packet[1] === 6) return blocks.length === 0 ? [0] : [];
      if (packet.readUInt16BE(2) !== blocks.length + 1) {
        inWindow = 0;
        return [blocks.length];
      }
      blocks.push(packet.subarray(4));
      inWindow += 1;
      if (inWindow < window && packet.length === 12) return [];
      inWindow = 0;
      return [blocks.length];
    },
  };
}
