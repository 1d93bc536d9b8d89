import { Type } from 'typebox';
import type { Static } from 'typebox';

import type { FieldError } from '../../kernel/errors.ts';
import { RackstartError } from '../../kernel/errors.ts';
import { shapeNames } from './shapes.ts';
import type { SimulatedClusterSettings } from './simulated-cluster.ts';
import { usualDelays } from './simulated-cluster.ts';

const strict = { additionalProperties: false };
const Delay = Type.Integer({ minimum: 0, maximum: 86_400_000, description: 'milliseconds' });
const Delays = Type.Object({ least: Delay, usual: Delay, most: Delay }, strict);
const Rate = Type.Optional(Type.Number({ minimum: 0, maximum: 1 }));
const Rates = Type.Optional(Type.Object({ passing: Rate, permanent: Rate, hang: Rate, lies: Rate }, strict));

/** Clusters that are not there; see `SimulatedClusterSettings`. */
export const SimulationConfig = Type.Object(
  {
    clusters: Type.Array(
      Type.Object(
        {
          name: Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' }),
          shape: Type.Union(shapeNames.map((name) => Type.Literal(name))),
          region: Type.Optional(
            Type.String({ description: 'The name of the region it stands in; default: it serves all.' }),
          ),
          seed: Type.Optional(Type.String({ description: 'Another one gives other delays and faults.' })),
          delays: Type.Optional(
            Type.Partial(
              Type.Object({ create: Delays, start: Delays, find: Delays, delete: Delays, probe: Delays }, strict),
            ),
          ),
          failureRates: Type.Optional(
            Type.Object(
              { create: Rates, find: Rates, delete: Rates, probe: Rates },
              {
                ...strict,
                description: 'Shares of calls, of each way in which they go wrong.',
              },
            ),
          ),
        },
        strict,
      ),
      { maxItems: 64 },
    ),
  },
  { ...strict, description: 'Clusters that are simulated, to try the pipeline without hardware.' },
);

/** Errors: `config.invalid` naming what can't be. */
export function simulatedClusters(
  config: Static<typeof SimulationConfig> | undefined,
): readonly SimulatedClusterSettings[] {
  const clusters = config?.clusters ?? [];
  const wrong: FieldError[] = clusters.flatMap(({ name, delays = {}, failureRates = {} }, index) => {
    const at = `/simulation/clusters/${String(index)}`;
    const twice = clusters.findIndex((other) => other.name === name) < index;
    return [
      ...(twice ? [{ field: `${at}/name`, message: 'must be unique' }] : []),
      ...Object.entries(delays)
        .filter(([, { least, usual, most }]) => least > usual || usual > most)
        .map(([operation]) => ({
          field: `${at}/delays/${operation}`,
          message: 'must rise from least to usual to most',
        })),
      ...Object.entries(failureRates)
        .filter(([, rates]) => Object.values(rates).reduce((sum, rate) => sum + rate, 0) > 1)
        .map(([operation]) => ({ field: `${at}/failureRates/${operation}`, message: 'must add up to 1 at most' })),
    ];
  });
  if (wrong.length > 0) {
    const list = wrong.map(({ field, message }) => `${field} ${message}`).join('; ');
    throw new RackstartError('config.invalid', `The configuration is wrong: ${list}.`, { fields: wrong });
  }
  return clusters.map(({ name, shape, region, seed = name, delays, failureRates = {} }) => {
    return { name, shape, region, seed, delays: { ...usualDelays, ...delays }, failureRates };
  });
}
