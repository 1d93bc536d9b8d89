import { test } from 'tap';

import type { SystemContext, SystemInterface } from './context.ts';
import { loadSystemFiles } from './system-files.ts';

const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJCxRBGxvrBcpGvyLHDvLmWX3sZ1HRYYJpTH8QLtS2hH';
const caPem = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';

const both: SystemInterface = {
  mac: '52:54:00:77:00:01',
  role: 'both',
  addresses: ['10.77.0.21/24', 'fd77::21/64'],
  gateways: ['10.77.0.1', 'fd77::1'],
  dns: ['10.77.0.53'],
};
const provisioning: SystemInterface = {
  mac: '52:54:00:77:00:02',
  role: 'provisioning',
  addresses: ['10.78.0.21/24'],
  gateways: [],
  dns: ['10.78.0.53'],
};
const context: SystemContext = {
  hostname: 'web1.example.org',
  instanceId: 'srv_1.att_2',
  interfaces: [both, provisioning],
  sshKeys: [`${key} ada@laptop — "home"`, `${key}\n`],
  userData: null,
  agent: { url: 'https://10.77.0.1:8443', server: 'srv_1' },
  caPem,
};

const filesOf = (changes: Partial<SystemContext> = {}) =>
  new Map(loadSystemFiles()({ ...context, ...changes }).map((file) => [file.path, file]));
const textOf = (path: string, changes: Partial<SystemContext> = {}) => filesOf(changes).get(path)?.content;

test('a server gets these files with these permissions', (t) => {
  t.strictSame(
    [...filesOf().values()].map(({ path, mode }) => `${mode.toString(8)} ${path}`),
    [
      '700 root/.ssh/',
      '600 root/.ssh/authorized_keys',
      '644 etc/hostname',
      '644 etc/hosts',
      '644 etc/systemd/network/05-rackstart-525400770001.network',
      '644 etc/systemd/network/05-rackstart-525400770002.network',
      '644 etc/resolv.conf',
      '644 var/lib/cloud/seed/nocloud/meta-data',
      '600 var/lib/cloud/seed/nocloud/user-data',
      '644 var/lib/cloud/seed/nocloud/network-config',
      '644 etc/cloud/cloud.cfg.d/99-rackstart.cfg',
      '644 etc/rackstart/agent.conf',
      '644 etc/rackstart/ca.pem',
    ],
  );
  t.end();
});

test('the customer-facing interface is static, IPv4 and IPv6, and listens to no router advertisement', (t) => {
  t.equal(
    textOf('etc/systemd/network/05-rackstart-525400770001.network'),
    `# Written by Rackstart when this server was installed.
[Match]
MACAddress=52:54:00:77:00:01
Type=ether

[Network]
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
Address=10.77.0.21/24
Address=fd77::21/64
Gateway=10.77.0.1
Gateway=fd77::1
DNS=10.77.0.53
`,
  );
  const ipv4 = { ...both, addresses: ['10.77.0.21/24'], gateways: ['10.77.0.1'], dns: [] };
  t.equal(
    textOf('etc/systemd/network/05-rackstart-525400770001.network', { interfaces: [ipv4] }),
    `# Written by Rackstart when this server was installed.
[Match]
MACAddress=52:54:00:77:00:01
Type=ether

[Network]
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=no
Address=10.77.0.21/24
Gateway=10.77.0.1
`,
  );
  t.notOk(filesOf({ interfaces: [ipv4] }).has('etc/resolv.conf'), 'no name server, no resolv.conf');
  t.end();
});

test('an interface for provisioning alone has an address and neither gateway nor name server', (t) => {
  t.equal(
    textOf('etc/systemd/network/05-rackstart-525400770002.network'),
    `# Written by Rackstart when this server was installed. This network leads to the appliance and nowhere else.
[Match]
MACAddress=52:54:00:77:00:02
Type=ether

[Link]
RequiredForOnline=no

[Network]
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=no
Address=10.78.0.21/24
`,
  );
  t.equal(textOf('etc/resolv.conf'), 'nameserver 10.77.0.53\n');
  t.end();
});

test('the server knows its own name', (t) => {
  t.equal(textOf('etc/hostname'), 'web1.example.org\n');
  t.equal(
    textOf('etc/hosts'),
    `127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
10.77.0.21 web1.example.org web1
fd77::21 web1.example.org web1
`,
  );
  t.match(textOf('etc/hosts', { hostname: 'web1' }), /\n10\.77\.0\.21 web1\n/);
  t.end();
});

test('the cloud-init seed says the same as networkd', (t) => {
  t.equal(
    textOf('var/lib/cloud/seed/nocloud/meta-data'),
    'instance-id: "srv_1.att_2"\nlocal-hostname: "web1.example.org"\n',
  );
  t.equal(
    textOf('var/lib/cloud/seed/nocloud/network-config'),
    `version: 2
ethernets:
  "rackstart-525400770001":
    match:
      macaddress: "52:54:00:77:00:01"
    dhcp4: false
    dhcp6: false
    accept-ra: false
    addresses:
      - "10.77.0.21/24"
      - "fd77::21/64"
    routes:
      - to: "0.0.0.0/0"
        via: "10.77.0.1"
      - to: "::/0"
        via: "fd77::1"
    nameservers:
      addresses:
        - "10.77.0.53"
  "rackstart-525400770002":
    match:
      macaddress: "52:54:00:77:00:02"
    dhcp4: false
    dhcp6: false
    accept-ra: false
    addresses:
      - "10.78.0.21/24"
`,
  );
  t.equal(
    textOf('var/lib/cloud/seed/nocloud/user-data'),
    '#cloud-config\n# The order came without user data of its own.\nhostname: "web1.example.org"\n',
  );
  const userData = '#!/bin/sh\necho "$(id)" {{hostname}} \'\n';
  t.equal(textOf('var/lib/cloud/seed/nocloud/user-data', { userData }), userData, "the tenant's own, untouched");
  t.match(textOf('etc/cloud/cloud.cfg.d/99-rackstart.cfg'), /^ssh_deletekeys: false$/m);
  t.match(
    textOf('etc/cloud/cloud.cfg.d/99-rackstart.cfg'),
    /^ssh_genkeytypes: \[ed25519\]$/m,
    'nor is another one made',
  );
  t.end();
});

test('the agent is told where the appliance is and whom it speaks for', (t) => {
  t.equal(textOf('etc/rackstart/agent.conf'), 'url=https://10.77.0.1:8443\nserver=srv_1\n');
  t.equal(textOf('etc/rackstart/ca.pem'), caPem);
  t.end();
});

test('authorized_keys holds one checked key a line', (t) => {
  t.equal(textOf('root/.ssh/authorized_keys'), `${key} ada@laptop — "home"\n${key}\n`);
  const broken = [
    `command="reboot" ${key}`,
    `${key} a\n${key}`,
    `${key} a\rb`,
    key.replace('ssh-ed25519', 'ssh-rsa'),
    key.replace('ssh-ed25519', 'ssh-dss'),
    'ssh-ed25519 AAAA',
    'ssh-ed25519 "; rm -rf /',
    '',
  ];
  for (const sshKey of broken) t.throws(() => filesOf({ sshKeys: [sshKey] }), { code: 'config.invalid' }, sshKey);
  t.throws(() => filesOf({ sshKeys: [] }), { code: 'config.invalid' }, 'none at all');
  t.end();
});

test('a hostile plan is refused as a whole', (t) => {
  const changes: Partial<SystemContext>[] = [
    ...['"; rm -rf', 'a\nb', '${x}', 'ü', '-a', '', 'a..b', 'a'.repeat(65)].map((hostname) => ({ hostname })),
    { interfaces: [{ ...both, mac: '52:54:00:77:00:01\nName=*' }] },
    { interfaces: [{ ...both, addresses: ['10.77.0.21/33'] }] },
    { interfaces: [{ ...both, addresses: ['10.77.0.21'] }] },
    { interfaces: [{ ...both, addresses: [] }] },
    { interfaces: [{ ...both, gateways: ['10.77.0.1\nDHCP=yes'] }] },
    { interfaces: [{ ...both, dns: ['fe80::1%eth0'] }] },
    { interfaces: [{ ...provisioning, gateways: ['10.78.0.1'] }] },
    { agent: { url: 'https://x/$(reboot)', server: 'srv_1' } },
    { agent: { url: 'https://x', server: 'srv_1\nurl=http://evil' } },
    { caPem: 'x' },
  ];
  for (const change of changes) t.throws(() => filesOf(change), { code: 'config.invalid' }, JSON.stringify(change));
  t.match(
    textOf('var/lib/cloud/seed/nocloud/meta-data', { instanceId: 'a\nb: "c"' }),
    'instance-id: "a\\nb: \\"c\\""\n',
  );
  t.end();
});
