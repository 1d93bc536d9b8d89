import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { megabytes, table } from './text.ts';

interface Certificate {
  readonly disk: string;
  readonly serial: string;
  readonly bytes: number;
  readonly method: string;
  readonly endedAt: string;
  readonly samples: number;
  readonly result: string;
  readonly reason: string | null;
  readonly boot: string;
}

/** `machine wipes`: what proves that its disks were erased. */
export function wipesCommand(group: Command, context: CliContext): void {
  asksApi(
    group.command('wipes <machine>').description('list the certificates of its wipes; --json has all that they say'),
  ).action(async (nameOrId: string, options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get(`/machines/${await idOf(api, 'machines', nameOrId)}/wipes`)) as {
      wipes: Certificate[];
    };
    const rows = list.wipes.map(({ disk, serial, bytes, method, endedAt, samples, result, reason, boot }) => {
      return [endedAt, disk, serial, megabytes(bytes), method, samples, reason ?? result, boot];
    });
    answer(list, table(['ended', 'disk', 'serial', 'size', 'method', 'samples', 'result', 'boot'], rows));
  });
}
