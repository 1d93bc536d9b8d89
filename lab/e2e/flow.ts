import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import type { MachineSpec } from '../rack/machine.ts';
import type { Server } from '../site/server.ts';
import type { Site } from '../site/site.ts';
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
  settings: readonly string[] = [],
): void {
  void test(title, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'rs-flow-'));
    const began = performance.now();
    const say = (line: string) => console.error(`${((performance.now() - began) / 1000).toFixed(1)} s  ${line}`);
    const site = await openSite({ name: 'flow', directory, machines, progress: say, settings });
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

/** Orders a server and fails, with its reason, unless it works in the end. */
export async function deployed(
  site: Site,
  hostname: string,
  onStage?: (stage: string) => Promise<void>,
): Promise<Server> {
  const { id } = await site.order(hostname);
  return completed(await follow(site, id, onStage));
}

/** Watches a server until it rests; `onStage` is told of each stage that has ended, once, while it waits. */
export async function follow(
  site: Site,
  id: string,
  onStage: (stage: string) => Promise<void> = async () => undefined,
) {
  const told = new Set<string>();
  return site.settle(id, DEPLOY_MS, async (_server, { stages }) => {
    for (const { name, endedAt } of stages) {
      if (endedAt === null || told.has(name)) continue;
      told.add(name);
      await onStage(name);
    }
  });
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
