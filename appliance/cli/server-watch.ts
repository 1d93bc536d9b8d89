import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import { follow } from './follow.ts';
import { Progress } from './progress.ts';
import type { Server, Timeline } from './server-text.ts';
import { factsText, span } from './server-text.ts';

/** Shows a deploy until the server is there. Errors: `UsageError` with the reason when it failed or was cancelled. */
export function watchDeploy(context: CliContext, api: ApiClient, id: string): Promise<Server> {
  return watch(context, api, id, (server) => {
    if (server.status === 'active') return true;
    if (server.status !== 'failed' && server.status !== 'gone') return false;
    const { failure } = server;
    const reason = failure === null ? 'It was cancelled.' : `${failure.message} (${failure.code})`;
    const step = failure?.step === undefined ? '' : ` at step ${failure.step}`;
    throw new UsageError(
      `Server ${server.hostname} is not coming${step}: ${reason}`,
      `All that was seen of it: rackstart server timeline ${id}`,
    );
  });
}

/** Shows a release until nothing of the server is left. */
export function watchRelease(context: CliContext, api: ApiClient, id: string): Promise<Server> {
  return watch(context, api, id, ({ endedAt }) => endedAt !== null);
}

async function watch(
  context: CliContext,
  api: ApiClient,
  id: string,
  isOver: (server: Server) => boolean,
): Promise<Server> {
  const progress = new Progress(context);
  const told = new Set<string>();
  const tell = (text: string) => {
    if (!told.has(text)) progress.line(text);
    told.add(text);
  };
  try {
    return await follow(context, api, async () => {
      const server = (await api.get(`/servers/${id}`)) as Server;
      const timeline = (await api.get(`/servers/${id}/timeline`)) as Timeline;
      for (const line of linesOf(server, timeline)) tell(line);
      if (isOver(server)) return server;
      progress.live(`${server.state}: ${goingOn(timeline) ?? 'waiting'} ...`);
      return undefined;
    });
  } finally {
    progress.end();
  }
}

/** What is known by now, in the order in which it ended: lines that stay true. */
function linesOf({ hostname, state, attempts }: Server, { stages }: Timeline): string[] {
  const ended = [
    ...stages.map(({ name, facts, ...times }) => ({ ...times, what: 'stage', name, more: factsText(facts) })),
    ...attempts.flatMap(({ number, machine, steps }) =>
      steps.map(({ name, state: outcome, startedAt, endedAt }) => {
        const more = [outcome, `attempt ${String(number)}`, ...(machine === null ? [] : [`on ${machine}`])].join(', ');
        return { startedAt, endedAt, what: 'step', name, more };
      }),
    ),
  ].filter(({ endedAt }) => endedAt !== null);
  ended.sort((a, b) => (a.endedAt ?? '').localeCompare(b.endedAt ?? ''));
  const lines = ended.map(({ what, name, startedAt, endedAt, more }) => {
    return `  ${what.padEnd(5)} ${name.padEnd(10)} ${span(startedAt, endedAt).padStart(8)}  ${more}`.trimEnd();
  });
  return [...lines, `${hostname}: ${state}`];
}

function goingOn({ stages }: Timeline): string | undefined {
  return stages.findLast(({ endedAt }) => endedAt === null)?.name;
}
