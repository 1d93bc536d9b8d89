import { createSocket } from 'node:dgram';
import { test } from 'tap';

import { inputAt, run, turnsUntil } from './campaign.ts';
import type { Campaign, Input, OpenTarget, Target } from './campaign.ts';

test('an input follows from seed and index alone', async (t) => {
  const numbers = (input: Input) => [input.dice.below(1e9), input.story.below(1e9), input.way, input.chapter];
  t.same(numbers(inputAt('dhcp', 7, 12_345)), numbers(inputAt('dhcp', 7, 12_345)));
  const others = [inputAt('dhcp', 8, 12_345), inputAt('tftp', 7, 12_345), inputAt('dhcp', 7, 12_346)];
  for (const other of others) t.notSame(numbers(other), numbers(inputAt('dhcp', 7, 12_345)));
});

test('half goes through the socket, sequences stay together, and a good exchange comes every 1,000', async (t) => {
  const fed: Input[] = [];
  const verdict = await campaign({ feed: (input) => void fed.push(input) }, { inputs: 3_000 });
  t.match(verdict, { inputs: 3_000, throughSocket: 1_496, exchanges: 4, findings: [] });
  t.same(
    fed.slice(0, 16).map(({ way, chapter }) => `${way} ${chapter}`),
    ['direct', 'socket'].flatMap((way) => Array.from({ length: 8 }, (_, chapter) => `${way} ${chapter}`)),
  );
  t.equal(fed[0]!.story.below(1e9), fed[1]!.story.below(1e9));
});

test('one input, or some, can be fed again', async (t) => {
  const fed: number[] = [];
  await campaign({ feed: ({ index }) => void fed.push(index) }, { only: { first: 1_998, last: 2_001 } });
  t.same(fed, [1_998, 1_999, 2_000, 2_001]);
});

test('what a target tells, throws or leaves to nobody is found, with the input or its thousand', async (t) => {
  const told: OpenTarget = async (find) => ({
    ...quiet(),
    feed: (input) => (input.index === 7 ? find('odd', input) : undefined),
  });
  t.same((await run('x', told, { seed: 1, inputs: 10 })).findings, ['7: odd']);
  const throwing = await campaign(
    {
      feed: ({ index }) => {
        if (index === 1_234) throw new Error('threw');
      },
    },
    {},
  );
  t.match(throwing.findings, [/^1000-1999: Error: threw/]);
  const refusing = await campaign({ exchange: () => Promise.reject(new Error('other answer')) }, {});
  t.match(refusing.findings, [/other answer/]);
});

test('a rejection that nobody handles is found', async (t) => {
  const rejecting = ({ index }: Input) => void (index === 3 ? Promise.reject(new Error('lost')) : undefined);
  t.match((await campaign({ feed: rejecting }, { inputs: 10 })).findings, [/^0-9: nobody caught Error: lost/]);
});

test('a state that changed, a socket left open and memory that grew are found', async (t) => {
  let state = 0;
  const changing = {
    feed: () => {
      state++;
    },
    state: () => Promise.resolve({ leases: state }),
  };
  t.match((await campaign(changing, { inputs: 10 })).findings, [
    /not as before:\n- \{ leases: 0 \}\n\+ \{ leases: 10 \}/,
  ]);

  const leaking = {
    feed({ index }: Input) {
      if (index !== 1) return;
      const socket = createSocket('udp4').bind(0, '127.0.0.1');
      t.teardown(() => socket.close());
    },
  };
  t.match((await campaign(leaking, { inputs: 10 })).findings, [/left open: 1 UDP/]);

  const kept: string[][] = [];
  const growing = {
    feed: () => void kept.push(Array.from({ length: 1_000 }, (_, index) => `${kept.length} ${index}`)),
  };
  t.match((await campaign(growing, { inputs: 2_000 })).findings, [/the heap grew/]);
});

test('what never comes is told of', async (t) => {
  const waiting = { settle: () => turnsUntil('an answer', () => false, 20) };
  t.match((await campaign(waiting, { inputs: 10 })).findings, [/waited in vain: an answer/]);
});

function campaign(target: Partial<Target>, options: Partial<Campaign>) {
  return run('x', async () => ({ ...quiet(), ...target }), { seed: 1, inputs: 2_000, ...options });
}

function quiet(): Target {
  const nothing = () => Promise.resolve();
  return {
    feed: () => undefined,
    settle: nothing,
    exchange: nothing,
    rest: nothing,
    state: nothing,
    reached: {},
    close: nothing,
  };
}
