import { test } from 'tap';

import { parseConfig } from './config.ts';
import { hasCode } from './kernel/errors.ts';

const parse = (api: string, more = '') =>
  parseConfig(`{ state: s, ramdisk: r, provisioning: [], api: ${api}${more} }`, '/etc/rackstart', {});

test('the rate limit, its proxies and the targets are what operators set, and else as documented', (t) => {
  t.match(parse('{}'), {
    api: { rateLimit: { perSecond: 100, burst: 200 }, trustedProxies: ['127.0.0.0/8', '::1'] },
    targets: { deploySeconds: 78, deployMedianSeconds: 47 },
  });
  const api = '{ rateLimit: { burst: 20 }, trustedProxies: [192.0.2.1, 2001:db8::/32] }';
  t.match(parse(api, ', targets: { deploySeconds: 60.5 }'), {
    api: { rateLimit: { perSecond: 100, burst: 20 }, trustedProxies: ['192.0.2.1', '2001:db8::/32'] },
    targets: { deploySeconds: 60.5, deployMedianSeconds: 47 },
  });
  t.same(parse('{ trustedProxies: [] }').api.trustedProxies, []);
  t.end();
});

test('what limits nothing, and who is no address, is refused by name', (t) => {
  const complaint = (api: string, more = ''): unknown => {
    try {
      return parse(api, more);
    } catch (error) {
      return hasCode(error, 'config.invalid') ? error.fields.map(({ field }) => field) : error;
    }
  };
  t.same(complaint('{ rateLimit: { perSecond: 0 } }'), ['/api/rateLimit/perSecond']);
  t.same(complaint('{ rateLimit: { burst: 0 } }'), ['/api/rateLimit/burst']);
  t.same(complaint('{}', ', targets: { deploySeconds: 0 }'), ['/targets/deploySeconds']);
  for (const wrong of ['localhost', '1.2.3', '192.0.2.1/33', '::1/129', '999.0.0.1']) {
    t.same(complaint(`{ trustedProxies: ['::1', '${wrong}'] }`), ['/api/trustedProxies/1'], wrong);
  }
  t.end();
});

test('a network is served by our DHCP server, or beside another; relays of others are named by their addresses', (t) => {
  const network = (more: string) =>
    parseConfig(
      `{ state: s, ramdisk: r, api: {}, provisioning: [{ device: eth1, address: 10.77.0.1${more} }] }`,
      '/etc/rackstart',
      {},
    ).provisioning;
  t.match(network(''), { dhcp: 'server', relays: [] });
  const relays = [{ address: '10.78.0.1' }, { address: '10.79.0.1', from: '10.77.0.254' }];
  t.match(network(`, dhcp: proxy, relays: ${JSON.stringify(relays)}`), { dhcp: 'proxy', relays });
  for (const wrong of [
    'dhcp: none',
    'relays: [10.78.0.1]',
    'relays: [{ address: fd00::1 }]',
    'relays: [{ from: 10.1.1.1 }]',
  ]) {
    t.throws(() => network(`, ${wrong}`), { code: 'config.invalid' }, wrong);
  }
  t.end();
});

test('a simulated cluster has usual delays and no faults unless told, and faults that can not be are refused', (t) => {
  const simulated = (more: string) =>
    parse('{}', `, simulation: { clusters: [{ name: a, shape: proxmox${more} }] }`).simulation;
  t.match(simulated(''), [
    { name: 'a', shape: 'proxmox', seed: 'a', delays: { create: { usual: 120 } }, failureRates: {} },
  ]);
  const told = 'delays: { start: { least: 1, usual: 2, most: 3 } }, failureRates: { create: { passing: 0.1 } }';
  t.match(simulated(`, ${told}`), [
    { delays: { create: { usual: 120 }, start: { most: 3 } }, failureRates: { create: { passing: 0.1 } } },
  ]);
  for (const [wrong, field] of [
    ['shape: bochs', '/shape'],
    ['delays: { start: { least: 4, usual: 2, most: 3 } }', '/delays/start'],
    ['failureRates: { delete: { hang: 0.6, lies: 0.6 } }', '/failureRates/delete'],
  ] as const) {
    t.throws(() => simulated(`, ${wrong}`), { code: 'config.invalid' }, field);
  }
  const twice = '{ name: a, shape: vmware }, { name: a, shape: vmware }';
  t.throws(() => parse('{}', `, simulation: { clusters: [${twice}] }`), { code: 'config.invalid' }, 'two of one name');
  t.same(parse('{}').simulation, []);
  t.end();
});

test('images are fetched from nowhere unless hosts are listed; their limits are what operators set', (t) => {
  const usual = parse('{}').images;
  t.match(usual, { directory: '/etc/rackstart/s/images', mostBytes: 64 * 1024 ** 3, atOnce: 2 });
  t.match(usual, { uploads: { lifetime: 86_400_000 }, imports: { hosts: [], ca: undefined } });
  const imports = "{ hosts: ['mirror.example:8443'], allowedCidrs: [10.1.0.0/16], ca: ca.pem }";
  const set = parse('{}', `, images: { tenantBytes: 5, uploads: { mostBytes: 7 }, imports: ${imports} }`).images;
  t.match(set, { tenantBytes: 5, uploads: { mostBytes: 7 }, imports: { hosts: ['mirror.example:8443'] } });
  t.equal(set.imports.ca, '/etc/rackstart/ca.pem');
  t.ok(set.imports.allowed.check('10.1.2.3') && !set.imports.allowed.check('10.2.0.1'));
  for (const wrong of ['10.1.0.0', '10.1.0.0/33', 'localhost', '10.1.0.0/x']) {
    t.throws(
      () => parse('{}', `, images: { imports: { allowedCidrs: ['${wrong}'] } }`),
      { code: 'config.invalid' },
      wrong,
    );
  }
  t.throws(() => parse('{}', ", images: { imports: { hosts: ['https://x'] } }"), { code: 'config.invalid' });
  t.end();
});
