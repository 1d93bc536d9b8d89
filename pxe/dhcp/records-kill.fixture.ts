/** `node records-kill.fixture.ts URL ROUND`: leases to strangers, 20 at a time, and writes each that it may tell to standard output. */
import { writeSync } from 'node:fs';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import { openStore } from '../../appliance/store/open.ts';
import { parseMac } from '../boot-client.ts';
import type { LeaseClient } from './lease-book.ts';
import { StoreLeaseBook } from './records.ts';
import { SUBNET } from './subnet.fixture.ts';

const [url = '', round = ''] = process.argv.slice(2);
const store = await openStore({ url, clock: systemClock, log: silentLog });
const book = new StoreLeaseBook({ store, subnetId: SUBNET, clock: systemClock });
for (let number = 0; ; number += 20) {
  await Promise.all(Array.from({ length: 20 }, (_, index) => lease(client(number + index))));
}

async function lease(stranger: LeaseClient): Promise<void> {
  const binding = await book.offer(stranger);
  if (binding === undefined) throw new Error('nothing was offered');
  const { kind } = await book.bind(stranger, binding.address);
  if (kind === 'bound') writeSync(1, `${stranger.mac} ${binding.address}\n`);
}

function client(number: number): LeaseClient {
  const digits = number.toString(16).padStart(4, '0');
  const mac = parseMac(`52:54:00:${round.padStart(2, '0')}:${digits.slice(0, 2)}:${digits.slice(2)}`);
  if (mac === undefined) throw new Error(`there are not so many clients: ${number}`);
  return { mac };
}
