import { test } from 'tap';

import type { TimelineEntry } from '../../pxe/timeline.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import { ConsoleRecorder } from './console-recorder.ts';

const token = 'q7Jx0_Zt-4kLw8sVb2NfYcR9mHdGpTuE1oXiQa6K5eA';

test('a piece is told a second after it began, or when it is long enough', async (t) => {
  const { clock, entries, recorder } = recording();
  recorder.write(Buffer.from('> booting'), false);
  await clock.advance(999);
  t.equal(entries.length, 0);
  recorder.write(Buffer.from(' Linux\r\n'), false);
  await clock.advance(1);
  t.strictSame(entries, [{ at: 0, source: 'console', name: 'output', detail: { text: '> booting Linux\n' } }]);
  recorder.write(Buffer.from('x'.repeat(5_000)), false);
  t.equal(entries.length, 3);
  await clock.advance(1_000);
  t.strictSame(
    entries.slice(1).map(({ detail }) => String(detail['text']).length),
    [2_048, 2_048, 904],
  );
});

test('control characters are spelled out, whatever they are cut by', async (t) => {
  const said = Buffer.from('a\r\nb\rc\x1b[1mé\u009b\0\t\n');
  for (let cut = 0; cut <= said.length; cut++) {
    const { entries, recorder } = recording();
    recorder.write(Buffer.from('> '), false);
    recorder.write(said.subarray(0, cut), false);
    recorder.write(said.subarray(cut), false);
    recorder.flush();
    t.equal(textOf(entries), String.raw`> a|b\rc\x1b[1mé\x9b\x00`.replace('|', '\n') + '\t\n', `cut at ${cut}`);
  }
});

test('no part of a token is told, wherever the text is cut', async (t) => {
  const said = `[    0.000000] Command line: boot=rackstart rackstart.token=${token} rackstart.mac=52-54\r\n`;
  for (let cut = 0; cut <= said.length; cut++) {
    const { clock, entries, recorder } = recording();
    recorder.write(Buffer.from(said.slice(0, cut)), false);
    await clock.advance(1_000);
    recorder.write(Buffer.from(said.slice(cut)), false);
    recorder.flush();
    t.equal(textOf(entries), said.replace(token, '*'.repeat(43)).replace('\r\n', '\n'));
  }
});

test('what comes after a gap may be the rest of a token', async (t) => {
  const { entries, recorder } = recording();
  recorder.write(Buffer.from('> rackstart.token=q7Jx0'), false);
  recorder.write(Buffer.from(`${token.slice(20)} quiet`), true);
  recorder.flush();
  t.notMatch(textOf(entries), token.slice(20, 30));
  t.match(entries.at(-1)?.detail, { lost: true, text: / quiet$/ });
});

test('a console that prints without end is kept to its most, and that is told once', async (t) => {
  const { clock, entries, recorder } = recording(500 * 1024);
  for (let second = 0; second < 10; second++) {
    recorder.write(Buffer.from('> ' + 'x'.repeat(100_000)), false);
    await clock.advance(1_000);
  }
  t.equal(textOf(entries).length, 12 * 1024);
  t.strictSame(
    entries.filter(({ name }) => name === 'full').map(({ detail }) => detail),
    [{ kept: 512 * 1024 }],
  );
});

test('of one second no more is kept than a serial port could bring, and how much was left out is told', async (t) => {
  const { clock, entries, recorder } = recording();
  recorder.write(Buffer.from('> ' + 'x'.repeat(40_000)), false);
  await clock.advance(1_000);
  t.equal(textOf(entries).length, 32 * 1024);
  recorder.write(Buffer.from('on it goes'), false);
  recorder.flush();
  t.match(entries.at(-1)?.detail, { text: 'on it goes', dropped: 40_002 - 32 * 1024 });
});

function recording(kept = 0) {
  const clock = new ManualClock(0);
  const entries: TimelineEntry[] = [];
  return { clock, entries, recorder: new ConsoleRecorder({ clock, kept, tell: (entry) => entries.push(entry) }) };
}

function textOf(entries: readonly TimelineEntry[]): string {
  return entries.map(({ detail }) => (typeof detail['text'] === 'string' ? detail['text'] : '')).join('');
}
