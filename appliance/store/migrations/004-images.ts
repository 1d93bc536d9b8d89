import type { Kysely } from 'kysely';
import { SqliteAdapter, sql } from 'kysely';

/**
 * Images of one tenant; what is on their disks, and what they came from; those that are not ordered anew, and those that are gone.
 * All are in chunks: one that was stored as one file can't be ordered any more, and is deleted, which frees its name. Image
 * imports: the long work of making one.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  const isSqlite = db.getExecutor().adapter instanceof SqliteAdapter;
  for (const statement of [...(isSqlite ? rebuilt : changed), ...both]) await sql.raw(statement).execute(db);
}

/** Its row stays for what was ordered with it. */
const deletedAt = `case when map_bytes is null then created_at end`;

const added = [
  `tenant_id text references tenants (id)`,
  `source_format text`,
  `partition_table text check (partition_table in ('gpt', 'mbr'))`,
  `deprecated_at bigint`,
  `deleted_at bigint`,
];

/** Names are unique to each tenant now, and free again once an image is deleted: the constraint of 001 goes. */
const changed = [
  `alter table images drop constraint images_name_version_key`,
  ...added.map((column) => `alter table images add column ${column}`),
  `alter table images add check (root_fs in ('ext4', 'xfs', 'btrfs'))`,
  `update images set deleted_at = ${deletedAt}, map_bytes = coalesce(map_bytes, 0),
    source_sha256 = coalesce(source_sha256, sha256)`,
  `alter table images alter column map_bytes set not null`,
  `alter table images alter column source_sha256 set not null`,
  `alter table images drop column format`,
];

/** SQLite drops no constraint: the table is made again, while what refers to its rows waits for the commit. */
const rebuilt = [
  `create table images_003 as select * from images`,
  `pragma defer_foreign_keys = on`,
  `drop table images`,
  `create table images (
    id text not null primary key,
    name text not null,
    version text not null,
    sha256 text not null,
    bytes bigint not null,
    raw_bytes bigint not null,
    root_partition integer not null,
    root_fs text not null check (root_fs in ('ext4', 'xfs', 'btrfs')),
    kernel_args text not null,
    created_at bigint not null,
    map_bytes bigint not null,
    source_sha256 text not null,
    ${added.join(', ')}
  )`,
  `insert into images (id, name, version, sha256, bytes, raw_bytes, root_partition, root_fs, kernel_args, created_at,
      map_bytes, source_sha256, deleted_at)
    select id, name, version, sha256, bytes, raw_bytes, root_partition, root_fs, kernel_args, created_at,
      coalesce(map_bytes, 0), coalesce(source_sha256, sha256), ${deletedAt} from images_003`,
  `drop table images_003`,
];

const both = [
  `create unique index images_by_name on images (coalesce(tenant_id, ''), name, version) where deleted_at is null`,
  `create index requests_by_image on requests (image_id) where ended_at is null`,
  `create table image_imports (
    id text not null primary key,
    tenant_id text references tenants (id),
    name text not null,
    version text not null,
    format text not null,
    sha256 text not null,
    root_partition integer,
    kernel_args text not null,
    upload_id text,
    url text,
    reserved_bytes bigint not null,
    state text not null check (state in ('running', 'done', 'failed')),
    stage text,
    image_id text references images (id),
    failure text,
    created_by text not null,
    created_at bigint not null,
    ended_at bigint,
    check ((upload_id is null) <> (url is null)),
    check ((state = 'running') = (ended_at is null)),
    check ((state = 'done') = (image_id is not null)),
    check ((state = 'failed') = (failure is not null))
  )`,
  // What one upload became is one import.
  `create unique index image_imports_by_upload on image_imports (upload_id)`,
  `create index image_imports_running on image_imports (tenant_id) where state = 'running'`,
  `create index image_imports_by_age on image_imports (created_at, id)`,
];
