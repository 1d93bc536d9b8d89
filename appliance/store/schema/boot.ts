import type { Json, Millis } from './column-types.ts';

/** Rendered once, frozen under the digest of its own text. */
export interface InstallPlanRow {
  /** SHA-256 of `body`, hex. */
  digest: string;
  tenant_id: string;
  body: Json;
  created_at: Millis;
}

/** What a machine shall do next. At most one is pending or claimed per machine (partial unique index). */
export interface BootOrderRow {
  id: string;
  machine_id: string;
  generation: number;
  verb: 'inspect' | 'wait' | 'install' | 'wipe' | 'local-disk';
  plan_digest: string | null;
  /** Of one to wait: what is written to its disk meanwhile; null: nothing. */
  image_id: string | null;
  attempt_id: string | null;
  tenant_id: string | null;
  state: 'pending' | 'claimed' | 'consumed' | 'revoked';
  created_at: Millis;
  claimed_at: Millis | null;
  ended_at: Millis | null;
}

/** One boot of one machine, in a window that our own BMC command opened. */
export interface BootSessionRow {
  id: string;
  machine_id: string;
  order_id: string;
  generation: number;
  state: string;
  opened_at: Millis;
  /** Tokens are accepted until then. */
  window_until: Millis;
  /** When the BMC had taken the command that started this boot: null after a crash in between. */
  powered_at: Millis | null;
  /** SHA-256 of the claimant's nonce, hex. */
  nonce_hash: string | null;
  claimed_at: Millis | null;
  /** The last sign of life. */
  seen_at: Millis;
  /** When it last came further: to another state, or to more bytes of the image. Null in boots from before this was kept. */
  moved_at: Millis | null;
  /** Of the image, as the ramdisk told. */
  moved_bytes: number;
  /** Of an install: how the new system is started, and how long that may take to phone home. */
  handoff: 'kexec' | 'reset' | null;
  proof_within: Millis | null;
  /** From the handoff until it has phoned home: until when it has to. */
  proof_due: Millis | null;
  /** When the BMC was told to start it from its disk, since it had not. */
  rescued_at: Millis | null;
  /** For how long it may stand still, during an install, until its BMC resets it; null where the BMC does not watch, or no more. */
  watchdog: Millis | null;
  ended_at: Millis | null;
  end_reason: string | null;
  /** The boot of the machine that was parked when this one was ordered: it goes on in the same ramdisk, nothing is booted. */
  continues: string | null;
  /** Which ramdisk claimed it (`RamdiskFiles.version`); null before the claim, and where it did not know. */
  ramdisk: string | null;
  /** JSON: `BootStages` of pxe/boot-session. */
  stages: Json;
}

/** What is remembered of how systems start on a model of hardware. */
export interface ModelHandoffRow {
  model: string;
  firmware: 'bios' | 'uefi';
  handoff: 'kexec' | 'reset';
  /** Of kexec: in a row, and in all. */
  failures: number;
  successes: number;
  /** Since when it is so, and by whom: an operator's key, or `saga`. */
  since: Millis;
  set_by: string;
}

/** Everything seen of a boot, on the appliance's clock. */
export interface TimelineRow {
  id: string;
  machine_id: string;
  session_id: string | null;
  at: Millis;
  source: 'dhcp' | 'tftp' | 'http' | 'bmc' | 'ramdisk' | 'agent' | 'saga' | 'alert' | 'console';
  name: string;
  detail: Json;
  /** JSON `{from, to, data}`: a datagram as it went over the wire, secrets masked, `data` in base64; null for all else. */
  packet: Json | null;
}

/**
 * How long one stage of one boot took, or how long nothing came until it was given up: what deadlines are made of. Kept for as
 * long as they look back.
 */
export interface StageTimeRow {
  session_id: string;
  /** Of `watchedStages` in machines/boot-deadlines. */
  stage: string;
  machine_id: string;
  model: string | null;
  firmware: 'bios' | 'uefi' | null;
  /** Of an image, for each GiB. */
  milliseconds: number;
  outcome: 'done' | 'late';
  ended_at: Millis;
}
