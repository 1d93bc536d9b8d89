import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'tap';
import type { Test } from 'tap';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { startProcess } from '../process/start.ts';
import type { PacketFaultRates } from './faults.ts';
import { readByTftp } from './tftp-client.ts';
import type { TftpQuestion } from './tftp-client.ts';
import { Wire } from './wire.ts';

const skip =
  process.getuid?.() !== 0
    ? 'needs root: in.tftpd changes its root directory'
    : !existsSync('/usr/sbin/in.tftpd') && 'in.tftpd is missing: apt-get install tftpd-hpa';

test('tftpd-hpa gives it whole files, also one that ends with an empty block', { skip }, async (t) => {
  const { ask } = await serve(t, { 'odd.bin': 100_001, 'even.bin': 2 * 1_432, 'empty.bin': 0 });
  t.strictSame(await ask('odd.bin'), { bytes: 100_001, announced: 100_001 });
  t.strictSame(await ask('even.bin'), { bytes: 2_864, announced: 2_864 });
  t.strictSame(await ask('empty.bin'), { bytes: 0, announced: 0 });
});

test('lost, doubled and late packets cost time and no bytes', { skip }, async (t) => {
  const { ask } = await serve(t, { 'loader.kpxe': 60_000 });
  const answer = await ask('loader.kpxe', { lost: 0.02, doubled: 0.1, late: 0.1, lateMs: 20 });
  t.strictSame(answer, { bytes: 60_000, announced: 60_000 });
});

test('a file that is not there is refused in the words of the server', { skip }, async (t) => {
  const { ask } = await serve(t, {});
  await t.rejects(ask('nothing.bin'), { message: /refuses nothing\.bin: File not found/ });
});

test('a server that is silent is given up, and a machine that is switched off asks no more', async (t) => {
  const silent = createSocket('udp4');
  t.teardown(() => silent.close());
  silent.bind(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address();
  const question = { ...about('loader.kpxe', port), wire: wire({}) };
  const hasty = { now: () => 0, sleepUntil: () => Promise.resolve() };
  const heard: Buffer[] = [];
  silent.on('message', (packet) => heard.push(packet));
  const signal = new AbortController().signal;
  await t.rejects(readByTftp({ ...question, clock: hasty, signal }), { message: /fell silent after block 0/ });

  const power = new AbortController();
  const reading = readByTftp({ ...question, clock: systemClock, signal: power.signal });
  await once(silent, 'message');
  power.abort(new Error('the power went off'));
  await t.rejects(reading, { message: 'the power went off' });
  t.strictSame(
    [...new Set(heard.map((packet) => packet.toString('latin1')))],
    ['\0\x01loader.kpxe\0octet\0blksize\x001432\0tsize\x000\0'],
  );
});

async function serve(t: Test, files: Record<string, number>) {
  const directory = mkdtempSync(join(tmpdir(), 'rs-tftp-client-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(directory, name), Buffer.alloc(bytes, name));
  const port = await freePort();
  const argv = ['/usr/sbin/in.tftpd', '--foreground', '--user', 'root', '--address', `127.0.0.1:${port}`, '--secure'];
  const daemon = await startProcess({ argv: [...argv, directory], logFile: join(directory, 'log') });
  t.teardown(() => daemon.stop());
  const ask = (file: string, faults: PacketFaultRates = {}) => {
    const question = { ...about(file, port), wire: wire(faults), clock: systemClock };
    return readByTftp({ ...question, signal: AbortSignal.timeout(30_000) });
  };
  return { ask };
}

function about(file: string, port: number): Pick<TftpQuestion, 'server' | 'port' | 'file' | 'from' | 'blockSize'> {
  return { server: '127.0.0.1', port, file, from: '127.0.0.1', blockSize: 1_432 };
}

function wire(rates: PacketFaultRates): Wire {
  return new Wire('sim-1/1', { seed: 'tftp', rates, clock: systemClock, onFault: () => undefined });
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}
