import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import type { MachineSpec } from '../rack/machine.ts';
import type { Server, Timeline } from '../site/server.ts';
import type { Site, SiteOptions } from '../site/site.ts';
import { openSite } from '../site/site.ts';

/** What a flow may take for one deploy, on two busy cores. */
export const DEPLOY_MS = 6 * 60_000;

/**
 * A flow through whole machines: a site is opened, used and closed, and the doctor looks at what is left. When the flow
 * fails, serial logs, packets, the daemon's log and the event log are kept, and named.
 */
export function machineFlow(
  title: string,
  machines: readonly MachineSpec[],
  play: (t: Test, site: Site) => Promise<void>,
  options: Pick<SiteOptions, 'settings' | 'cloudImage' | 'kexecArgs'> = {},
): void {
  void test(title, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'rs-flow-'));
    const began = performance.now();
    const say = (line: string) => console.error(`${((performance.now() - began) / 1000).toFixed(1)} s  ${line}`);
    const site = await openSite({ name: 'flow', directory, machines, progress: say, ...options });
    const packets = await site.rack.capture(join(directory, 'packets.pcap'));
    try {
      await play(t, site);
      t.match(await site.doctor(), /invariants hold/, 'every invariant holds');
    } catch (error) {
      t.fail(error instanceof Error ? error.message : String(error));
    }
    const kept = t.passing() ? undefined : await keepEvidence(site, directory);
    await packets.stop();
    await site.close();
    if (kept === undefined) await rm(directory, { recursive: true });
    else console.error(`evidence is kept in ${directory}: ${kept.join(', ')}`);
  });
}

/** What somebody wants to be told of while a server is on its way, which goes on meanwhile. */
export interface Watch {
  /** Of each stage that has ended, once. */
  readonly onStage?: (stage: string) => Promise<void>;
  /** Of the bytes of the raw disk that the ramdisk has told to be written, whenever they are more. */
  readonly onImage?: (bytes: number) => Promise<void>;
}

/** Orders a server and fails, with its reason, unless it works in the end. */
export async function deployed(site: Site, hostname: string, watch?: Watch): Promise<Server> {
  const { id } = await site.order(hostname);
  return completed(await follow(site, id, watch));
}

/** Watches a server until it rests. */
export async function follow(site: Site, id: string, { onStage, onImage }: Watch = {}): Promise<Server> {
  const told = new Set<string>();
  let written = 0;
  return site.settle(id, DEPLOY_MS, async (_server, { stages }) => {
    const bytes = onImage === undefined ? 0 : await imageBytes(site, id);
    if (bytes > written) await onImage?.((written = bytes));
    for (const { name, endedAt } of stages) {
      if (endedAt === null || told.has(name)) continue;
      told.add(name);
      await onStage?.(name);
    }
  });
}

/** A tenant is told that there was progress; an operator how much. */
async function imageBytes({ operator }: Site, id: string): Promise<number> {
  const { entries } = await operator.get<Timeline>(`/servers/${id}/timeline`);
  const progress = entries.filter(({ source, name }) => source === 'ramdisk' && name === 'image progress');
  return Math.max(0, ...progress.map(({ detail }) => Number(detail['bytes'])));
}

export function completed(server: Server): Server {
  if (server.state === 'completed') return server;
  throw new Error(`server ${server.hostname} is ${server.state}: ${JSON.stringify(server.failure)}`);
}

async function keepEvidence(site: Site, directory: string): Promise<string[]> {
  const evidence = join(directory, 'evidence');
  mkdirSync(evidence);
  const events = await site.operator.get('/events?limit=1000').catch((error: unknown) => String(error));
  writeFileSync(join(evidence, 'events.json'), JSON.stringify(events, null, 2));
  copyFileSync(site.daemon.logFile, join(evidence, 'daemon.log'));
  for (const { name, serialLog } of site.rack.machines) {
    try {
      copyFileSync(serialLog, join(evidence, `${name}-serial.log`));
    } catch {
      // It was never switched on.
    }
  }
  return ['evidence/events.json', 'evidence/daemon.log', 'evidence/*-serial.log', 'packets.pcap'];
}
