import { apiBench } from '../../appliance/api/api.fixture.ts';
import type { ApiBench } from '../../appliance/api/api.fixture.ts';
import { sqliteStore } from '../../appliance/store/test-stores.ts';
import { wrongTexts, wrongs } from './against-schema.ts';
import type { Operation } from './api-document.ts';
import { faultOfNaming, readDocument } from './api-document.ts';
import { bodyTypes, knownIn } from './api-request.ts';
import { Dice } from './dice.ts';
import { valid } from './from-schema.ts';
import type { Schema } from './from-schema.ts';

// Nothing is there that these requests could mean.
const strange = knownIn({ known: {} });
// Of the fields that may be left out, and of lists, each value has some.
const VALUES = 4;

sqliteStore(
  'each field of each body, wrong in each way its schema knows, is named and it alone',
  async (t, store, c) => {
    const { bench, operations } = await openDocument(t, store, c.clock);
    let asked = 0;
    for (const operation of operations) {
      const { body, name } = operation;
      if (body === undefined) continue;
      const seen = new Set<string>();
      for (let number = 0; number < VALUES; number++) {
        const value = valid(body, new Dice(name, number), strange);
        for (const { field, way, value: spoilt } of wrongs(body, value)) {
          const what = `${field.replaceAll(/\/\d+/g, '/*')} ${way}`;
          if (seen.has(what)) continue;
          seen.add(what);
          const fault = faultOfNaming(field || '/', await send(bench, operation, { payload: JSON.stringify(spoilt) }));
          if (fault !== undefined) t.fail(`${name}: ${what}: ${fault}`);
          asked += 1;
        }
      }
      t.ok(seen.size >= 8, `${name}: ${seen.size} ways to be wrong`);
    }
    t.ok(asked > 1_000, `${asked} wrong bodies`);
  },
);

sqliteStore('each field of each URL, and what no route knows, is named and it alone', async (t, store, { clock }) => {
  const { bench, operations } = await openDocument(t, store, clock);
  for (const operation of operations) {
    const { parameters, body, name } = operation;
    const payload = body === undefined ? '' : JSON.stringify(valid(body, new Dice(name), strange));
    const queries = parameters.filter(({ in: place }) => place === 'query');
    const needed = queries
      .filter(({ required }) => required)
      .map((each): [string, string] => [each.name, textFor(each.name, each.schema)]);
    const wrong = queries.flatMap((each) => wrongTexts(each.schema).map((text): [string, string] => [each.name, text]));
    for (const [field, text] of [...wrong, ['unknown', 'x'], ['constructor', 'x']] as [string, string][]) {
      const query = new URLSearchParams([...needed.filter(([each]) => each !== field), [field, text]]).toString();
      const fault = faultOfNaming(`/querystring/${field}`, await send(bench, operation, { query, payload }));
      t.equal(fault, undefined, `${name} ${field}=${JSON.stringify(text.slice(0, 20))}`);
    }
    for (const { name: field } of parameters.filter(({ in: place }) => place === 'path')) {
      const query = new URLSearchParams(needed).toString();
      const answer = await send(bench, operation, { query, payload, params: { [field]: 'a b' } });
      t.equal(faultOfNaming(`/params/${field}`, answer), undefined, `${name} with another ${field}`);
    }
  }
});

sqliteStore('each body may be as long as its route says, and no longer', async (t, store, { clock }) => {
  const { bench, operations } = await openDocument(t, store, clock);
  for (const operation of operations) {
    if (operation.body === undefined) continue;
    const limit = Number(/The body may have (\d+) bytes/.exec(operation.description)?.[1]);
    const padded = (length: number) => `{${' '.repeat(length - 2)}}`;
    t.equal((await send(bench, operation, { payload: padded(limit + 1) })).status, 413, operation.name);
    t.not((await send(bench, operation, { payload: padded(limit) })).status, 413, operation.name);
  }
});

async function openDocument(...[t, store, clock]: Parameters<typeof apiBench>) {
  const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 100_000, burst: 1_000_000 } });
  const { operations } = readDocument((await bench.app.inject({ url: '/docs/json' })).body);
  return { bench, operations };
}

const textFor = (name: string, schema: Schema) => String(valid(schema, new Dice(name), strange));

/** Asks with what is wrong in `asked`; the rest is as the document wants it. */
async function send(
  { app, operator }: ApiBench,
  { method, path, parameters }: Operation,
  { query = '', payload = '', params = {} }: { query?: string; payload?: string; params?: Record<string, string> },
) {
  const url = parameters
    .filter(({ in: place }) => place === 'path')
    .reduce((text, { name, schema }) => {
      return text.replace(`{${name}}`, encodeURIComponent(params[name] ?? textFor(name, schema)));
    }, path);
  const type = bodyTypes[`${method} ${path}`] ?? (payload === '' ? undefined : 'application/json');
  const needed = parameters
    .filter(({ in: place, required = false }) => place === 'header' && required)
    .map(({ name, schema }) => [name, textFor(name, schema)] as const);
  const headers = {
    ...operator.headers,
    ...Object.fromEntries(needed),
    ...(type === undefined ? {} : { 'content-type': type }),
  };
  const { statusCode, body } = await app.inject({ method: method as 'GET', url: `${url}?${query}`, headers, payload });
  return { status: statusCode, body };
}
