/**
 * Every error a person or a program may meet, by its stable code. Code branches on codes, never on text.
 * `status` is the HTTP status; `transient` says that the same call may succeed later; `hint` says what to do.
 */
const catalogue = {
  'request.invalid': { status: 400, transient: false, hint: 'Correct the named fields and send the request again.' },
  'request.too-large': {
    status: 413,
    transient: false,
    hint: 'Send less: the API document says how much each route takes.',
  },
  'request.media-type': { status: 415, transient: false, hint: 'Send the content type that the API document names.' },
  'request.method': { status: 405, transient: false, hint: 'Use one of the methods in the Allow header.' },
  'auth.missing': { status: 401, transient: false, hint: 'Send an API key: Authorization: Bearer KEY.' },
  'auth.invalid': { status: 401, transient: false, hint: 'The key is unknown; ask for a new one.' },
  'auth.expired': { status: 401, transient: false, hint: 'Use the key that follows it, or ask for a new one.' },
  'auth.revoked': { status: 401, transient: false, hint: 'Ask for a new key.' },
  'auth.disabled': { status: 401, transient: false, hint: 'Ask who looks after the users of your tenant.' },
  'auth.forbidden': { status: 403, transient: false, hint: 'This needs a key with another role, or with more scopes.' },
  'rate.limited': { status: 429, transient: true, hint: 'Wait as long as Retry-After says, and ask less often.' },
  'not-found': { status: 404, transient: false, hint: 'Check the id; list what exists first.' },
  'state.conflict': { status: 409, transient: false, hint: 'Read the current state and decide again.' },
  'idempotency.reused': { status: 422, transient: false, hint: 'Use a new Idempotency-Key for a different request.' },
  'idempotency.in-progress': {
    status: 409,
    transient: true,
    hint: 'Repeat it with the same Idempotency-Key in a moment.',
  },
  'idempotency.unknown-outcome': {
    status: 409,
    transient: false,
    hint: 'Look at what there is; ask again, under a new Idempotency-Key, for what is missing.',
  },
  'quota.exceeded': { status: 403, transient: false, hint: 'Release something, or ask for a higher quota.' },
  'request.stalled': {
    status: 504,
    transient: false,
    hint: 'Read its timeline for the last thing that happened; it is rolled back.',
  },
  'request.prerequisite-failed': {
    status: 424,
    transient: false,
    hint: 'Order it again, and with it what it depends on, once what made that fail is out of the way.',
  },
  'placement.none': { status: 409, transient: true, hint: 'No machine fits now; the reasons are in the details.' },
  'address.pool-empty': { status: 409, transient: true, hint: 'Widen the subnet, or release servers in it.' },
  'store.unavailable': {
    status: 503,
    transient: true,
    hint: 'Nothing was changed (unless `commit` in the details is `unknown`); try again shortly. Operators: see the log.',
  },
  'lease.fenced': {
    status: 409,
    transient: true,
    hint: 'Let one daemon alone lease addresses of this subnet; nothing was written.',
  },
  'store.newer-schema': {
    status: 500,
    transient: false,
    hint: 'Start the version that wrote this database, or newer.',
  },
  'store.older-schema': {
    status: 500,
    transient: false,
    hint: 'Start the daemon once; it brings the database up to date.',
  },
  'store.locked': { status: 500, transient: false, hint: 'Another daemon owns this database file; stop it first.' },
  'config.invalid': { status: 500, transient: false, hint: 'Correct the setting and start again.' },
  'host.missing': { status: 500, transient: false, hint: 'Install what is named and start again.' },
  'key.mismatch': { status: 500, transient: false, hint: 'Start with the master key this database was written with.' },
  'boot.token-refused': {
    status: 403,
    transient: false,
    hint: 'Boot the machine through the API; tokens live for one boot.',
  },
  'boot.claim-conflict': {
    status: 409,
    transient: false,
    hint: 'Somebody else claimed this boot; it starts over by itself.',
  },
  'boot.stale': { status: 409, transient: false, hint: 'This boot was replaced by a newer one; nothing to do.' },
  'boot.mismatch': {
    status: 403,
    transient: false,
    hint: 'The hardware is not the one inspected; inspect the machine again.',
  },
  'boot.stage-late': {
    status: 504,
    transient: false,
    hint: 'Read the timeline of this boot for the last thing the machine did.',
  },
  'boot.stage-failed': { status: 500, transient: false, hint: 'Read the agent log of this boot.' },
  'boot.disk-rule': {
    status: 409,
    transient: false,
    hint: "Correct the machine's disk rule or the flavor's layout: each must match just one disk (`rackstart machine disk-plan`).",
  },
  'disk.failed': {
    status: 500,
    transient: false,
    hint: "The machine's disk failed, or does not give back what was written to it: replace it, then readmit the machine.",
  },
  'image.unreachable': {
    status: 502,
    transient: false,
    hint: "The image did not reach the machine: look at the appliance's image port, HTTP caches and the network between.",
  },
  'discovery.full': {
    status: 409,
    transient: false,
    hint: 'Accept, reject or forget unknown machines that wait (`rackstart discovered list`), then boot this one again.',
  },
  'boot.protocol': {
    status: 426,
    transient: false,
    hint: 'Boot again: the ramdisk and the appliance speak different versions.',
  },
  'machine.unfit': {
    status: 409,
    transient: false,
    hint: 'Read its issues (`rackstart machine issues NAME`), do as their remedies say, then readmit it.',
  },
  'agent.refused': { status: 403, transient: false, hint: 'The server was released or its credential revoked.' },
  'bmc.unreachable': { status: 502, transient: true, hint: 'Check the BMC address, cable and out-of-band network.' },
  'bmc.auth': { status: 502, transient: false, hint: 'Correct the BMC user and password of this machine.' },
  'bmc.busy': { status: 502, transient: true, hint: 'The BMC has no time or no session left; it is asked again.' },
  'bmc.refused': { status: 502, transient: true, hint: 'The BMC answered with an error; its code is in the details.' },
  'bmc.lied': { status: 502, transient: true, hint: 'The BMC accepted a command and did not obey; reset the BMC.' },
  'bmc.power-unknown': {
    status: 502,
    transient: true,
    hint: 'The power state could not be read twice the same; nothing was done.',
  },
  'provider.busy': {
    status: 503,
    transient: true,
    hint: 'Too many calls to this cluster are under way; it is called again by itself.',
  },
  'provider.circuit-open': {
    status: 503,
    transient: true,
    hint: 'The cluster does not answer: see `rackstart guards`, and look at the network to it; it is tried by itself.',
  },
  'provider.timeout': {
    status: 504,
    transient: true,
    hint: 'The cluster took the call and did not end it; look at its own log.',
  },
  'provider.unavailable': {
    status: 502,
    transient: true,
    hint: 'The cluster gave no answer, or an error of its own; it is asked again.',
  },
  'provider.refused': {
    status: 502,
    transient: false,
    hint: 'The cluster will not do this: read its reason, then change the order or the cluster.',
  },
  'provider.lied': {
    status: 502,
    transient: true,
    hint: 'The cluster reported success and did nothing; it is asked again.',
  },
  'image.digest': { status: 400, transient: false, hint: 'The image is not what was registered; register it again.' },
  'image.invalid': { status: 400, transient: false, hint: 'Use an image of the declared format; see the details.' },
  'image.format': {
    status: 400,
    transient: false,
    hint: 'Declare the format that the file has, or send the file you meant; nothing is guessed.',
  },
  'image.external': {
    status: 400,
    transient: false,
    hint: 'Convert it to one file that stands alone (qemu-img convert), and send that.',
  },
  'image.encrypted': {
    status: 400,
    transient: false,
    hint: 'Convert it to an image without encryption, and send that.',
  },
  'image.unsupported': {
    status: 400,
    transient: false,
    hint: 'Convert it to qcow2 or raw (qemu-img convert), and send that.',
  },
  'image.too-large': { status: 413, transient: false, hint: 'Shrink its disk; deploys grow the root file system.' },
  'image.partitions': {
    status: 400,
    transient: false,
    hint: 'Send the whole file again; if it is whole, repair its table (sfdisk --verify, sgdisk --verify).',
  },
  'image.file-system': {
    status: 400,
    transient: false,
    hint: 'Send the whole file again; if it is whole, repair its file system (fsck) and shrink none of its partitions.',
  },
  'image.not-bootable': {
    status: 400,
    transient: false,
    hint: 'Add what is named: a root file system (ext4, xfs, btrfs), and an ESP or boot code of BIOS.',
  },
  'image.store-full': {
    status: 507,
    transient: true,
    hint: 'Remove images that nothing needs, or give the store a larger disk; then try again.',
  },
  'image.damaged': {
    status: 500,
    transient: false,
    hint: 'Add the same image again: that mends it. Then check the disk of the image store; `rackstart doctor` names what is damaged.',
  },
  'image.altered': {
    status: 502,
    transient: false,
    hint: 'The image is as it was frozen, and something changes it on its way to the machine: look at HTTP caches, cables and network cards.',
  },
  'image.deprecated': {
    status: 409,
    transient: false,
    hint: 'Order another version (`rackstart image list`): without one, the newest that is not deprecated is meant.',
  },
  'image.interrupted': {
    status: 503,
    transient: true,
    hint: 'The appliance ended in the middle, and what it had is gone from its disk: send the file, or import it, again.',
  },
  'image.source-refused': {
    status: 400,
    transient: false,
    hint: 'Import from a host that the configuration lists, by the URL the file itself has; or upload it.',
  },
  'image.source-failed': {
    status: 502,
    transient: true,
    hint: 'The server of the image failed, also when it was asked again: import it again later.',
  },
  'upload.offset': { status: 409, transient: false, hint: 'Ask how far it is (HEAD), and send what follows.' },
  'upload.busy': {
    status: 409,
    transient: true,
    hint: 'A part of it is being received: wait for its end, then ask how far it is.',
  },
  'upload.incomplete': { status: 409, transient: false, hint: 'Ask how far it is (HEAD), and send the rest first.' },
  'image.build-failed': {
    status: 500,
    transient: false,
    hint: 'Read what the tool said; check the apt sources (apt-get update) and the free disk space.',
  },
  'ssh.host-key': {
    status: 502,
    transient: false,
    hint: 'Another machine answers at this address; look for an address conflict.',
  },
  'ssh.key-refused': {
    status: 502,
    transient: true,
    hint: "The server does not accept the tenant's key; check the image's sshd.",
  },
  'ssh.unreachable': {
    status: 502,
    transient: true,
    hint: 'The server does not answer on port 22; check its network.',
  },
  'saga.fenced': {
    status: 409,
    transient: false,
    hint: 'Another owner has taken this saga over; nothing was written.',
  },
  'saga.step-late': {
    status: 504,
    transient: true,
    hint: 'A step came to no end in its time and is run again; look at what it works with.',
  },
  'saga.stuck': { status: 500, transient: false, hint: 'Undo failed; repair what is named, then retry or skip it.' },
  cancelled: { status: 409, transient: false, hint: 'The request was cancelled; order again if it was a mistake.' },
  internal: { status: 500, transient: false, hint: 'This is a defect: report it with the log around this time.' },
} as const satisfies Record<string, { status: number; transient: boolean; hint: string }>;

export type ErrorCode = keyof typeof catalogue;

/** One field's complaint; `field` is a JSON pointer into the request body, such as `/sshKeys/0`. */
export interface FieldError {
  field: string;
  message: string;
}

export interface ErrorDetails {
  cause?: unknown;
  fields?: readonly FieldError[];
  /** Facts a program may read; never a secret. */
  details?: Readonly<Record<string, unknown>>;
}

/** What happened (message), why (cause, details) and what to do (hint), under a stable code. */
export class RackstartError extends Error {
  readonly code: ErrorCode;
  readonly fields: readonly FieldError[];
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, { cause, fields = [], details = {} }: ErrorDetails = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'RackstartError';
    this.code = code;
    this.fields = fields;
    this.details = details;
  }

  get status(): number {
    return catalogue[this.code].status;
  }

  get transient(): boolean {
    return catalogue[this.code].transient;
  }

  get hint(): string {
    return catalogue[this.code].hint;
  }
}

export function hasCode(error: unknown, code: ErrorCode): error is RackstartError {
  return error instanceof RackstartError && error.code === code;
}

/** Any thrown value as one of ours, its cause the original: `store.unavailable` when the disk is full, else `internal`. */
export function asRackstartError(error: unknown): RackstartError {
  if (error instanceof RackstartError) return error;
  if (isOfTheDisk(error))
    return new RackstartError('store.unavailable', `The disk: ${error.message}.`, { cause: error });
  return new RackstartError('internal', error instanceof Error ? error.message : String(error), { cause: error });
}

// What an operator repairs at the disk: full, over its quota, broken, mounted for reading.
function isOfTheDisk(error: unknown): error is Error {
  if (!(error instanceof Error) || !('code' in error)) return false;
  return ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS'].includes(String(error.code));
}
