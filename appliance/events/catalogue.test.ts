import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';

import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { catalogue, eventTypes } from './catalogue.ts';
import { eventCheck } from './event-check.ts';
import { createEventLog } from './event-log.ts';
import { Sequencer } from './sequencer.ts';

const GOLDEN = join(import.meta.dirname, 'catalogue.golden');

test('every event is published as it is: another shape of its data is another version', (t) => {
  const published = new Map(lines().map(([name, schema]) => [name, schema]));
  t.equal(published.size, lines().length, 'each version once');
  for (const type of eventTypes) {
    const name = `${type} ${String(catalogue[type].version)}`;
    if (!published.has(name) && process.env['RACKSTART_PUBLISH_EVENTS'] !== undefined) {
      appendFileSync(GOLDEN, `${name} ${shapeOf(type)}\n`);
      continue;
    }
    t.equal(shapeOf(type), published.get(name), name);
  }
  t.end();
});

test('what was published stays in the catalogue, and its versions count up', (t) => {
  const names = lines().map(([name]) => name);
  for (const name of names) {
    const [type = '', version = ''] = name.split(' ');
    t.ok(eventTypes.includes(type as never), type);
    t.ok(Number(version) <= catalogue[type as keyof typeof catalogue].version, name);
    if (version !== '1') t.ok(names.includes(`${type} ${String(Number(version) - 1)}`), `the one before ${name}`);
  }
  t.end();
});

test('the names that the documents promise are told', (t) => {
  const promised = ['provisioning.started', 'provisioning.step-completed', 'resource.allocated', 'service.activated'];
  const ends = ['provisioning.completed', 'provisioning.failed', 'provisioning.rolled-back'];
  for (const type of [...promised, ...ends, 'service.suspended', 'service.reactivated']) {
    t.ok(eventTypes.includes(type as never), type);
  }
  t.end();
});

test('data that is not of its shape is told by the field that is wrong', (t) => {
  const check = eventCheck();
  const alert = { subject: 's', code: 'c', message: 'm' };
  check('alert.raised', alert);
  check('machine.state-changed', { machineId: 'm', from: null, to: 'ready' });
  for (const [data, complaint] of [
    [{ subject: 's', code: 'c' }, /alert\.raised.*message/],
    [{ ...alert, code: 7 }, /\/code must be string/],
    [{ ...alert, password: 'p' }, /additional properties/],
    [null, /must be object/],
  ] as const) {
    t.throws(() => check('alert.raised', data), { code: 'internal', message: complaint });
  }
  t.end();
});

sqliteStore('a wrong event fails the transaction of the change that it tells', async (t, store, { clock }) => {
  const sequencer = new Sequencer({ store, clock, log: silentLog });
  const events = createEventLog({ store, clock, ids: createIds(clock), sequencer });
  const data = { subject: 's', code: 'c', message: undefined } as never;
  const change = store.transaction(async (tx) => {
    await tx.insertInto('cursors').values({ consumer: 'change', position: 1 }).execute();
    await events.append(tx, 'alert.raised', { key: 's', actor: 'test', data });
  });
  await t.rejects(change, { code: 'internal' });
  t.same(await store.read.selectFrom('cursors').selectAll().execute(), []);
});

/** What a consumer can rely on; descriptions may be bettered. */
function shapeOf(type: keyof typeof catalogue): string {
  return JSON.stringify(catalogue[type].data, (name, value: unknown) => (name === 'description' ? undefined : value));
}

function lines(): [name: string, schema: string][] {
  const text = readFileSync(GOLDEN, 'utf8').split('\n').filter(Boolean);
  return text.map((line) => [line.split(' ').slice(0, 2).join(' '), line.slice(line.indexOf('{'))]);
}
