import { test } from 'tap';

import { ask, plain } from './ask.fixture.ts';
import { BEARER, startRig } from './server.fixture.ts';
import { parseWipedDisk } from './wiped-disk.ts';

const digest = 'ab'.repeat(32);
const certificate = `disk=nvme0n1
bytes=1000204886016
serial=S 1
model=Disk
method=nvme-format+discard
seconds=12
samples=66
sampled_bytes=6291456
digest=${digest}
result=passed
`;
const read = {
  ...{ name: 'nvme0n1', bytes: 1000204886016, serial: 'S 1', model: 'Disk', method: 'nvme-format+discard' },
  ...{ seconds: 12, samples: 66, sampledBytes: 6291456, digest },
};

test('a certificate is read, and one of a failure says why', async (t) => {
  const rig = await startRig(t);
  const headers = { 'content-type': 'text/plain', authorization: `Bearer ${BEARER}` };
  const send = (text: string) => ask(`${rig.https}/boot/v1/wiped`, { ...plain(text), headers, ca: rig.ca });
  t.equal((await send(certificate)).status, 204);
  t.strictSame(rig.director.told, [read]);
  t.equal((await send(certificate.replace('seconds=12', 'seconds=x'))).status, 400);
  t.equal((await ask(`${rig.https}/boot/v1/wiped`, { ...plain(certificate), ca: rig.ca })).status, 403);
  const failed = certificate.replace('passed', 'failed');
  t.strictSame(parseWipedDisk(failed), { ...read, failure: 'no reason was given' });
  t.strictSame(parseWipedDisk(`${failed}reason=it is broken\n`), { ...read, failure: 'it is broken' });
});

test('a certificate with a field that is none is refused', (t) => {
  for (const [from, to, field] of [
    ['disk=nvme0n1', 'disk=../sda', '/disk'],
    ['bytes=1', 'bytes=-1', '/bytes'],
    ['method=nvme-format+discard', 'method=rm -rf', '/method'],
    ['seconds=12', 'seconds=1e9', '/seconds'],
    [digest, digest.slice(1), '/digest'],
    ['result=passed', 'result=maybe', '/result'],
    ['result=passed', 'result=passed\nresult=passed', '/lines/10'],
    ['serial=S 1', `serial=${'x'.repeat(129)}`, '/serial'],
    ['model=Disk', 'model=a\u001b[2J', '/lines/3'],
    ['model=Disk', 'color=red', '/lines/3'],
  ] as const) {
    t.throws(() => parseWipedDisk(certificate.replace(from, to)), { code: 'request.invalid', fields: [{ field }] });
  }
  t.end();
});
