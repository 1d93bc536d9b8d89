/**
 * `npm run demo [-- --keep] [--report FILE]`: a rack of three machines and the appliance. One machine waits in the ramdisk, with the
 * image on its disk that is likely to be ordered, and is installed where it waits; another is off, and is booted for its order; the
 * third has a disk that fails, so that it is set aside, and its order goes on elsewhere. Ordered by the public API, watched to the end,
 * proven by SSH; then nothing is left behind.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import type { Server, Timeline } from '../site/server.ts';
import type { Site } from '../site/site.ts';
import { openSite } from '../site/site.ts';
import type { DemoReport, ServerReport } from './report.ts';
import { duration, serverReport, stageTable } from './report.ts';

const { values: options } = parseArgs({ options: { keep: { type: 'boolean' }, report: { type: 'string' } } });
const began = performance.now();
const DEPLOY_MS = 8 * 60_000;
const GIB = 1024 ** 3;
const WARM = 'bios-1';
const COLD = 'uefi-1';
const BROKEN = 'bios-2';

process.exitCode = await main();

async function main(): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'rackstart-demo-'));
  let failed = true;
  try {
    const site = await openSite({
      name: 'demo',
      directory,
      machines: [
        { name: WARM, firmware: 'bios' },
        { name: COLD, firmware: 'uefi' },
        // It has the least that an order would leave unused, and is chosen for it.
        { name: BROKEN, firmware: 'bios', disks: [{ gib: 3, failsWrites: true }] },
      ],
      progress: say,
    });
    try {
      const report = await play(site);
      if (options.report !== undefined) writeFileSync(options.report, `${JSON.stringify(report, null, 2)}\n`);
      const wrong = wrongIn(report);
      for (const line of wrong) say(`WRONG: ${line}`);
      failed = wrong.length > 0;
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

async function play(site: Site): Promise<DemoReport> {
  await site.orderInVain();
  say('an order was too early: there was no machine for it, but now it is known what is ordered');
  say('machines: enrolling and inspecting all three (each boots the ramdisk once)');
  const [warm = '', , broken = ''] = await Promise.all(
    site.rack.machines.map(async ({ name }) => {
      const id = await site.enrol(name);
      say(`machines: ${name} is inspected and available`);
      return id;
    }),
  );
  await site.warm(warm);
  await site.wroteAhead(WARM);
  say(
    `machines: ${WARM} waits in the ramdisk, with the likely image on its disk; nobody knows yet that the disk of ${BROKEN} takes no writes`,
  );

  say('ordering two servers');
  const orders = [await site.order('web-1'), await site.order('web-2')];
  const servers = await Promise.all(orders.map((order) => follow(site, order)));
  console.log(`\n${stageTable(servers)}\n`);
  const { name: machine, state, quarantineReason } = await site.machine(broken);
  const quarantined = state === 'quarantined' ? [{ machine, reason: quarantineReason ?? '' }] : [];
  for (const { machine, reason } of quarantined) say(`machines: ${machine} is set aside: ${reason}`);
  say(await site.doctor());
  return { servers, quarantined };
}

/** What the demo says that it shows, and does not. */
function wrongIn({ servers, quarantined }: DemoReport): string[] {
  const ways = servers.map(({ path, attempts }) =>
    [...attempts.map(({ machine, outcome }) => `${machine ?? 'no machine'} ${outcome}`), path].join(', '),
  );
  const shown: [string, boolean][] = [
    ['a tenant cannot log in as ordered', servers.every(({ ssh }) => ssh.ok)],
    [`no server is on ${WARM}, which waited for one`, ways.includes(`${WARM} succeeded, warm`)],
    [
      `no server failed on ${BROKEN} and went on, cold, on ${COLD}`,
      ways.includes(`${BROKEN} failed, ${COLD} succeeded, cold`),
    ],
    [`${BROKEN} is not set aside`, quarantined.some(({ machine }) => machine === BROKEN)],
  ];
  return shown.filter(([, holds]) => !holds).map(([line]) => `${line} (${ways.join('; ')})`);
}

/** Watches one server to its end, telling of each stage as it ends, and logs in. */
async function follow(site: Site, order: Server): Promise<ServerReport> {
  const told = new Set<string>();
  let timeline: Timeline = { stages: [], entries: [] };
  const server = await site.settle(order.id, DEPLOY_MS, (now, seen) => {
    timeline = seen;
    const machine = now.attempts.at(-1)?.machine ?? 'no machine yet';
    for (const stage of seen.stages) {
      const line = `${now.hostname} on ${machine}: ${stage.name} `;
      if (stage.endedAt === null || told.has(line)) continue;
      told.add(line);
      say(`${line}${duration(stage)}`);
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
