import { Type } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { listHandoffs, setHandoff } from '../machines/handoffs.ts';
import type { Store } from '../store/store.ts';
import { doneBy } from './auth.ts';
import { Timestamp, iso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

const Model = Type.String({ minLength: 1, maxLength: 256 });
const Firmware = Type.Enum(['bios', 'uefi']);
const How = Type.Enum(['kexec', 'reset'], {
  description: 'kexec: out of the ramdisk, at once. reset: by way of the firmware, from the disk.',
});
const Handoffs = Type.Object({
  handoffs: Type.Array(
    Type.Object({
      model: Model,
      firmware: Firmware,
      handoff: How,
      failures: Type.Integer({ description: 'Of kexec, in a row.' }),
      successes: Type.Integer({ description: 'Of kexec.' }),
      since: Timestamp,
      setBy: Type.String({ description: 'A key, or `saga`: the appliance itself.' }),
    }),
  ),
});

const tags = ['machines'];

/** How servers are started on each model of hardware, and the operator's word about it. */
export function handoffRoutes(
  api: Api,
  { store, events, clock }: { readonly store: Store; readonly events: EventLog; readonly clock: Clock },
): void {
  const list = async () => ({
    handoffs: (await listHandoffs(store.read)).map(({ since, set_by: setBy, ...known }) => {
      return { ...known, since: iso(since), setBy };
    }),
  });

  api.get(
    '/handoffs',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'Tell how new servers are started on each hardware model, and how kexec fared there',
        response: { 200: Handoffs, ...problems },
      },
    },
    list,
  );

  api.post(
    '/handoffs',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Decide how new servers are started on a hardware model',
        body: Type.Object({ model: Model, firmware: Firmware, handoff: How }, strict),
        response: { 200: Handoffs, ...problems },
      },
    },
    async (request) => {
      const change = { ...request.body, ...doneBy(request), at: clock.now() };
      await store.transaction((tx) => setHandoff(tx, events, change));
      return list();
    },
  );
}
