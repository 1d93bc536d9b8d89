import { join } from 'node:path';
import { test } from 'tap';

import { systemClock } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import { timedDeploys } from '../requests/deploy-times.fixture.ts';
import { openStore } from '../store/open.ts';
import { place, read } from './cli.fixture.ts';
import { performanceText } from './performance.ts';

test('performance tells whether the targets are met, what the hardware takes, and where the time goes', (t) => {
  const span = (name: string, p50Seconds: number, p99Seconds: number, deploys = 128) => {
    return { span: name, deploys, p50Seconds, p99Seconds };
  };
  const text = performanceText({
    since: '2026-10-22T06:00:00.000Z',
    target: { seconds: 78, medianSeconds: 47 },
    all: {
      deploys: 128,
      withinTarget: 0.9999,
      spans: [span('admit', 0.06, 0.3), span('dhcp', 4.7, 21, 127), span('total', 44.12, 81.3)],
    },
    kinds: [
      {
        model: 'PowerEdge R640\u001b[2J',
        firmware: 'uefi',
        path: 'cold',
        deploys: 126,
        withinTarget: 0.57,
        spans: [span('total', 44, 77.96, 126)],
      },
      { model: null, firmware: null, path: 'warm', deploys: 2, withinTarget: 0.5, spans: [span('total', 40, 81.3, 2)] },
    ],
    stages: [
      {
        ...{
          model: 'PowerEdge R640\u001b[2J',
          firmware: 'uefi',
          stage: 'grow',
          boots: 126,
          p99Seconds: 4,
          basis: 'floor',
        },
        ...{ allowedSeconds: 20, late: 2, noticedP50Seconds: 20.02, noticedP99Seconds: 21 },
      },
      {
        ...{ model: null, firmware: null, stage: 'dhcp', boots: 0, p99Seconds: null, basis: 'cold' },
        ...{ allowedSeconds: 300, late: 0, noticedP50Seconds: null, noticedP99Seconds: null },
      },
    ],
  });
  t.equal(
    text,
    `deploys  128, completed since 2026-10-22T06:00:00.000Z
p50      44.12 s, which meets the target of 47 s
p99      81.30 s, which misses the target of 78 s
in time  99.9 % within 78 s

MODEL               FIRMWARE  PATH  DEPLOYS  P50      P99      WITHIN 78 S
PowerEdge R640?[2J  uefi      cold  126      44.00 s  77.96 s  57.0 %
-                   -         warm  2        40.00 s  81.30 s  50.0 %

STAGE  DEPLOYS  P50      P99
admit  128      0.06 s   0.30 s
dhcp   127      4.70 s   21.00 s
total  128      44.12 s  81.30 s

MODEL               FIRMWARE  BOOT STAGE  BOOTS  P99     ALLOWED   BY     LATE  NOTICED P50  NOTICED P99
PowerEdge R640?[2J  uefi      grow        126    4.00 s  20.00 s   floor  2     20.02 s      21.00 s
-                   -         dhcp        0      -       300.00 s  cold   0     -            -
`,
  );
  t.end();
});

test('performance asks the daemon, with its filters, and prints JSON for programs', async (t) => {
  const here = place(t);
  const empty = await here.serve();
  const none = await empty.ask(['performance']);
  t.match(none, { code: 0, out: /^No such deploy has completed since \d{4}-.*Z\.\n$/ });
  await empty.stop();

  const url = `sqlite:${join(here.directory, 'state/rackstart.db')}`;
  const store = await openStore({ url, clock: systemClock, log: silentLog });
  const endedAt = systemClock.now();
  await timedDeploys(store, [
    { endedAt, model: 'R640', firmware: 'uefi', spans: { image: 12, total: 40 } },
    { endedAt, model: 'DL360', region_id: 'reg_south', spans: { image: 30, total: 90 } },
  ]);
  await store.close();
  const served = await here.serve();
  t.match((await served.ask(['performance'])).out, /\nR640 +uefi +cold +1 +40\.00 s +40\.00 s +100\.0 %\n/);
  const filters = ['--region', 'south', '--model', 'DL360', '--firmware', 'bios', '--path', 'cold'];
  const filtered = await served.ask(['performance', ...filters, '--since', '2026-01-01T00:00:00Z', '--json']);
  t.equal(filtered.code, 0, filtered.err);
  t.match(JSON.parse(filtered.out), { all: { deploys: 1, withinTarget: 0 }, kinds: [{ model: 'DL360' }] });
  t.match((await served.ask(['performance', '--region', 'nowhere'])).err, /There is no such region/);

  const key = read(here.directory, 'state/operator.key').trim();
  const scrape = (headers: Record<string, string>) => fetch(`${served.url}/metrics`, { headers });
  t.equal((await scrape({})).status, 401);
  const metrics = await (await scrape({ authorization: `Bearer ${key}` })).text();
  t.match(metrics, '\nrackstart_deploy_seconds{span="total",quantile="0.99"} 90\n', 'Prometheus learns the same');
  await served.stop();
});
