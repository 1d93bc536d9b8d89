import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { createEventLog } from '../events/event-log.ts';
import { Sequencer } from '../events/sequencer.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import { planned, resourcePlan } from './resource-plan.ts';
import type { Resource } from './resource-plan.ts';
import { resourceStep } from './resource-step.ts';
import { SagaRunner } from './saga-runner.ts';
import { bindSaga, saga } from './saga.ts';
import { Sagas } from './sagas.ts';
import { done } from './step.ts';

/**
 * A daemon of files: `node saga-kill.fixture.ts URL DIRECTORY`. It makes file `a`, then file `b`; having made `hangAt` it says
 * so and does nothing more, so that it can be killed between the effect and its record.
 */
export interface FileWorld {
  directory: string;
  hangAt?: string;
  made: string[];
}

const file: Resource<string, { path: string }, FileWorld> = {
  async create(_key, name, { deps }) {
    const path = join(deps.directory, name);
    writeFileSync(path, '');
    deps.made.push(name);
    if (name === deps.hangAt) {
      process.stdout.write(`made ${name}\n`);
      await new Promise(() => undefined);
    }
    return done({ path });
  },
  async find(key, { deps }) {
    const path = join(deps.directory, key.slice(-1));
    return existsSync(path) ? { path } : undefined;
  },
  async delete(key, _ref, { deps }) {
    rmSync(join(deps.directory, key.slice(-1)), { force: true });
    return done();
  },
};

export const files = saga<null, FileWorld>('files', 1)
  .step(
    'a',
    resourceStep(() => resourcePlan(planned('a', file, 'a'))),
  )
  .step(
    'b',
    resourceStep(() => resourcePlan(planned('b', file, 'b'))),
  )
  .build();

export function daemon(store: Store, world: FileWorld): { sagas: Sagas; sequencer: Sequencer; runner: SagaRunner } {
  const deps = { store, clock: systemClock, ids: createIds(systemClock), log: silentLog };
  const sequencer = new Sequencer(deps);
  const events = createEventLog({ ...deps, sequencer });
  const sagas = new Sagas(deps);
  const options = { owner: 'daemon', soleOwner: true, sagas: [bindSaga(files, world)] };
  return { sagas, sequencer, runner: new SagaRunner({ ...deps, events, sagas }, options) };
}

const [, program, url, directory] = process.argv;
if (program === import.meta.filename && url !== undefined && directory !== undefined) {
  const store = await openStore({ url, clock: systemClock, log: silentLog });
  const { sagas, runner } = daemon(store, { directory, hangAt: 'b', made: [] });
  const running = runner.run(new AbortController().signal);
  await store.transaction((tx) => sagas.start(tx, files, { subject: 'killed', params: null }));
  await running;
}
