import type { EventLog } from '../../appliance/events/event-log.ts';
import type { Millis } from '../../appliance/kernel/clock.ts';
import { HOUR } from '../../appliance/kernel/clock.ts';
import type { Tx } from '../../appliance/store/store.ts';
import type { Mac } from '../boot-client.ts';

/** A DHCP server that is not ours answered a client on a subnet of ours. */
export interface ForeignSighting {
  readonly subnetId: string;
  readonly server: string;
  readonly mac: Mac;
  readonly client: Mac;
  readonly at: Millis;
}

/** A server that was not seen for so long and is back is news again. */
const GONE_AFTER: Millis = HOUR;

/** Writes a sighting down. True when the server is new, or back: then an alert tells an engineer, once. */
export async function noteForeignServer(
  tx: Tx,
  events: Pick<EventLog, 'append'>,
  { subnetId, server, mac, client, at }: ForeignSighting,
  { alert }: { readonly alert: boolean },
): Promise<boolean> {
  const known = await tx
    .selectFrom('foreign_dhcp_servers')
    .select('last_seen_at')
    .where('subnet_id', '=', subnetId)
    .where('mac', '=', mac)
    .where('address', '=', server)
    .executeTakeFirst();
  const seen = { last_seen_at: at, last_client: client };
  await tx
    .insertInto('foreign_dhcp_servers')
    .values({ subnet_id: subnetId, mac, address: server, first_seen_at: at, ...seen })
    .onConflict((conflict) => conflict.columns(['subnet_id', 'mac', 'address']).doUpdateSet(seen))
    .execute();
  const isNew = known === undefined || at - known.last_seen_at >= GONE_AFTER;
  if (isNew && alert) {
    const { cidr } = await tx.selectFrom('subnets').select('cidr').where('id', '=', subnetId).executeTakeFirstOrThrow();
    const message =
      `${server} offered too: another DHCP server (MAC ${mac}) is on the segment of ${cidr}, and answered ${client}. ` +
      'Find the switch port of that MAC and unplug or silence it, or set `dhcp: proxy` if it is to stay.';
    const data = { subject: subnetId, code: 'dhcp.foreign-server', message };
    await events.append(tx, 'alert.raised', { key: subnetId, actor: 'dhcp', data });
  }
  return isNew;
}
