import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface EventType {
  readonly type: string;
  readonly version: number;
  readonly key: string;
  readonly schema: { readonly properties?: Readonly<Record<string, unknown>>; readonly required?: readonly string[] };
}

interface Event {
  readonly position: number;
  readonly type: string;
  readonly key: string;
  readonly at: string;
  readonly actor: string;
  readonly data: unknown;
}

interface Wanted extends RemoteOptions {
  readonly after: string;
  readonly limit: string;
  readonly type?: string;
  readonly key?: string;
}

/** `events list|types`: what happened, and the shapes in which it is told. */
export function eventCommands(program: Command, context: CliContext): void {
  const group = program.command('events').description('what happened');
  asksApi(
    group
      .command('list')
      .description('list events after a position, the oldest first')
      .option('--after <position>', 'go on behind this one', '0')
      .option('--limit <number>', 'so many at most', '100')
      .option('--type <types>', 'of this type alone; several with commas')
      .option('--key <id>', 'about this one alone'),
  ).action(async ({ after, limit, type, key, ...options }: Wanted) => {
    const { api, answer } = await connect(context, options);
    const query = new URLSearchParams({ after, limit, ...(type && { type }), ...(key && { key }) });
    const page = (await api.get(`/events?${query.toString()}`)) as { events: Event[] };
    const rows = page.events.map((event) => {
      return [event.position, event.at, event.type, event.key, event.actor, JSON.stringify(event.data)];
    });
    answer(page, table(['position', 'at', 'type', 'key', 'actor', 'data'], rows));
  });
  asksApi(
    group
      .command('types')
      .description('list the types of events and their fields; with --json the JSON Schema of each'),
  ).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const { types } = (await api.get('/events/catalogue')) as { types: EventType[] };
    const rows = types.map(({ type, version, key, schema }) => [type, version, key, fieldsOf(schema)]);
    answer({ types }, table(['type', 'version', 'keyed by', 'data'], rows));
  });
}

function fieldsOf({ properties = {}, required = [] }: EventType['schema']): string {
  return Object.keys(properties)
    .map((name) => (required.includes(name) ? name : `${name}?`))
    .join(' ');
}
