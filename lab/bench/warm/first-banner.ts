import { join } from 'node:path';

import { startProcess } from '../../process/start.ts';
import type { Rack } from '../../rack/rack.ts';

export interface FirstBanner {
  /** Resolves when the SSH server there has said who it is; rejects when it is late. */
  said(withinMs: number): Promise<void>;
  stop(): Promise<void>;
}

/** Looks for an SSH server at an address of the rack's network. Resolves when it does. */
export async function firstBanner(rack: Rack, address: string, logFile: string): Promise<FirstBanner> {
  const argv = rack.exec([process.execPath, join(import.meta.dirname, 'banner.ts'), address]);
  const looking = await startProcess({ argv, logFile });
  await looking.line(/looking at/, 30_000);
  return {
    said: async (withinMs) => {
      await looking.line(/^SSH-/m, withinMs);
    },
    stop: async () => {
      await looking.stop();
    },
  };
}
