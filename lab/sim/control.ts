import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';

import type { Mains } from './mains.ts';
import type { Notebook, Statistics } from './statistics.ts';

export interface ControlDeps {
  readonly notes: Notebook;
  readonly mains: Mains;
  readonly fleet: () => Pick<Statistics, 'machines' | 'on' | 'systems'>;
}

/**
 * The channel by which tests and benches ask a simulation and command it: HTTP on a unix socket, which reaches into its network
 * namespace from outside. `GET /statistics` answers with `Statistics`; `POST /forget` begins them anew; `POST /mains/cut` and `POST
 * /mains/restore` are the room's switch. `SimulatedRack` has a method for each.
 */
export async function openControl(socketPath: string, deps: ControlDeps): Promise<{ close(): Promise<void> }> {
  const server = createServer((request, response) => answer(request, response, deps));
  server.listen(socketPath);
  await once(server, 'listening');
  return {
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function answer(
  { method, url }: IncomingMessage,
  response: ServerResponse,
  { notes, mains, fleet }: ControlDeps,
): void {
  switch (`${method} ${url}`) {
    case 'GET /statistics':
      response.end(JSON.stringify(notes.read(fleet())));
      return;
    case 'POST /forget':
      notes.forget();
      break;
    case 'POST /mains/cut':
      mains.cut();
      break;
    case 'POST /mains/restore':
      mains.restore();
      break;
    default:
      response.statusCode = 404;
  }
  response.end();
}
