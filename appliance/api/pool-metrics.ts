import { Gauge } from 'prom-client';
import type { Registry } from 'prom-client';

import { SECOND } from '../kernel/clock.ts';
import type { NamedPool } from './pools.ts';

/** The ready pools as this daemon last looked at them; nothing where it keeps none. Several daemons on one database tell the same. */
export function poolMetrics(registers: Registry[], pools: () => Promise<readonly NamedPool[]>): void {
  const gauge = <Label extends string>(
    name: string,
    help: string,
    more: readonly Label[],
    tell: (pool: NamedPool) => readonly (readonly [Record<Label, string>, number])[],
  ) =>
    new Gauge({
      name: `rackstart_pool_${name}`,
      help,
      labelNames: ['region', 'flavor', ...more],
      registers,
      async collect() {
        this.reset();
        for (const pool of await pools()) {
          const { region, flavor } = pool;
          for (const [labels, value] of tell(pool)) this.set({ region, flavor, ...labels }, value);
        }
      },
    });
  gauge('machines', 'Machines of a ready pool, by state.', ['state'], ({ available, warming, ready }) => [
    [{ state: 'available' }, available],
    [{ state: 'warming' }, warming],
    [{ state: 'ready' }, ready],
  ]);
  gauge('capacity', 'Machines that count to a ready pool, whatever they do.', [], ({ capacity }) => [[{}, capacity]]);
  gauge('target', 'How many machines should be ready or on their way.', [], ({ target }) => [[{}, target]]);
  gauge('floor', 'What the target never falls below.', [], ({ floor }) => [[{}, floor]]);
  gauge('ceiling', 'What the target never exceeds.', [], ({ ceiling }) => [[{}, ceiling]]);
  gauge('warm_up_seconds', 'How long a machine is taken to need to get ready.', [], ({ warmUp }) => [
    [{}, warmUp.milliseconds / SECOND],
  ]);
}
