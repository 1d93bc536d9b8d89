import type { Millis } from '../appliance/kernel/clock.ts';
import type { Mac } from './boot-client.ts';

export type TimelineSource = 'dhcp' | 'tftp' | 'http' | 'bmc' | 'ramdisk' | 'agent' | 'saga' | 'alert' | 'console';

/** One thing seen of a boot. `detail` holds facts, never a secret. */
export interface TimelineEntry {
  readonly at: Millis;
  readonly source: TimelineSource;
  /** Short and stable, such as `discover`, `offer`, `script`, `power-on`. */
  readonly name: string;
  readonly detail: Readonly<Record<string, unknown>>;
  readonly packet?: SeenPacket;
}

/** A UDP datagram as it went over the wire, with the bytes of secrets overwritten. Ends are `10.77.0.1:67`. */
export interface SeenPacket {
  readonly from: string;
  readonly to: string;
  readonly bytes: Uint8Array;
}

/** Whose entry it is: the machine of this NIC, or the one that has this address reserved, for what comes without a name. */
export type TimelineOwner = Mac | { readonly address: string };

/** Takes entries without waiting: a packet is answered before it is told of. Strangers' entries are dropped. */
export interface Timeline {
  seen(owner: TimelineOwner, entry: TimelineEntry): void;
}
