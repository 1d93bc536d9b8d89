import { Type } from 'typebox';

import type { Clock } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import type { BootDeadlines } from '../machines/boot-deadlines.ts';
import type { StageWatch } from '../machines/late-boots.ts';
import { stageWatches } from '../machines/late-boots.ts';
import type { DeployTimes } from '../requests/deploy-statistics.ts';
import { deployStatistics } from '../requests/deploy-statistics.ts';
import { TIMES_KEPT } from '../requests/deploy-times.ts';
import type { Reader } from '../store/store.ts';
import type { Api } from './typed-api.ts';
import { Name, Timestamp, iso, problems, strict } from './schemas.ts';
import { invalid } from './unique.ts';

/** What a deploy may take from the API call to SSH, in seconds: 99 in 100, and one in two. */
export interface DeployTargets {
  readonly deploySeconds: number;
  readonly deployMedianSeconds: number;
}

const Seconds = Type.Number({ minimum: 0, description: 'seconds' });
const Times = {
  deploys: Type.Integer(),
  withinTarget: Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()], {
    description: 'Share of the deploys that took no longer than the target; null without any.',
  }),
  medianMet: Type.Union([Type.Boolean(), Type.Null()], { description: 'Whether p50 is within the median target.' }),
  spans: Type.Array(
    Type.Object({
      span: Type.String({ description: 'A stage; or `boot-command` or `total`, from the API call to there.' }),
      deploys: Type.Integer(),
      p50Seconds: Seconds,
      p99Seconds: Seconds,
    }),
  ),
};
const Maybe = Type.Union([Type.String(), Type.Null()]);
const Performance = Type.Object({
  since: Timestamp,
  target: Type.Object({ seconds: Seconds, medianSeconds: Seconds }),
  all: Type.Object(Times),
  kinds: Type.Array(Type.Object({ model: Maybe, firmware: Maybe, path: Type.String(), ...Times })),
  stages: Type.Array(
    Type.Object({
      model: Maybe,
      firmware: Maybe,
      stage: Type.String({ description: 'Of a boot; an image counts for each GiB.' }),
      boots: Type.Integer({ description: 'The newest that came to its end; the deadline is made of them.' }),
      p99Seconds: Type.Union([Seconds, Type.Null()]),
      allowedSeconds: Seconds,
      basis: Type.String({ description: '`measured`, `floor`, `ceiling`, `cold` or `doubted`' }),
      late: Type.Integer({ description: 'Boots that stood still in this stage until they were given up.' }),
      noticedP50Seconds: Type.Union([Seconds, Type.Null()], {
        description: 'After its last sign of life; null when none was late.',
      }),
      noticedP99Seconds: Type.Union([Seconds, Type.Null()]),
    }),
    { description: 'What stages of boots may take on each hardware, and how soon it was noticed that one was dead.' },
  ),
});

interface PerformanceDeps {
  readonly read: Reader;
  readonly clock: Clock;
  readonly deadlines: BootDeadlines;
  readonly targets: DeployTargets;
}

/**
 * How long deploys took, by stage, hardware model, firmware and path, and how many met the target; how long a stage may take, and
 * how long the dead went unnoticed.
 */
export function performanceRoutes(api: Api, { read, clock, deadlines, targets }: PerformanceDeps): void {
  api.get(
    '/performance',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags: ['performance'],
        summary: 'Tell how long deploys of the last 30 days took: nearest-rank p50 and p99 of every stage',
        querystring: Type.Object(
          {
            region: Type.Optional(Name),
            model: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
            firmware: Type.Optional(Type.Enum(['bios', 'uefi'])),
            path: Type.Optional(Type.Enum(['cold', 'warm'])),
            since: Type.Optional(Timestamp),
          },
          strict,
        ),
        response: { 200: Performance, ...problems },
      },
    },
    async ({ query: { region, since: asked, ...kind } }) => {
      const kept = clock.now() - TIMES_KEPT;
      const since = Math.max(kept, asked === undefined ? kept : Date.parse(asked));
      const regionId = region === undefined ? {} : { regionId: await idOf(read, region) };
      const target = targets.deploySeconds * SECOND;
      const { all, kinds } = await deployStatistics(read, { since, ...regionId, ...kind }, target);
      const { path: _cold, ...hardware } = kind;
      const stages = await stageWatches(read, deadlines, { since, ...regionId, ...hardware });
      return {
        since: iso(since),
        target: { seconds: targets.deploySeconds, medianSeconds: targets.deployMedianSeconds },
        all: present(all, targets),
        kinds: kinds.map(({ model, firmware, path, ...times }) => {
          return { model, firmware, path, ...present(times, targets) };
        }),
        stages: stages.map(presentStage),
      };
    },
  );
}

function present({ deploys, withinTarget, spans }: DeployTimes, { deployMedianSeconds }: DeployTargets) {
  const median = spans.find(({ span }) => span === 'total')?.p50;
  return {
    deploys,
    withinTarget: deploys === 0 ? null : withinTarget / deploys,
    medianMet: median === undefined ? null : median <= deployMedianSeconds * SECOND,
    spans: spans.map(({ span, deploys: timed, p50, p99 }) => {
      return { span, deploys: timed, p50Seconds: p50 / SECOND, p99Seconds: p99 / SECOND };
    }),
  };
}

function presentStage({ model, firmware, stage, allowed, noticed }: StageWatch) {
  const { samples, p99, milliseconds, basis } = allowed;
  return {
    ...{ model, firmware, stage, boots: samples, p99Seconds: p99 === undefined ? null : p99 / SECOND },
    ...{ allowedSeconds: milliseconds / SECOND, basis, late: noticed?.boots ?? 0 },
    noticedP50Seconds: noticed === undefined ? null : noticed.p50 / SECOND,
    noticedP99Seconds: noticed === undefined ? null : noticed.p99 / SECOND,
  };
}

/** Errors: `request.invalid` about `/querystring/region`. */
async function idOf(read: Reader, region: string): Promise<string> {
  const row = await read.selectFrom('regions').select('id').where('name', '=', region).executeTakeFirst();
  if (row === undefined) throw invalid('/querystring/region', 'There is no such region.');
  return row.id;
}
