import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';

import { Secret } from '../kernel/secret.ts';
import { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';

/** What every command understands that asks an appliance. */
export interface RemoteOptions {
  readonly url?: string;
  readonly keyFile?: string;
  readonly json?: boolean;
}

export interface Remote {
  readonly api: ApiClient;
  /** Prints what the API answered: as it is with `--json`, else the text for people. */
  readonly answer: (value: unknown, text: string) => void;
}

const DEFAULT_URL = 'http://127.0.0.1:7770';

/** Adds the options of `RemoteOptions`. */
export function asksApi(command: Command): Command {
  return command
    .option('--url <url>', `the appliance's API (default: RACKSTART_URL, or ${DEFAULT_URL})`)
    .option(
      '--key-file <file>',
      'file with the API key (default: RACKSTART_KEY_FILE; or the key itself in RACKSTART_KEY)',
    )
    .option('--json', 'print what the API answers, for programs');
}

export async function connect(context: CliContext, { url, keyFile, json = false }: RemoteOptions): Promise<Remote> {
  const { environment, signal } = context;
  const address = {
    url: url ?? environment['RACKSTART_URL'] ?? DEFAULT_URL,
    key: await apiKey(keyFile ?? environment['RACKSTART_KEY_FILE'], environment['RACKSTART_KEY']),
  };
  return { api: new ApiClient(address, signal), answer: answerTo(context, json) };
}

export function answerTo({ stdout }: CliContext, json: boolean): Remote['answer'] {
  return (value, text) => void stdout.write(json ? `${JSON.stringify(value ?? null)}\n` : text);
}

// Never an argument: those are for every user of the host to see.
async function apiKey(file: string | undefined, key: string | undefined): Promise<Secret> {
  if (file !== undefined) return new Secret((await readText(file, 'The key file')).trim());
  if (key !== undefined && key !== '') return new Secret(key);
  throw new UsageError(
    'There is no API key to ask with.',
    "Name its file: --key-file or RACKSTART_KEY_FILE. The operator's first key is operator.key in the state directory.",
  );
}

export async function readText(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new UsageError(`${what} ${file} can't be read.`, 'Check its name and who may read it.', cause);
  }
}

interface Named {
  readonly id: string;
  readonly name: string;
}

/** The id of what is called so; an id is taken for what it is. `list` is a route whose answer holds the list under `plural`. */
export async function idOf(
  api: ApiClient,
  plural: 'machines' | 'racks' | 'regions' | 'tenants' | 'users',
  nameOrId: string,
): Promise<string> {
  const answer = (await api.get(`/${plural}`)) as Readonly<Record<string, readonly Named[]>>;
  const found = answer[plural]?.find(({ id, name }) => id === nameOrId || name === nameOrId);
  if (found !== undefined) return found.id;
  const one = plural.slice(0, -1);
  throw new UsageError(`There is no ${one} ${nameOrId}.`, `rackstart ${one} list shows what there is.`);
}
