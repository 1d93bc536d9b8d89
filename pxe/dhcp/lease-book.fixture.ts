import type { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import type { Store } from '../../appliance/store/store.ts';
import { parseMac } from '../boot-client.ts';
import type { LeaseClient } from './lease-book.ts';
import { StoreLeaseBook } from './records.ts';
import { SUBNET } from './subnet.fixture.ts';

/** One that tests make known, and four strangers. */
export const clients = [stranger('01'), stranger('02'), stranger('03'), stranger('04'), stranger('05')] as const;

export function bookOf(store: Store, clock: ManualClock): StoreLeaseBook {
  return new StoreLeaseBook({ store, subnetId: SUBNET, clock });
}

/** The address that the client is offered, and takes. */
export async function bound(book: StoreLeaseBook, client: LeaseClient): Promise<string> {
  const address = (await book.offer(client))?.address;
  if (address === undefined) throw new Error('nothing was offered');
  const result = await book.bind(client, address);
  if (result.kind !== 'bound') throw new Error(`${address} was offered and then ${result.kind}`);
  return address;
}

function stranger(last: string): LeaseClient {
  const mac = parseMac(`52:54:00:77:00:${last}`);
  if (mac === undefined) throw new Error(`${last} ends no MAC`);
  return { mac };
}
