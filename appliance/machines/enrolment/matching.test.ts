import { test } from 'tap';

import { chassis, lifetime, lldpFrame, port, systemName } from '../../../pxe/http/lldp.fixture.ts';
import { readLldpFrame } from '../../../pxe/http/lldp.ts';
import type { KnownWorld, Stranger } from './matching.ts';
import { isLike, isTelling, matchOf } from './matching.ts';

const facts = {
  ...{ cores: 8, memoryMib: 1024, uuid: '4c4c4544-0042-4810-8058-b4c04f4e3132', vendor: 'Acme', model: 'R6 Plus' },
  ...{ serial: 'S-1', firmware: 'uefi', disks: [], nics: [] },
} as unknown as Stranger['facts'];
const stranger: Stranger = {
  row: { id: 'dsc_1', mac: '52:54:00:00:00:01', subnet_id: 'net1', told_at: 0 },
  regionId: 'reg1',
  facts,
};
const bmc = {
  bmc_kind: 'ipmi',
  bmc_port: 623,
  bmc_username: 'a',
  bmc_password: 'sealed',
  bmc_cipher_suite: 17,
} as const;
const row: KnownWorld['expected'][number] = {
  ...{ id: 'exp_1', serial: 'S-1', name: 'm1', rack_id: 'rack1', region_id: 'reg1', unit: 1, ...bmc },
  ...{ bmc_address: '10.9.0.1', nic_role: 'both', switch_port: 'sw-7/eth3', machine_id: null },
  ...{ created_at: 0, updated_at: 0 },
};
const rule: KnownWorld['rules'][number] = {
  ...{ id: 'rul_1', name: 'lab', rack_id: 'rack1', region_id: 'reg1', mac_prefix: '52:54:00', vendor: null, ...bmc },
  ...{
    ...{ model: 'r6*', firmware_vendor: null, firmware_version: null, switch_port: null },
    subnet_id: null,
    name_prefix: 'lab-',
    nic_role: 'both',
    bmc_network: '10.9.0.0/24',
    created_at: 0,
  },
};
const world = (change: Partial<KnownWorld> = {}): KnownWorld => ({
  ...{ machines: [], strangers: [stranger], expected: [row], rules: [] },
  ...change,
});
const like = (change: Partial<Stranger['facts']>): Stranger => ({ ...stranger, facts: { ...facts, ...change } });
const why = (one: Stranger, of: KnownWorld) => {
  const match = matchOf(one, of);
  return 'why' in match ? match.why : match.kind;
};

test('a serial number of the manifest is matched, unless anything of it differs', (t) => {
  t.match(matchOf(stranger, world()), { kind: 'expected', row: { id: 'exp_1' } });
  t.match(why(like({ serial: 's-1' }), world()), /Neither/);
  t.match(why(like({ bmcAddress: '10.9.0.1' }), world()), 'expected');
  t.match(why(like({ bmcAddress: '10.9.0.2' }), world()), /BMC 10\.9\.0\.1, and here it is 10\.9\.0\.2/);
  const nic = { name: 'eth0', mac: stranger.row.mac, up: true } as Stranger['facts']['nics'][number];
  t.match(why(like({ nics: [{ ...nic, neighbour: 'sw-7/eth3' }] }), world()), 'expected');
  t.match(why(like({ nics: [{ ...nic, neighbour: 'sw-7/eth4' }] }), world()), /switch port sw-7\/eth3/);
  t.match(why(stranger, world({ expected: [{ ...row, region_id: 'reg2' }] })), /another region/);
  t.match(why(stranger, world({ expected: [{ ...row, machine_id: 'mch_1' }] })), /mch_1/);
  const twin = { ...stranger, row: { ...stranger.row, id: 'dsc_2' } };
  t.match(why(stranger, world({ strangers: [stranger, twin] })), /same serial number/);
  t.end();
});

test('nothing that an enrolled machine has is given away', (t) => {
  const machine = { id: 'mch_1', name: 'm1', serial: null, smbios_uuid: null, macs: [] };
  for (const [mine, of] of [
    [{ macs: ['52:54:00:00:00:01'] }, 'MAC'],
    [{ smbios_uuid: facts.uuid }, 'SMBIOS UUID'],
    [{ serial: 'S-1' }, 'serial number'],
  ] as const) {
    const match = matchOf(stranger, world({ machines: [{ ...machine, ...mine }] }));
    t.match(match, { kind: 'taken', machineId: 'mch_1', why: new RegExp(of) });
  }
  // What boards leave the factory with tells nobody apart.
  const blank = like({ serial: 'To Be Filled By O.E.M.', uuid: '00000000-0000-0000-0000-000000000000' });
  const other = { ...machine, serial: 'To Be Filled By O.E.M.', smbios_uuid: '00000000-0000-0000-0000-000000000000' };
  t.match(why(blank, world({ machines: [other] })), /no serial number/);
  t.end();
});

test('a rule takes what it names, in the region of its rack, and believes a BMC in its network alone', (t) => {
  const by = (one: Stranger, ...rules: KnownWorld['rules']) => why(one, world({ expected: [], rules }));
  const known = like({ bmcAddress: '10.9.0.7' });
  t.equal(by(known, rule), 'rule');
  t.match(by(stranger, rule), /BMC's address is not known/);
  t.match(by(like({ bmcAddress: '10.8.0.7' }), rule), /10\.8\.0\.7 is not in 10\.9\.0\.0\/24/);
  t.match(by(known, rule, { ...rule, name: 'all', model: null }), /Several rules take it: lab, all/);
  t.match(by(like({ serial: '0', bmcAddress: '10.9.0.7' }), rule), /no serial number/);
  for (const change of [
    { region_id: 'reg2' },
    { subnet_id: 'net2' },
    { mac_prefix: '52:55' },
    { vendor: 'acm' },
    { model: 'r7*' },
    { firmware_vendor: 'acme*' },
    { firmware_version: '*' },
  ]) {
    t.match(by(known, { ...rule, ...change }), /Neither/, JSON.stringify(change));
  }
  t.end();
});

test('a rule goes by what the firmware says of itself, and takes nobody who says nothing', (t) => {
  const by = (told: Partial<Stranger['facts']>, asked: Partial<KnownWorld['rules'][number]>) =>
    why(like({ bmcAddress: '10.9.0.7', ...told }), world({ expected: [], rules: [{ ...rule, ...asked }] }));
  const asked = { firmware_vendor: 'american*', firmware_version: '2.*' };
  t.equal(by({ firmwareVendor: 'American Megatrends', firmwareVersion: '2.14' }, asked), 'rule');
  t.match(by({ firmwareVendor: 'American Megatrends', firmwareVersion: '3.2' }, asked), /Neither/);
  t.match(by({ firmwareVendor: 'Insyde', firmwareVersion: '2.14' }, asked), /Neither/);
  t.match(by({ firmwareVendor: 'American Megatrends' }, asked), /Neither/);
  t.end();
});

test('a rule goes by the switch port of the NIC that booted, and no other takes the machine until its switch was heard', (t) => {
  const plugged = (neighbour?: string, elsewhere?: string): Stranger => {
    const nic = { name: 'eth0', mac: stranger.row.mac, up: true, ...(neighbour === undefined ? {} : { neighbour }) };
    const other = { name: 'eth1', mac: '52:54:00:00:00:99', up: true, neighbour: elsewhere };
    return like({ bmcAddress: '10.9.0.7', nics: [nic, other] as unknown as Stranger['facts']['nics'] });
  };
  const leaf3 = { ...rule, switch_port: 'leaf-3/Ethernet*', name: 'r12' };
  const by = (one: Stranger, ...rules: KnownWorld['rules']) => why(one, world({ expected: [], rules }));
  t.equal(by(plugged('leaf-3/Ethernet7'), leaf3), 'rule');
  for (const port of ['leaf-30/Ethernet7', 'leaf-3/mgmt0', 'my-leaf-3/Ethernet7', 'leaf-3']) {
    t.match(by(plugged(port, 'leaf-3/Ethernet7'), leaf3), /Neither/, port);
  }
  t.match(by(plugged(undefined, 'leaf-3/Ethernet7'), leaf3), /Rule r12 may take it, and no switch has told/);
  t.match(by(plugged(), { ...rule, name: 'all' }, leaf3), /Rule r12 may take it/, 'though another one does');
  t.equal(by(plugged(), rule, { ...leaf3, model: 'r7*' }), 'rule', 'one that takes it nowhere is not waited for');
  t.equal(by(plugged('leaf-4/Ethernet7'), rule, leaf3), 'rule');
  t.match(by(plugged('leaf-3/Ethernet7'), { ...rule, name: 'all' }, leaf3), /Several rules take it: all, r12/);
  t.end();
});

test('whatever is said on the wire is text to a rule, and no pattern', (t) => {
  const rules = [{ ...rule, switch_port: 'leaf-3/eth*' }];
  const said = (system: string, id: string | Buffer, subtype = 5) => {
    const frame = lldpFrame(chassis(7, 'c'), port(subtype, id), lifetime(120), systemName(system));
    const neighbour = readLldpFrame(frame);
    const nic = { name: 'eth0', mac: stranger.row.mac, up: true, ...(neighbour === undefined ? {} : { neighbour }) };
    const told = like({ bmcAddress: '10.9.0.7', nics: [nic] as unknown as Stranger['facts']['nics'] });
    return why(told, world({ expected: [], rules }));
  };
  t.equal(said('leaf-3', 'eth1'), 'rule');
  for (const [system, id] of [
    ['*', '*'],
    ['leaf-3*', 'eth1'],
    ['leaf-3/eth', ''],
    ['x\nleaf-3', 'eth1'],
    ['%6ceaf-3', 'eth1'],
    ['leaf-3%00', 'eth1'],
    ['\u202eleaf-3/', 'eth1'],
    [`leaf-3${' '.repeat(200)}`, `x${'/eth'.repeat(60)}`],
    ['a'.repeat(255), 'a'.repeat(254)],
    ["leaf-3' or '1'='1", 'eth1'],
  ] as const) {
    t.match(said(system, id), /Neither|no switch has told/, JSON.stringify([system, id]));
  }
  t.match(said('leaf-3', Buffer.from('eth1'), 3), /Neither/, 'bytes are none of its letters');
  t.end();
});

test('a pattern is any text at its stars, and takes no longer than both are long', (t) => {
  for (const [text, pattern, is] of [
    ['R6 Plus', 'r6*', true],
    ['R6 Plus', '*plus', true],
    ['R6 Plus', 'r*6*us', true],
    ['R6 Plus', 'r6', false],
    ['R6 Plus', 'R6 PLUS', true],
    ['ab', 'ab*b', false],
    ['aXbXc', 'a*b*c', true],
    ['', '*', true],
    ['a'.repeat(128), `${'*a'.repeat(63)}*b`, false],
  ] as const) {
    t.equal(isLike(text, pattern), is, `${text} ${pattern}`);
  }
  for (const serial of ['', '0', '0000', 'None', 'Default string', 'System Serial Number', 'xxxxxxx'])
    t.notOk(isTelling(serial), serial);
  for (const serial of ['S-1', 'CZJ0040AB1', '52:54:00:77:00:01', '007']) t.ok(isTelling(serial), serial);
  t.end();
});
