import { writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';

import { extract } from 'tar-stream';
import { test } from 'tap';

import type { Question } from './ask.fixture.ts';
import { ask, curl, form, plain } from './ask.fixture.ts';
import { chassis, lifetime, lldpFrame, port, systemName } from './lldp.fixture.ts';
import { memoryDevice } from './memory-device.fixture.ts';
import type { Rig } from './server.fixture.ts';
import { BEARER, CLAIM_TOKEN, CREDENTIAL, MAC, NEXT_BEARER, startRig } from './server.fixture.ts';

const claim = {
  protocol: '1',
  token: CLAIM_TOKEN,
  nonce: 'ab'.repeat(16),
  mac: '52-54-00-77-00-01',
  uuid: '6b6b0001-7777-4000-8000-00000000000A',
};
const report = { generation: '7', stage: 'image', status: 'done', uptime: '31.52', bytes: '123', seconds: '4.5' };
const phoneHome = {
  protocol: '1',
  server: 'srv_1',
  hostname: 'web1',
  machine_id: 'ab'.repeat(16),
  host_key: `ssh-ed25519 ${'A'.repeat(68)} root@web1`,
  boot_id: '6b6b0001-7777-4000-8000-00000000000a',
  uptime: '12.5',
  started: '11.0',
};
const heartbeat = {
  protocol: '1',
  server: 'srv_1',
  uptime: '99.1',
  load1: '0.42',
  memory_total_kib: '1000',
  memory_available_kib: '900',
  disk_total_kib: '5000',
  disk_used_kib: '10',
};

test('a claim buys the bearer and the order, and the same nonce the same again', async (t) => {
  const rig = await startRig(t);
  const first = await say(rig, '/boot/v1/claim', form(claim));
  t.equal(first.status, 200);
  t.match(first.headers['content-type'], 'text/plain');
  t.equal(first.text, `protocol=1\nbearer=${BEARER}\nverb=install\ngeneration=7\nkernel_args=a b=c\n`);
  t.equal((await say(rig, '/boot/v1/claim', form(claim))).text, first.text);
  t.match(rig.director.told[0], { protocol: 1, mac: MAC, uuid: claim.uuid, from: '127.0.0.1' });
  const second = await say(rig, '/boot/v1/claim', form({ ...claim, nonce: 'cd'.repeat(16) }));
  t.equal(second.status, 409);
  t.match(JSON.parse(second.text), { error: { code: 'boot.claim-conflict' } });
  t.notMatch(second.text, BEARER);
  t.match(await rig.seen('claim'), { owner: MAC, entry: { detail: { status: 200 } } });
  t.notMatch(rig.logged.join(), new RegExp(`${CLAIM_TOKEN}|${BEARER}`));
});

test('another protocol version is told so, whatever else it sends', async (t) => {
  const rig = await startRig(t);
  for (const url of ['/boot/v1/claim', '/agent/v1/phone-home', '/agent/v1/heartbeat']) {
    const { status, text } = await say(rig, url, form({ protocol: '2', color: 'green' }));
    t.equal(status, 426);
    t.match(JSON.parse(text), { error: { code: 'boot.protocol' } });
  }
});

test('a malformed claim is refused field by field', async (t) => {
  const rig = await startRig(t);
  const { status, text } = await say(
    rig,
    '/boot/v1/claim',
    form({ ...claim, nonce: 'x\ny', uuid: '$(id)', extra: '1' }),
  );
  t.equal(status, 400);
  const { error } = JSON.parse(text) as { error: { code: string; fields: { field: string }[] } };
  t.equal(error.code, 'request.invalid');
  t.strictSame(error.fields.map(({ field }) => field).sort(), ['/extra', '/nonce', '/uuid']);
  const noMac = await say(rig, '/boot/v1/claim', form({ ...claim, mac: 'ff-ff-ff-ff-ff-ff' }));
  t.equal(noMac.status, 403);
  t.strictSame(rig.director.told, [], 'nothing reached the director');
});

test('hostile bodies change nothing and stop nothing', async (t) => {
  const rig = await startRig(t);
  const type = { 'content-type': 'application/x-www-form-urlencoded' };
  const bodies: [Question, number][] = [
    [{ ...form(claim), body: 'token=a&token=b' }, 400],
    [{ ...form(claim), body: '' }, 400],
    [{ ...form(claim), body: Buffer.from([0xff, 0xfe, 0x00]) }, 400],
    [{ ...form(claim), body: '__proto__=1&constructor=2&protocol=1' }, 400],
    [{ ...form(claim), body: `token=${'x'.repeat(70_000)}` }, 413],
    [{ method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"protocol":"1"}' }, 415],
    [{ method: 'POST', headers: type, body: Array.from({ length: 5000 }, (_, i) => `k${i}=`).join('&') }, 400],
  ];
  for (const [question, status] of bodies) {
    const answer = await ask(`${rig.https}/boot/v1/claim`, { ...question, ca: rig.ca });
    t.equal(answer.status, status);
    t.match(JSON.parse(answer.text), { error: { code: 'request.invalid' } });
    t.ok(answer.bytes.length < 10_000, 'the answer to much is short');
  }
  t.strictSame(rig.director.told, []);
  t.equal((await say(rig, '/boot/v1/claim', form(claim))).status, 200);
});

test('a report arrives with its facts as text, and a stale one is told to stop', async (t) => {
  const rig = await startRig(t);
  t.equal((await say(rig, '/boot/v1/report', form(report), BEARER)).status, 204);
  t.strictSame(rig.director.told, [
    { generation: 7, stage: 'image', status: 'done', uptime: 31.52, facts: { bytes: '123', seconds: '4.5' } },
  ]);
  t.match(await rig.seen('image done'), {
    owner: { address: '127.0.0.1' },
    entry: { source: 'ramdisk', detail: { bytes: '123', seconds: '4.5', uptime: 31.52, ms: Number } },
  });
  const stale = await say(rig, '/boot/v1/report', form({ ...report, generation: '6' }), BEARER);
  t.equal(stale.status, 409);
  t.match(JSON.parse(stale.text), { error: { code: 'boot.stale' } });
  const { entry } = await rig.seen('report-refused');
  t.match(entry, { source: 'http', detail: { status: 409, stage: 'image', result: 'done' } });
  t.equal(entry.detail['seconds'], undefined, 'what was refused is not repeated');
});

test('a reason that holds control characters still arrives, as one line', async (t) => {
  const rig = await startRig(t);
  const failed = { generation: '7', stage: 'disk', status: 'failed', uptime: '9', code: 'boot.stage-failed' };
  t.equal((await say(rig, '/boot/v1/report', form({ ...failed, reason: 'a\n\x1b[31mb\0' }), BEARER)).status, 204);
  t.match(rig.director.told[0], { facts: { code: 'boot.stage-failed', reason: 'a  [31mb ' } });
});

test('facts of the wrong form are refused', async (t) => {
  const rig = await startRig(t);
  for (const change of [
    { bytes: '-1' },
    { bytes: '1e9' },
    { root_bytes: 'x' },
    { machine_id: 'AB' },
    { host_key: 'a; b' },
    { stage: 'reboot' },
    { status: 'finished' },
    { generation: '7x' },
    { uptime: 'NaN' },
    { 'Odd Name': 'x' },
    { reason: 'x'.repeat(1025) },
  ]) {
    const { status, text } = await say(rig, '/boot/v1/report', form({ ...report, ...change }), BEARER);
    t.equal(status, 400, JSON.stringify(change).slice(0, 60));
    t.match(text, '"fields":[{"field":"/');
  }
  t.strictSame(rig.director.told, []);
});

test('without the bearer nothing is told, taken or given', async (t) => {
  const rig = await startRig(t);
  const questions: [string, Question][] = [
    ['/boot/v1/report', form(report)],
    ['/boot/v1/log', plain('x')],
    ['/boot/v1/inspection', plain(inspection)],
    ['/boot/v1/files', {}],
    ['/boot/v1/next?generation=7', {}],
  ];
  for (const [url, question] of questions) {
    for (const bearer of [undefined, 'wrong', 'x'.repeat(300)]) {
      const answer = await say(rig, url, question, bearer);
      t.equal(answer.status, 403, url);
      t.match(JSON.parse(answer.text), { error: { code: 'boot.token-refused' } });
    }
  }
  t.strictSame(rig.director.told, []);
});

test('a log of up to 1 MiB arrives, fit for a terminal', async (t) => {
  const rig = await startRig(t);
  t.equal((await say(rig, '/boot/v1/log', plain('a\tb\n\x1b[2Jc\xff\r\n'), BEARER)).status, 204);
  t.strictSame(rig.director.told, ['a\tb\n�[2Jcÿ�\n']);
  t.equal((await say(rig, '/boot/v1/log', plain('x'.repeat(1024 * 1024)), BEARER)).status, 204);
  t.equal((await say(rig, '/boot/v1/log', plain('x'.repeat(1024 * 1024 + 1)), BEARER)).status, 413);
  t.equal((await say(rig, '/boot/v1/log', form({ a: 'b' }), BEARER)).status, 400, 'a form is no log');
});

const inspection = `cores=4
memory_kib=1048000
uuid=6B6B0001-7777-4000-8000-00000000000a
vendor=QEMU
model=Standard PC (Q35 + ICH9, 2009)
serial=
firmware=uefi
firmware_vendor=EDK II
firmware_version=2022.11-6
firmware_date=02/06/2015
bmc_address=10.9.0.7
memory_device=${memoryDevice({ size: 4096 }, ['DIMM 0', 'QEMU']).toString('hex')}
memory_device=${memoryDevice({ size: 0 }, ['DIMM 1']).toString('hex')}
disk=vda|10737418240|ssd||Virtio Block
disk=nvme0n1|10737418240|nvme|S1|M1|103
nic=enp0s2|52:54:00:77:00:01|up|
lldp=enp0s2|${lldpFrame(chassis(7, 'leaf'), port(5, 'eth3'), lifetime(120), systemName('sw-7')).toString('hex')}
lldp=enp0s3|00
lldp=gone|${lldpFrame(chassis(7, 'leaf'), port(5, 'eth4'), lifetime(120)).toString('hex')}
nic=enp0s3|52:54:00:77:00:02|down|10000
nic=ib0|80:00:02:08:fe:80|up|40000
`;

test('an inspection is read', async (t) => {
  const rig = await startRig(t);
  t.equal((await say(rig, '/boot/v1/inspection', plain(inspection), BEARER)).status, 204);
  t.strictSame(rig.director.told, [
    {
      cores: 4,
      memoryMib: 1023,
      uuid: '6b6b0001-7777-4000-8000-00000000000a',
      vendor: 'QEMU',
      model: 'Standard PC (Q35 + ICH9, 2009)',
      serial: '',
      firmware: 'uefi',
      firmwareVendor: 'EDK II',
      firmwareVersion: '2022.11-6',
      firmwareDate: '2015-02-06',
      bmcAddress: '10.9.0.7',
      disks: [
        { name: 'vda', bytes: 10737418240, type: 'ssd', serial: '', model: 'Virtio Block' },
        { name: 'nvme0n1', bytes: 10737418240, type: 'nvme', serial: 'S1', model: 'M1', wear: 103 },
      ],
      dimms: [{ slot: 'DIMM 0', mib: 4096, serial: '' }],
      nics: [
        { name: 'enp0s2', mac: MAC, up: true, neighbour: 'sw-7/eth3' },
        { name: 'enp0s3', mac: '52:54:00:77:00:02', up: false, speedMbps: 10000 },
        { name: 'ib0', mac: '80:00:02:08:fe:80', up: true, speedMbps: 40000 },
      ],
    },
  ]);
});

test('an inspection with a line that is no fact is refused, line by line', async (t) => {
  const rig = await startRig(t);
  const lines: [string, string][] = [
    ['cores=0', '/cores'],
    ['cores=4\ncores=4', '/lines/1'],
    ['disk=vda|x|ssd||', '/lines/0'],
    ['disk=../vda|1|ssd||', '/lines/0'],
    ['disk=vda|1|tape||', '/lines/0'],
    ['disk=vda|1|ssd|a|b|c', '/lines/0'],
    ['disk=vda|1|ssd|a|b|-1', '/lines/0'],
    ['disk=vda|1|ssd|a|b|1|', '/lines/0'],
    ['bmc_address=10.9.0.256', '/bmc_address'],
    ['bmc_address=010.9.0.7', '/bmc_address'],
    ['bmc_address=bmc.example', '/bmc_address'],
    ['lldp=eth0|', '/lines/0'],
    ['lldp=eth0|0x88cc', '/lines/0'],
    ['lldp=../eth0|88cc', '/lines/0'],
    ['lldp=eth0|88cc|', '/lines/0'],
    [`lldp=eth0|${'00'.repeat(1600)}`, '/lines/0'],
    ['memory_device=', '/lines/0'],
    ['memory_device=123', '/lines/0'],
    ['memory_device=1G', '/lines/0'],
    [`memory_device=${'00'.repeat(1025)}`, '/lines/0'],
    ['firmware_version=1\nfirmware_version=2', '/lines/1'],
    ['nic=eth0|52:54:00:77:00:01|sideways|', '/lines/0'],
    ['color=green', '/lines/0'],
    ['toString=1', '/lines/0'],
    ['no equals sign', '/lines/0'],
    ['vendor=a\x1b[2J', '/lines/0'],
    [`serial=${'x'.repeat(600)}`, '/lines/0'],
  ];
  for (const [line, field] of lines) {
    const answer = await say(rig, '/boot/v1/inspection', plain(`${line}\n`), BEARER);
    t.equal(answer.status, 400);
    t.match(answer.text, `"field":"${field}"`, field);
  }
  t.equal((await say(rig, '/boot/v1/inspection', plain('x=\n'.repeat(600)), BEARER)).status, 400);
  t.strictSame(rig.director.told, []);
});

test('the files of the new system come as a tar with their modes, owned by root', async (t) => {
  const rig = await startRig(t);
  const answer = await say(rig, '/boot/v1/files', {}, BEARER);
  t.equal(answer.headers['content-type'], 'application/x-tar');
  const entries: unknown[] = [];
  for await (const entry of Readable.from([answer.bytes]).pipe(extract())) {
    const { name, type, mode, uid, gid, linkname } = entry.header;
    entries.push([name, type, mode.toString(8), uid, gid, linkname, (await buffer(entry)).toString()]);
  }
  t.strictSame(entries, [
    ['root/.ssh/', 'directory', '700', 0, 0, null, ''],
    ['root/.ssh/authorized_keys', 'file', '600', 0, 0, null, 'ssh-ed25519 AAAA\n'],
    ['usr/lib/agent', 'file', '755', 0, 0, null, '#!/bin/sh\n'],
    ['etc/systemd/system/multi-user.target.wants/agent.service', 'symlink', '777', 0, 0, '../agent.service', ''],
  ]);
});

test('a waiting machine gets its next order, or word that there is none yet', async (t) => {
  const rig = await startRig(t);
  t.equal((await say(rig, '/boot/v1/next?generation=7', {}, BEARER)).status, 204);
  rig.director.nextOrder = { verb: 'wipe', generation: '8' };
  const { status, text } = await say(rig, '/boot/v1/next?generation=7', {}, BEARER);
  t.equal(status, 200);
  t.equal(text, `protocol=1\nbearer=${NEXT_BEARER}\nverb=wipe\ngeneration=8\n`);
  t.equal((await say(rig, '/boot/v1/next', {}, BEARER)).status, 400);
  await rig.seen('next-refused');
  t.same(rig.names(), ['next', 'next-refused'], 'that there is none yet fills no timeline');
});

test('an order whose value would be another line is never sent', async (t) => {
  const rig = await startRig(t);
  rig.director.nextOrder = { verb: 'wait', note: 'x\nverb=wipe' };
  const { status, text } = await say(rig, '/boot/v1/next?generation=7', {}, BEARER);
  t.equal(status, 500);
  t.notMatch(text, /wipe/);
});

test('a long poll ends with its client, and with the server', async (t) => {
  const rig = await startRig(t);
  rig.director.waits = true;
  const headers = { authorization: `Bearer ${BEARER}` };
  const poll = request(`${rig.https}/boot/v1/next?generation=7`, { headers, ca: rig.ca, agent: false });
  poll.on('error', () => undefined);
  poll.end();
  const signal = await rig.director.waiting.promise;
  const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve));
  poll.destroy();
  await aborted;
  const second = startedPoll(rig);
  await rig.stop();
  t.ok(await second, 'it was answered or ended');
});

test('curl trusts the appliance by the CA of the ramdisk and by nothing else', async (t) => {
  const rig = await startRig(t);
  const header = join(rig.caFile, '..', 'bearer');
  writeFileSync(header, `Authorization: Bearer ${BEARER}\n`);
  const url = `${rig.https}/boot/v1/next?generation=7`;
  const status = await curl('--cacert', rig.caFile, '-H', `@${header}`, '-o', '/dev/null', '-w', '%{http_code}', url);
  t.equal(status.toString(), '204');
  await t.rejects(curl('-H', `@${header}`, url), /certificate/);
  const old = curl('--cacert', rig.caFile, '--tls-max', '1.1', '--ciphers', 'DEFAULT@SECLEVEL=0', url);
  await t.rejects(old, 'nor does the appliance speak TLS before 1.2');
});

test('an installed server phones home and sends heartbeats on its own credential', async (t) => {
  const rig = await startRig(t);
  t.equal((await say(rig, '/agent/v1/phone-home', form(phoneHome), CREDENTIAL)).status, 204);
  t.equal((await say(rig, '/agent/v1/heartbeat', form(heartbeat), CREDENTIAL)).status, 204);
  t.strictSame(rig.director.told, [
    {
      protocol: 1,
      server: 'srv_1',
      hostname: 'web1',
      machineId: 'ab'.repeat(16),
      hostKey: phoneHome.host_key,
      bootId: phoneHome.boot_id,
      uptime: 12.5,
      started: 11,
    },
    {
      protocol: 1,
      server: 'srv_1',
      uptime: 99.1,
      load1: 0.42,
      memoryTotalKib: 1000,
      memoryAvailableKib: 900,
      diskTotalKib: 5000,
      diskUsedKib: 10,
    },
  ]);
  for (const bearer of [undefined, BEARER]) {
    const { status, text } = await say(rig, '/agent/v1/phone-home', form(phoneHome), bearer);
    t.equal(status, 403);
    t.match(JSON.parse(text), { error: { code: 'agent.refused' } });
  }
  t.equal((await say(rig, '/agent/v1/heartbeat', form({ ...heartbeat, load1: 'x' }), CREDENTIAL)).status, 400);
});

function say(rig: Rig, url: string, question: Question, bearer?: string) {
  const authorization: Record<string, string> = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
  return ask(rig.https + url, { ...question, headers: { ...question.headers, ...authorization }, ca: rig.ca });
}

async function startedPoll(rig: Rig): Promise<boolean> {
  return new Promise((resolve) => {
    const headers = { authorization: `Bearer ${BEARER}` };
    const poll = request(
      `${rig.https}/boot/v1/next?generation=7`,
      { headers, ca: rig.ca, agent: false },
      (response) => {
        response.resume();
        resolve(true);
      },
    );
    poll.on('error', () => resolve(true));
    poll.end();
  });
}
