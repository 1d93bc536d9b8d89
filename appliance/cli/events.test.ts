import { test } from 'tap';

import { catalogue } from '../events/catalogue.ts';
import { place } from './cli.fixture.ts';

test('events are listed from any position, and their types with the schema of each', async (t) => {
  const here = place(t);
  const served = await here.serve();
  for (const name of ['acme', 'rival']) t.equal((await served.ask(['tenant', 'add', name])).code, 0);
  const list = async (...args: string[]) => {
    const { out } = await served.ask(['events', 'list', '--json', ...args]);
    return JSON.parse(out) as {
      events: { position: number; type: string; data: { name: string } }[];
      position: number;
    };
  };
  const tenants = await list('--type', 'tenant.created');
  t.same(
    tenants.events.map(({ data }) => data.name),
    ['acme', 'rival'],
  );
  const [first] = tenants.events;
  const rest = await list('--type', 'tenant.created', '--after', String(first?.position));
  t.same(
    rest.events.map(({ data }) => data.name),
    ['rival'],
  );
  t.match((await served.ask(['events', 'list'])).out, /^POSITION +AT +TYPE .*\n.*tenant\.created/s);
  t.match(await served.ask(['events', 'list', '--type', 'pigs.fly']), { code: 1, err: /no type pigs\.fly/ });

  t.match((await served.ask(['events', 'types'])).out, /\nprovisioning\.started +1 +requestId +.*attempt/);
  const { types } = JSON.parse((await served.ask(['events', 'types', '--json'])).out) as { types: unknown[] };
  t.equal(types.length, Object.keys(catalogue).length);
  t.match(types, [{ type: 'provisioning.started', version: 1, schema: { type: 'object', properties: {} } }]);
  t.equal((await served.stop()).code, 0);
});
