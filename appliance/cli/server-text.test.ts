import { test } from 'tap';

import type { Server } from './server-text.ts';
import { serverSheet } from './server-text.ts';

const finding = {
  ...{ cause: 'foreign-dhcp-server', hop: 'firmware', certainty: 'certain' },
  sentence: 'Another DHCP server, 10.9.9.9, was asked.',
  remedy: 'Switch it off.',
  evidence: ['18:00:01 dhcp request server=10.9.9.9 \u001b[2J'],
};
const found = { verdict: 'found', summary: 'all of it', findings: [finding], missing: [] };
const unknown = {
  ...{ verdict: 'unknown', summary: 'Nothing that was seen says why: it broke at the self-test.', findings: [] },
  missing: ['what the machine printed: its BMC has no serial-over-LAN'],
};

test('a server that failed tells why, and what to do or what was not seen', (t) => {
  t.equal(
    told([{ machine: 'm1', diagnosis: found }]),
    `why its boot failed, on m1:
foreign-dhcp-server (certain, at firmware): Another DHCP server, 10.9.9.9, was asked.
  18:00:01 dhcp request server=10.9.9.9 ?[2J
  -> Switch it off.
`,
  );
  t.equal(
    told([
      { machine: 'm1', diagnosis: found },
      { machine: 'm2', diagnosis: unknown },
      { machine: null, diagnosis: null },
    ]),
    `why its boot failed, attempt 2, on m2:
unknown: Nothing that was seen says why: it broke at the self-test.
not seen: what the machine printed: its BMC has no serial-over-LAN

why its boot failed, attempt 1, on m1:
foreign-dhcp-server (certain, at firmware): Another DHCP server, 10.9.9.9, was asked.
  18:00:01 dhcp request server=10.9.9.9 ?[2J
  -> Switch it off.
`,
    'the newest first',
  );
  t.equal(told([{ machine: 'm1', diagnosis: null }]), '', 'nothing failed, or a tenant asks');
  t.end();
});

/** What a server's sheet says behind its steps. */
function told(attempts: readonly Pick<Server['attempts'][number], 'machine' | 'diagnosis'>[]): string {
  const nothing = { dependsOn: [], steps: [], connection: null, failure: null, cluster: null, endedAt: null };
  const sheet = serverSheet({
    ...{ id: 'srv_1', tenant: 'ten_1', hostname: 'web', region: 'west', flavor: 'small', image: 'debian:12' },
    ...{ provider: 'bare-metal', state: 'rolled-back', status: 'failed', createdAt: '2026-11-22T00:00:00.000Z' },
    ...nothing,
    attempts: attempts.map((attempt, index) => ({
      ...{ number: index + 1, outcome: 'failed', firmware: null, blame: 'network', steps: [] },
      ...attempt,
    })),
  });
  return /^STEP.*\n\n?(?<rest>[^]*)$/m.exec(sheet)?.groups?.['rest'] ?? 'no steps';
}
