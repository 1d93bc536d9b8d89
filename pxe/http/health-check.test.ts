import { test } from 'tap';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { ask, plain } from './ask.fixture.ts';
import { parseHealthCheck } from './health-check.ts';
import { chassis, lifetime, lldpFrame, port } from './lldp.fixture.ts';
import { BEARER, MAC, startRig } from './server.fixture.ts';

const check = `cores=4
memory_kib=1048000
memory_tested_kib=16384
memory_wrong_bytes=0
memory_corrected=2
memory_uncorrected=
clock_offset=-3600
disk=vda|10737418240||ok|unknown
disk=nvme0n1|10737418240|S 1|1048576|failing
nic=enp0s2|52:54:00:77:00:01|up|1000
lldp=enp0s2|${lldpFrame(chassis(7, 'leaf'), port(5, 'eth3'), lifetime(120)).toString('hex')}
`;

test('a check is read, and what the machine could not tell is absent', async (t) => {
  const rig = await startRig(t);
  const headers = { 'content-type': 'text/plain', authorization: `Bearer ${BEARER}` };
  const answer = await ask(`${rig.https}/boot/v1/check`, { ...plain(check), headers, ca: rig.ca });
  t.equal(answer.status, 204);
  t.strictSame(rig.director.told, [
    {
      cores: 4,
      memoryMib: 1023,
      memory: { testedKib: 16384, wrongBytes: 0, corrected: 2 },
      clockOffset: -3600,
      disks: [
        { name: 'vda', bytes: 10737418240, serial: '', smart: 'unknown' },
        { name: 'nvme0n1', bytes: 10737418240, serial: 'S 1', smart: 'failing', unreadableAt: 1048576 },
      ],
      nics: [{ name: 'enp0s2', mac: MAC, up: true, speedMbps: 1000, neighbour: 'leaf/eth3' }],
    },
  ]);
  const refused = await ask(`${rig.https}/boot/v1/check`, { ...plain(check), ca: rig.ca });
  t.equal(refused.status, 403, 'of nobody without the bearer');
});

test('a check with a line that is no fact is refused, line by line', async (t) => {
  const bare = check.replace(/^(disk|nic|lldp)=.*\n/gm, '');
  t.same(parseHealthCheck(bare).disks, []);
  for (const [wrong, field] of [
    [bare.replace('cores=4', 'cores=0'), '/cores'],
    [bare.replace('memory_wrong_bytes=0\n', ''), '/memory_wrong_bytes'],
    [bare.replace('=-3600', '=--1'), '/clock_offset'],
    [bare.replace('=-3600', '=1e3'), '/clock_offset'],
    [bare.replace('=2', '=-2'), '/memory_corrected'],
    [`${bare}cores=4\n`, '/lines/7'],
    [`${bare}disk=vda|1|x|ok\n`, '/lines/7'],
    [`${bare}disk=vda|1|x|fine|ok\n`, '/lines/7'],
    [`${bare}disk=vda|1|x|-1|ok\n`, '/lines/7'],
    [`${bare}disk=vda|1|x|ok|great\n`, '/lines/7'],
    [`${bare}disk=../vda|1|x|ok|ok\n`, '/lines/7'],
    [`${bare}disk=vda|1|x|ok|ok|\n`, '/lines/7'],
    [`${bare}nic=eth0|52:54:00:77:00:01|sideways|\n`, '/lines/7'],
    [`${bare}lldp=eth0|8\n`, '/lines/7'],
    [`${bare}__proto__=1\n`, '/lines/7'],
    [`${bare}serial=1\n`, '/lines/7'],
    [`${bare}\u001b[2J\n`, '/lines/7'],
  ] as const) {
    const refused = t.throws(() => parseHealthCheck(wrong), { code: 'request.invalid' }, field);
    if (refused instanceof RackstartError) t.match(refused.fields, [{ field }], field);
  }
  t.throws(() => parseHealthCheck(bare + 'nic=a|b|up|\n'.repeat(600)), /at most 512 lines/);
});
