import { systemClock } from '../appliance/kernel/clock.ts';
import { createLog } from '../appliance/kernel/log.ts';
import { RouterAdvertiser } from './router-advertisement.ts';

/** What router-advertisement.test.ts runs in a namespace: advertises PREFIX on DEVICE until standard input ends. */
const [device = '', prefix = ''] = process.argv.slice(2);
const stop = new AbortController();
process.stdin.resume().on('end', () => stop.abort());
await new RouterAdvertiser({ links: [{ device, prefix }], clock: systemClock, log: createLog('error') }).run(
  stop.signal,
);
