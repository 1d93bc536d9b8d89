import { test } from 'tap';

import { Mains } from './mains.ts';

test('who starts while the mains are off waits until they are back; who is switched off meanwhile does not start', async (t) => {
  const mains = new Mains();
  const started: string[] = [];
  const start = (name: string, signal: AbortSignal) =>
    mains.wait(signal).then(
      () => started.push(name),
      () => started.push(`${name} not`),
    );
  await start('before', new AbortController().signal);
  mains.cut();
  mains.cut();
  const pulled = new AbortController();
  const waiting = [start('one', new AbortController().signal), start('other', pulled.signal)];
  pulled.abort();
  await Promise.resolve();
  t.strictSame(started, ['before']);
  mains.restore();
  await Promise.all(waiting);
  t.strictSame(started, ['before', 'one', 'other not']);
  await start('after', new AbortController().signal);
  t.equal(started.at(-1), 'after');
});
