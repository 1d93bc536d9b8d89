/**
 * `npm run demo [-- --keep] [--report FILE]`: a rack of two machines, one BIOS, one UEFI; the appliance; a server ordered on
 * each by the public API, watched to the end, proven by SSH; then nothing is left behind.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import type { Server, Timeline } from '../site/server.ts';
import type { Site } from '../site/site.ts';
import { openSite } from '../site/site.ts';
import type { ServerReport } from './report.ts';
import { duration, serverReport, stageTable } from './report.ts';

const { values: options } = parseArgs({ options: { keep: { type: 'boolean' }, report: { type: 'string' } } });
const began = performance.now();
const DEPLOY_MS = 8 * 60_000;
const GIB = 1024 ** 3;

process.exitCode = await main();

async function main(): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'rackstart-demo-'));
  let failed = true;
  try {
    const site = await openSite({
      name: 'demo',
      directory,
      machines: [
        { name: 'bios-1', firmware: 'bios' },
        { name: 'uefi-1', firmware: 'uefi' },
      ],
      progress: say,
    });
    try {
      const servers = await play(site);
      if (options.report !== undefined) writeFileSync(options.report, `${JSON.stringify({ servers }, null, 2)}\n`);
      failed = servers.some(({ ssh }) => !ssh.ok);
      if (options.keep === true) await keepOpen(site, directory);
    } finally {
      await site.close();
    }
  } catch (error) {
    say(`failed: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (failed) say(`logs are kept in ${directory}`);
  else await rm(directory, { recursive: true });
  say(failed ? 'the demo failed' : 'done; nothing is left behind');
  return failed ? 1 : 0;
}

async function play(site: Site): Promise<ServerReport[]> {
  say('machines: enrolling and inspecting both (each boots the ramdisk once)');
  await Promise.all(
    site.rack.machines.map(async ({ name }) => {
      await site.enrol(name);
      say(`machines: ${name} is inspected and available`);
    }),
  );

  say('ordering a server on each');
  const orders = await Promise.all(['web-1', 'web-2'].map((hostname) => site.order(hostname)));
  const reports = await Promise.all(orders.map((order) => follow(site, order)));
  console.log(`\n${stageTable(reports)}\n`);
  say(await site.doctor());
  return reports;
}

/** Watches one server to its end, telling of each stage as it ends, and logs in. */
async function follow(site: Site, order: Server): Promise<ServerReport> {
  const told = new Set<string>();
  let timeline: Timeline = { stages: [], entries: [] };
  const server = await site.settle(order.id, DEPLOY_MS, (now, seen) => {
    timeline = seen;
    const machine = now.attempts.at(-1)?.machine ?? 'no machine yet';
    for (const stage of seen.stages) {
      if (stage.endedAt === null || told.has(stage.name)) continue;
      told.add(stage.name);
      say(`${now.hostname} on ${machine}: ${stage.name} ${duration(stage)}`);
    }
  });
  if (server.state !== 'completed') {
    say(`${server.hostname}: ${server.state}: ${server.failure?.message ?? 'no reason given'}`);
    return serverReport(server, timeline, { ok: false, hostname: '', address: '' });
  }
  return serverReport(server, timeline, await logIn(site, server));
}

/** As the tenant would: is it the server that was ordered, at its static address, with its disk grown? */
async function logIn(site: Site, server: Server) {
  const [address = ''] = server.connection?.addresses ?? [];
  const answer = await site.ssh(
    server,
    'hostname; ip -4 -o address show scope global; df -B1 --output=size / | tail -1',
  );
  const [hostname = '', addressLine = '', rootBytes = ''] = answer.trim().split('\n');
  const fixed = addressLine.includes(` ${address}/`) && !addressLine.includes('dynamic');
  const grown = Number(rootBytes) > 3 * GIB;
  const ok = hostname === server.hostname && fixed && grown;
  say(
    `ssh ${address}: hostname ${hostname}, ${fixed ? 'static address' : `WRONG ADDRESS (${addressLine})`}, root ${(Number(rootBytes) / GIB).toFixed(1)} GiB`,
  );
  return { ok, hostname, address };
}

async function keepOpen(site: Site, directory: string): Promise<void> {
  const inside = `ip netns exec ${site.rack.netns}`;
  console.log(
    [
      '',
      'The rack stays until you press Ctrl-C. To look around, in another terminal as root:',
      `  export RACKSTART_KEY_FILE=${directory}/appliance/state/operator.key`,
      `  ${inside} npm run --silent rackstart -- server list`,
      `  ${inside} npm run --silent rackstart -- machine list`,
      `  ${inside} curl -s http://127.0.0.1:7770/docs/json`,
      `  ${inside} ssh -i ${site.sshKeyFile} root@10.77.0.100`,
      `  less ${directory}/appliance/daemon.log; tail -f ${directory}/rack/*/serial.log`,
      '',
    ].join('\n'),
  );
  // Ctrl-C ends this process at once, and the rack with it.
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  await new Promise(() => undefined);
}

function say(line: string): void {
  console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${line}`);
}
