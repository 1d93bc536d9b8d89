import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'tap';
import type { Test } from 'tap';

import { requestBytes } from './dhcp/golden.fixture.ts';
import { captureHeader, captureRecord } from './packet-capture.ts';
import type { SeenPacket } from './timeline.ts';

const run = promisify(execFile);
const skip = existsSync('/usr/bin/tshark') ? false : 'tshark is missing: apt-get install tshark';
const AT = Date.UTC(2026, 10, 21, 5, 43, 0) + 7.25;

test('tshark reads DHCP and TFTP out of a capture, with its times, and finds nothing wrong', { skip }, async (t) => {
  const read = Buffer.from('\0\x01snponly.efi\0octet\0blksize\x001468\0', 'latin1');
  const file = await captured(t, [
    { from: '0.0.0.0:68', to: '255.255.255.255:67', bytes: requestBytes('discover', 'edk2Pxe') },
    { from: '10.77.0.11:68', to: '10.77.0.1:67', bytes: requestBytes('request', 'ipxeBios') },
    { from: '10.77.0.11:2070', to: '10.77.0.1:69', bytes: read },
    { from: '10.77.0.1:40000', to: '10.77.0.11:2070', bytes: Buffer.alloc(1_472, 'x') },
    { from: '10.77.0.1:4011', to: '10.77.0.11:9', bytes: Buffer.alloc(0) },
  ]);
  const checks = ['-o', 'ip.check_checksum:TRUE', '-o', 'udp.check_checksum:TRUE'];
  const shown = ['frame.time_epoch', 'eth.dst', 'ip.src', 'ip.dst', 'ip.checksum.status', 'udp.srcport', 'udp.dstport'];
  const decoded = ['dhcp.option.dhcp', 'dhcp.hw.mac_addr', 'tftp.source_file', 'tftp.option.value'];
  t.strictSame(await fields(file, [...checks], [...shown, ...decoded]), [
    `1795239780.007250000|ff:ff:ff:ff:ff:ff|0.0.0.0|255.255.255.255|1|68|67|1|52:54:00:77:00:01||`,
    `1795239780.007250000|02:00:0a:4d:00:01|10.77.0.11|10.77.0.1|1|68|67|3|52:54:00:77:00:01,52:54:00:77:00:01||`,
    `1795239780.007250000|02:00:0a:4d:00:01|10.77.0.11|10.77.0.1|1|2070|69|||snponly.efi|1468`,
    `1795239780.007250000|02:00:0a:4d:00:0b|10.77.0.1|10.77.0.11|1|40000|2070||||`,
    `1795239780.007250000|02:00:0a:4d:00:0b|10.77.0.1|10.77.0.11|1|4011|9||||`,
  ]);
  // Wireshark's expert: checksums, lengths, malformed packets (errors are of severity 8 MiB, warnings of 6 MiB).
  const complaints = await fields(file, [...checks, '-Y', '_ws.expert.severity >= 6291456'], ['_ws.expert.message']);
  t.strictSame(complaints, []);
});

test('a datagram that no IPv4 packet could have carried is left out', async (t) => {
  const packet = { from: '10.77.0.11:68', to: '10.77.0.1:67', bytes: Buffer.alloc(10) };
  t.ok(captureRecord(AT, packet));
  for (const wrong of ['', '10.77.0.1', '10.77.0.1:65536', '10.77.0.300:67', '[fe80::1]:67', '10.77.0.1:67:1', 'a:b']) {
    t.equal(captureRecord(AT, { ...packet, to: wrong }), undefined, wrong);
  }
  t.ok(captureRecord(AT, { ...packet, bytes: Buffer.alloc(65_507) }));
  t.equal(captureRecord(AT, { ...packet, bytes: Buffer.alloc(65_508) }), undefined);
});

async function captured(t: Test, packets: readonly SeenPacket[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'rs-pcap-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const file = join(directory, 'packets.pcap');
  const records = packets.map((packet) => captureRecord(AT, packet)!);
  await writeFile(file, Buffer.concat([captureHeader(), ...records]));
  return file;
}

async function fields(file: string, options: readonly string[], names: readonly string[]): Promise<string[]> {
  const shown = names.flatMap((name) => ['-e', name]);
  const argv = ['-r', file, ...options, '-T', 'fields', '-E', 'separator=|', ...shown];
  const { stdout, stderr } = await run('tshark', argv);
  const said = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('Running as user'));
  if (said.length > 0) throw new Error(said.join('\n'));
  return stdout.split('\n').filter((line) => line !== '');
}
