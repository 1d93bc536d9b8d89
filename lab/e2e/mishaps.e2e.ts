import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Test } from 'tap';

import { deployStages } from '../../appliance/requests/server-timeline.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import { until } from '../process/until.ts';
import type { Server, Timeline } from '../site/server.ts';
import type { Site } from '../site/site.ts';
import type { SentChunk } from './chunks-on-the-wire.ts';
import { CLEAR_PORT, sentChunks } from './chunks-on-the-wire.ts';
import { deployed, follow, machineFlow } from './flow.ts';

/** Parts of the disk behind which the server of images is killed, as soon as the ramdisk has told that they are written. */
const MID_STREAM = [0.2, 0.5];

/** Out of the ramdisk the new kernel finds no device, as where a driver does not survive a kexec; by the firmware it finds them all. */
const HANGS_BY_KEXEC = 'pci=off';
/** What the new system may take to phone home. */
const VERIFY = 45_000;

machineFlow(
  'what may go wrong on the way',
  [{ name: 'bios-1', firmware: 'bios' }],
  async (t, site) => {
    const machine = await site.enrol('bios-1');
    const image = await readImage(site);

    await t.test(
      'a daemon that is killed at every stage boundary, and twice in mid-stream, goes on where it was, also when the kexec hangs',
      async (t) => {
        const packets = join(site.directory, 'clear.pcap');
        const wire = await site.rack.capture(packets, CLEAR_PORT);
        const restart = async () => {
          await site.daemon.kill();
          await site.daemon.start();
        };
        const killedAfter: string[] = [];
        const killedAt: number[] = [];
        const server = await deployed(site, 'web-1', {
          onStage: async (stage) => {
            if (stage === 'image') await wire.stop();
            killedAfter.push(stage);
            await restart();
          },
          onImage: async (bytes) => {
            const [next = 1] = MID_STREAM.slice(killedAt.length);
            if (bytes < next * image.rawBytes || bytes === image.rawBytes) return;
            killedAt.push(Date.now());
            await restart();
          },
        });
        // An order reaches only a machine that waited for it.
        const stages = deployStages.filter((stage) => stage !== 'order');
        t.same(killedAfter.sort(), stages.sort(), 'it was killed after each stage');
        const shares = await Promise.all(
          killedAt.map(async (at) => shareSent(image.chunks, await sentChunks(packets, at))),
        );
        t.comment(
          `killed when it had sent ${shares.map((share) => `${Math.round(share * 100)} %`).join(' and ')} of the image`,
        );
        t.equal(shares.length, MID_STREAM.length);
        t.ok(
          shares.every((share) => share > 0 && share < 1),
          'it was killed in mid-stream',
        );
        wasSentOnce(t, image.chunks, await sentChunks(packets));
        t.equal((await site.ssh(server, 'hostname')).trim(), 'web-1');
        const { events } = await site.operator.get<Events>('/events?limit=1000');
        t.equal(events.filter(({ type }) => type === 'boot.handoff').length, 1, 'the machine was installed once');
        await wasStartedFromDisk(t, site, server, machine);

        await site.tenant.delete(`/servers/${server.id}`);
        t.equal((await follow(site, server.id)).state, 'deprovisioned');
        await until('the wipe', 240_000, async () => (await site.machine(machine)).state === 'available');
      },
    );

    await t.test(
      'chunks that are altered on their way: once is fetched again; always boots nothing, and says why',
      async (t) => {
        const [once, always] = [image.chunks.at(3)!, image.chunks.at(image.chunks.length >> 1)!];
        const wire = await alteringWire(site, once.sha256, always.sha256);
        const { id } = await site.order('web-2');
        const server = await follow(site, id);
        t.match(server, { state: 'rolled-back', status: 'failed', failure: { code: 'image.altered' } });
        t.match(server.failure?.message, `at byte ${always.rawOffset} came 3 times with another content`);
        await wire.mend();
        t.equal(wire.altered().filter((sha256) => sha256 === once.sha256).length, 1, 'the other was altered, too');
        // The wipe that follows is like that of the other server.
        t.match(await site.machine(machine), { quarantineReason: null }, 'the machine is not to blame');
        t.match(await issuesOf(site, machine), [{ type: 'kexec-failing' }], 'and has nothing new on its record');
      },
    );
  },
  { kexecArgs: HANGS_BY_KEXEC, settings: [`deadlines: { verify: ${VERIFY} }`] },
);

interface Events {
  readonly events: readonly { readonly type: string; readonly data: { readonly sessionId?: string } }[];
}

/** The kernel that runs is the disk's own, started once the other had had its time; timeline, machine and model tell of it. */
async function wasStartedFromDisk(t: Test, site: Site, server: Server, machine: string): Promise<void> {
  t.notMatch(await site.ssh(server, 'cat /proc/cmdline'), HANGS_BY_KEXEC, 'it runs as its own boot loader started it');
  const { entries } = await site.operator.get<Timeline>(`/servers/${server.id}/timeline`);
  const [rescue, ...more] = entries.filter(({ name }) => name === 'started from disk');
  t.match(rescue, { source: 'alert', detail: { after: 'kexec' } }, 'the timeline tells that it was reset, and why');
  t.same(more, [], 'once');
  const silentFor = Number(rescue?.detail['silentForMs']);
  t.ok(silentFor >= VERIFY, `the kexec had its time (${silentFor} ms)`);
  const { handoffs } = await site.operator.get<{ handoffs: object[] }>('/handoffs');
  t.match(handoffs, [{ model: 'Lab', firmware: 'bios', handoff: 'kexec', failures: 1, successes: 0 }]);
  t.match(
    await issuesOf(site, machine),
    [{ type: 'kexec-failing', severity: 'warning' }],
    'the machine has it on its record',
  );
}

async function issuesOf({ operator }: Site, machine: string): Promise<readonly object[]> {
  const { openIssues } = await operator.get<{ openIssues: object[] }>(`/machines/${machine}`);
  return openIssues;
}

interface ChunkLine {
  readonly rawOffset: number;
  readonly length: number;
  readonly sha256: string;
}

/** What machines are sent of the image, in the order of the disk. */
async function readImage(site: Site): Promise<{ rawBytes: number; chunks: readonly ChunkLine[] }> {
  const { images } = await site.operator.get<{ images: { digest: string; rawBytes: number }[] }>('/images');
  const { digest, rawBytes } = images[0]!;
  const map = readFileSync(join(site.directory, 'appliance/state/images/maps', digest), 'latin1');
  const lines = map.matchAll(/^chunk (\d+) \d+ \d+ (\d+) ([0-9a-f]{64})$/gm);
  const chunks = Array.from(lines, ([, rawOffset, length, sha256 = '']) => ({
    rawOffset: Number(rawOffset),
    length: Number(length),
    sha256,
  }));
  return { rawBytes, chunks };
}

function shareSent(chunks: readonly ChunkLine[], sent: ReadonlyMap<string, SentChunk>): number {
  const bytes = [...sent.values()].reduce((sum, each) => sum + each.bytes, 0);
  return bytes / chunks.reduce((sum, { length }) => sum + length, 0);
}

/** No more than two chunks came twice, whole or in part, of all that the image has. */
function wasSentOnce(t: Test, chunks: readonly ChunkLine[], sent: ReadonlyMap<string, SentChunk>): void {
  const whole = chunks.reduce((sum, { length }) => sum + length, 0);
  const again = [...Map.groupBy(chunks, ({ sha256 }) => sha256)].flatMap(([sha256, lines]) => {
    const { bytes = 0 } = sent.get(sha256) ?? {};
    const wanted = lines.reduce((sum, { length }) => sum + length, 0);
    return bytes > wanted ? [`${sha256.slice(0, 8)}: ${bytes} bytes of ${wanted}`] : [];
  });
  t.equal(chunks.filter(({ sha256 }) => !sent.has(sha256)).length, 0, 'every chunk was seen on the wire');
  t.ok(again.length <= 2, `at most two chunks were sent twice: ${again.join(', ') || 'none'}`);
  const answers = [...sent.values()].reduce((sum, each) => sum + each.answers, 0);
  const bytes = [...sent.values()].reduce((sum, each) => sum + each.bytes, 0);
  t.comment(
    `${chunks.length} chunks of ${whole} bytes: ${answers} answers of ${bytes} bytes; twice: ${again.join(', ') || 'none'}`,
  );
}

interface AlteringWire {
  /** The digest of each chunk that it has altered, as often as it has. */
  altered(): string[];
  mend(): Promise<void>;
}

/** Puts a wire that alters these two chunks between machines and appliance, from now on until it is mended. */
async function alteringWire({ rack, directory }: Site, once: string, always: string): Promise<AlteringWire> {
  const [address = ''] = rack.applianceAddress.ipv4.split('/');
  const program = join(import.meta.dirname, 'altering-proxy.ts');
  const proxy = await startProcess({
    argv: rack.exec([process.execPath, program, address, '8080', once, always]),
    logFile: join(directory, 'altering-proxy.log'),
  });
  await proxy.line(/^altering$/m, 10_000);
  const rules = [
    'add table ip wire',
    'add chain ip wire arriving { type nat hook prerouting priority dstnat; }',
    `add rule ip wire arriving iifname ${rack.bridge} tcp dport 8080 redirect to :8081`,
  ];
  await run(rack.exec(['nft', rules.join('; ')]));
  return {
    altered: () => Array.from(proxy.log().matchAll(/^altered (.*)$/gm), ([, sha256 = '']) => sha256),
    async mend() {
      await run(rack.exec(['nft', 'delete table ip wire']));
      await proxy.stop();
    },
  };
}
