import { test } from 'tap';

import { RackstartError } from '../../kernel/errors.ts';
import type { ManifestFormat } from './manifest-file.ts';
import { readManifest } from './manifest-file.ts';

const HEADER = 'serial,region,rack,unit,bmc_address,bmc_user,bmc_password';
const csv = (...lines: string[]) => [HEADER, ...lines, ''].join('\n');

test('a CSV and a YAML manifest of the same machines mean the same', (t) => {
  const inCsv = readManifest('csv', csv('007,west,r1,12,10.9.0.1,admin,"a,""b"""', 'S2,west,r1,13,fd00::1,admin,pw'));
  const inYaml = readManifest(
    'yaml',
    [
      '- { serial: 007, region: west, rack: r1, unit: 12, bmc_address: 10.9.0.1, bmc_user: admin, bmc_password: "a,\\"b\\"" }',
      '- { serial: S2, region: west, rack: r1, unit: 13, bmc_address: "fd00::1", bmc_user: admin, bmc_password: pw }',
    ].join('\n'),
  );
  t.match(inCsv, [
    {
      index: 0,
      serial: '007',
      name: 'r1-u12',
      region: 'west',
      rack: 'r1',
      unit: 12,
      nicRole: 'both',
      switchPort: null,
    },
    { serial: 'S2', bmc: { kind: 'ipmi', address: 'fd00::1', port: 623, cipherSuite: 17 } },
  ]);
  t.equal(inCsv[0]?.bmc.password.reveal(), 'a,"b"');
  t.same(JSON.stringify(inYaml), JSON.stringify(inCsv));
  t.equal(inYaml[0]?.bmc.password.reveal(), 'a,"b"');
  t.end();
});

test('what may be left out may be told', (t) => {
  const header = `\uFEFF${HEADER},name,bmc_port,bmc_kind,cipher_suite,nic_role,switch_port\r\n`;
  const [entry] = readManifest(
    'csv',
    `${header}S1,west,r1,1,10.9.0.1,admin,pw,db-1,6230,ipmitool,3,provisioning,sw-7/eth3\r\n`,
  );
  t.match(entry, {
    name: 'db-1',
    bmc: { kind: 'ipmitool', port: 6230, cipherSuite: 3 },
    nicRole: 'provisioning',
    switchPort: 'sw-7/eth3',
  });
  t.same(readManifest('csv', `${HEADER}\n`), [], 'nothing is expected');
  t.same(readManifest('yaml', ''), []);
  t.end();
});

test('each wrong field of each row is named, and no password is repeated', (t) => {
  const rows = [
    'S1,west,r1,0,bmc.example,admin,hunter2-and-much-longer',
    ',WEST,r1,12,10.9.0.1,,hunter2',
    'S1,west,r1,12,10.9.0.1,admin,hunter2',
  ];
  const error = faultOf('csv', csv(...rows));
  t.same(fieldsOf(error), [
    '/rows/0/unit',
    '/rows/0/bmc_address',
    '/rows/0/bmc_password',
    '/rows/1/serial',
    '/rows/1/region',
    '/rows/1/bmc_user',
    '/rows/2/serial',
    '/rows/2/name',
    '/rows/2/bmc_address',
  ]);
  t.match(error.fields[1], { message: 'Row 1: bmc_address must be an IPv4 or IPv6 address.' });
  t.match(error.fields[6], { message: 'Row 3: row 1 has this serial, too.' });
  t.notMatch(JSON.stringify(error.fields) + error.message, 'hunter2');
  t.same(fieldsOf(faultOf('csv', `${HEADER},colour\nS1,west,r1,1,10.9.0.1,admin,pw,red\n`)), ['/rows/0/colour']);
  t.end();
});

test('what is hostile or no manifest at all is refused at once', (t) => {
  const row = (number: number) => `S${String(number)},west,r1,1,10.9.0.1,admin,pw,n${String(number)}`;
  const cases: readonly (readonly [ManifestFormat, string, string])[] = [
    ['csv', csv('"S1,west'), '/text'],
    ['csv', csv('S"1,west,r1,1,10.9.0.1,admin,pw'), '/text'],
    ['csv', 'serial,serial\nS1,S1\n', '/text'],
    ['csv', csv('S1,west,r1,1,10.9.0.1,admin,pw,more'), '/rows/0'],
    ['csv', csv(...Array.from({ length: 2_001 }, (_, index) => row(index))).replace(HEADER, `${HEADER},name`), '/text'],
    ['csv', 'x'.repeat(512 * 1024 + 1), '/text'],
    ['yaml', 'a: &a [x]\nb: [*a, *a]\n', '/text'],
    ['yaml', '- &a { serial: S1 }\n- *a\n', '/text'],
    ['yaml', '['.repeat(100_000), '/text'],
    ['yaml', 'serial: S1\n', '/text'],
    ['yaml', '- { serial: S1, serial: S2 }\n', '/text'],
    ['yaml', '- { serial: { nested: S1 } }\n', '/rows/0'],
    ['yaml', '- plain\n', '/rows/0'],
    ['yaml', '- { __proto__: x }\n', '/rows/0/__proto__'],
  ];
  for (const [format, text, field] of cases) {
    t.equal(fieldsOf(faultOf(format, text))[0], field, `${format} ${text.slice(0, 40)}`);
  }
  const many = faultOf('csv', csv(...Array.from({ length: 300 }, () => 'S1')));
  t.equal(many.fields.length, 100, 'and no more is complained about than anybody reads');
  t.end();
});

function faultOf(format: ManifestFormat, text: string): RackstartError {
  try {
    readManifest(format, text);
  } catch (error) {
    if (error instanceof RackstartError) return error;
    throw error;
  }
  throw new Error('It was taken.');
}

function fieldsOf({ fields }: RackstartError): string[] {
  return fields.map(({ field }) => field);
}
