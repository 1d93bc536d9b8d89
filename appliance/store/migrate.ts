import type { Kysely, Transaction } from 'kysely';

import type { Clock, Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import { up as spine } from './migrations/001-spine.ts';
import { up as bootPlane } from './migrations/002-boot-plane.ts';
import { up as pipeline } from './migrations/003-pipeline.ts';
import { up as images } from './migrations/004-images.ts';
import { up as diskLayouts } from './migrations/005-disk-layouts.ts';
import { up as machineIssues } from './migrations/006-machine-issues.ts';
import { up as stageTimes } from './migrations/007-stage-times.ts';
import { up as mirroredImages } from './migrations/008-mirrored-images.ts';
import { up as attempts } from './migrations/009-attempts.ts';
import { up as warmPath } from './migrations/010-warm-path.ts';
import { up as handoffs } from './migrations/011-handoffs.ts';
import { up as lateBoots } from './migrations/012-late-boots.ts';
import { up as manifest } from './migrations/013-manifest.ts';
import { up as warmUps } from './migrations/014-warm-ups.ts';
import { up as discovery } from './migrations/015-discovery.ts';
import { up as inventories } from './migrations/016-inventories.ts';
import { up as hedges } from './migrations/017-hedges.ts';
import { up as switchRules } from './migrations/018-switch-rules.ts';
import { up as hedgesAgain } from './migrations/019-hedges-again.ts';
import { up as imageAhead } from './migrations/020-image-ahead.ts';
import { up as watchdogs } from './migrations/021-watchdogs.ts';
import type { Database } from './schema.ts';

/** One step forward; there is none back. A released migration is never edited. */
export interface Migration {
  /** Counts from 1, without gaps. */
  number: number;
  name: string;
  up(db: Kysely<unknown>): Promise<void>;
}

export const migrations: readonly Migration[] = [
  { number: 1, name: 'spine', up: spine },
  { number: 2, name: 'boot-plane', up: bootPlane },
  { number: 3, name: 'pipeline', up: pipeline },
  { number: 4, name: 'images', up: images },
  { number: 5, name: 'disk-layouts', up: diskLayouts },
  { number: 6, name: 'machine-issues', up: machineIssues },
  { number: 7, name: 'stage-times', up: stageTimes },
  { number: 8, name: 'mirrored-images', up: mirroredImages },
  { number: 9, name: 'attempts', up: attempts },
  { number: 10, name: 'warm-path', up: warmPath },
  { number: 11, name: 'handoffs', up: handoffs },
  { number: 12, name: 'late-boots', up: lateBoots },
  { number: 13, name: 'manifest', up: manifest },
  { number: 14, name: 'warm-ups', up: warmUps },
  { number: 15, name: 'discovery', up: discovery },
  { number: 16, name: 'inventories', up: inventories },
  { number: 17, name: 'hedges', up: hedges },
  { number: 18, name: 'switch-rules', up: switchRules },
  { number: 19, name: 'hedges-again', up: hedgesAgain },
  { number: 20, name: 'image-ahead', up: imageAhead },
  { number: 21, name: 'watchdogs', up: watchdogs },
];

export interface MigrateOptions {
  /** Until the transaction ends nobody else migrates. */
  lockSchema: (tx: Transaction<Database>) => Promise<void>;
  clock: Clock;
  log: Log;
}

/** Applies what is missing, each in a transaction of its own; `store.newer-schema` when the database knows more than we. */
export async function migrate(
  writer: Kysely<Database>,
  { lockSchema, clock, log }: MigrateOptions,
  steps: readonly Migration[] = migrations,
): Promise<void> {
  const next = async (tx: Transaction<Database>) => {
    await lockSchema(tx);
    const records = tx as unknown as Kysely<MigrationTables>;
    await createRecords(records);
    const version = await latest(records);
    requireKnownSchema(version, steps);
    const step = steps[version];
    if (step === undefined) return undefined;
    await step.up(tx as unknown as Kysely<unknown>);
    await records
      .insertInto('schema_migrations')
      .values({ number: step.number, name: step.name, applied_at: clock.now() })
      .execute();
    return step;
  };
  for (;;) {
    const applied = await writer.transaction().execute(next);
    if (applied === undefined) return;
    log.info({ number: applied.number, name: applied.name }, 'schema migrated');
  }
}

/** For those who only read: `store.older-schema` and `store.newer-schema` unless the schema is the one we know. */
export async function requireCurrentSchema(
  reader: Kysely<Database>,
  steps: readonly Migration[] = migrations,
): Promise<void> {
  const tables = await reader.introspection.getTables();
  const known = tables.some(({ name }) => name === 'schema_migrations');
  const version = known ? await latest(reader as unknown as Kysely<MigrationTables>) : 0;
  requireKnownSchema(version, steps);
  if (version < steps.length) {
    throw new RackstartError(
      'store.older-schema',
      `The database has schema ${version}, this program reads schema ${steps.length}.`,
    );
  }
}

/** `store.newer-schema` unless this program knows the schema of that number. */
export function requireKnownSchema(version: number, steps: readonly Migration[] = migrations): void {
  if (version <= steps.length) return;
  throw new RackstartError(
    'store.newer-schema',
    `The database has schema ${version}, this program knows schemas up to ${steps.length}.`,
  );
}

interface MigrationTables {
  schema_migrations: { number: number; name: string; applied_at: Millis };
}

async function createRecords(db: Kysely<MigrationTables>): Promise<void> {
  await db.schema
    .createTable('schema_migrations')
    .ifNotExists()
    .addColumn('number', 'integer', (column) => column.notNull().primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('applied_at', 'bigint', (column) => column.notNull())
    .execute();
}

async function latest(db: Kysely<MigrationTables>): Promise<number> {
  const row = await db
    .selectFrom('schema_migrations')
    .select(({ fn }) => fn.max('number').as('version'))
    .executeTakeFirst();
  return row?.version ?? 0;
}
