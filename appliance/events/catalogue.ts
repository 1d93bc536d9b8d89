import { Type } from 'typebox';
import type { Static, TObject, TProperties } from 'typebox';

const Id = Type.String({ minLength: 1 });
const Text = Type.String();
const MaybeState = Type.Union([Text, Type.Null()]);
const Millis = Type.Integer({ minimum: 0, description: 'Milliseconds since the Unix epoch, UTC.' });

const ofRequest = { requestId: Id, tenantId: Id };
const ofAttempt = { ...ofRequest, attemptId: Id };
const ofBoot = {
  machineId: Id,
  sessionId: Id,
  attemptId: Type.Optional(
    Type.String({ description: 'Absent when the machine boots for nobody: an inspection, a wipe.' }),
  ),
  generation: Type.Integer(),
};
const ofIssue = { machineId: Id, issueId: Id, type: Id };
const ofAgent = { attemptId: Id, requestId: Id, machineId: Id };
const held = { from: Millis, to: Millis };
const ofOrphan = {
  orphanId: Id,
  provider: Id,
  cluster: Type.Union([Id, Type.Null()]),
  kind: Id,
  name: Type.String({ description: "The provider's id of it." }),
  madeFor: Type.String({ description: 'The attempt, or the key of a resource, that it was made for.' }),
  removeAt: Type.Integer({ minimum: 0, description: 'When it is removed, unless somebody owns it by then.' }),
};
const ofHolder = {
  tenantId: Id,
  holderKind: Type.Union([Type.Literal('tenant'), Type.Literal('project'), Type.Literal('user')]),
  holderId: Id,
};
const Figure = Type.Integer({ minimum: 0 });
const limits = { servers: Figure, cores: Figure, memoryMib: Figure, diskGib: Figure };

/**
 * Everything that may happen and be told, by its stable name: which id it is keyed by (what waits match on), and its data.
 *
 * A published event keeps its name for ever, since consumers replay the log from its start; another shape of its data is
 * the next version. `catalogue.golden` holds every version that was ever published: a new line there is written by
 * `RACKSTART_PUBLISH_EVENTS=1 node appliance/events/catalogue.test.ts`.
 */
export const catalogue = {
  // What callers are told about their servers.
  'provisioning.started': told(1, 'requestId', { ...ofAttempt, attempt: Type.Integer({ minimum: 1 }) }),
  'provisioning.step-completed': told(1, 'requestId', { ...ofAttempt, step: Text, startedAt: Millis, endedAt: Millis }),
  'resource.allocated': told(1, 'requestId', {
    ...ofAttempt,
    resource: Type.String({ description: 'What kind of thing is held: machine, address …' }),
    id: Type.String({ description: 'Which one.' }),
  }),
  'service.activated': told(1, 'requestId', { ...ofRequest, hostname: Text, addresses: Type.Array(Text) }),
  'provisioning.completed': told(1, 'requestId', { ...ofAttempt, startedAt: Millis, endedAt: Millis }),
  /** An attempt has failed, and the request goes on as its next one, on another machine; the failed one is undone beside it. */
  'provisioning.attempt-moved': told(1, 'requestId', {
    ...ofRequest,
    from: Type.String({ description: 'The attempt that failed.' }),
    to: Type.String({ description: 'The attempt that goes on.' }),
    attempt: Type.Integer({ minimum: 2 }),
    machineId: Type.String({ description: 'What the failed one held.' }),
    blame: Type.Enum(['machine', 'image', 'network', 'service', 'unknown']),
    ...{ code: Text, message: Text },
  }),
  /** A second machine is tried beside one that takes longer than 95 in 100 deploys of its model and path did. */
  'provisioning.hedged': told(1, 'requestId', {
    ...ofAttempt,
    attempt: Type.Integer({ minimum: 2 }),
    hedges: Type.String({ description: 'The attempt that takes so long.' }),
    machineId: Type.String({ description: 'The machine that that one holds.' }),
    ...{ waitedMs: Figure, usualMs: Figure },
  }),
  /** Of two attempts beside each other the other one has the server; what this one holds is given back. */
  'provisioning.outrun': told(1, 'requestId', { ...ofAttempt, by: Id }),
  'provisioning.failed': told(1, 'requestId', { ...ofAttempt, code: Text, message: Text }),
  'service.suspended': told(1, 'requestId', { ...ofRequest, reason: Text }),
  'service.reactivated': told(1, 'requestId', ofRequest),
  /** What a billing or order system needs to refund: what was held, from when to when. */
  'provisioning.rolled-back': told(1, 'requestId', { ...ofRequest, reason: Text, held: Type.Array(Text), ...held }),
  'service.deprovisioned': told(1, 'requestId', { ...ofRequest, reason: Text, ...held }),
  /** `from` is null for a request that has just been admitted. */
  'request.state-changed': told(1, 'requestId', { requestId: Id, from: MaybeState, to: Text }),

  // What a person is asked to make, and has said of how it is reached.
  'access.asked': told(1, 'attemptId', { ...ofAttempt, hostname: Text }),
  'access.entered': told(1, 'attemptId', { ...ofAttempt, username: Text, addresses: Type.Array(Text) }),
  /** It is not wanted any more; `addresses` are those of what was made. */
  'access.closed': told(1, 'attemptId', { ...ofAttempt, addresses: Type.Array(Text) }),

  // What operators are told about machines.
  /** An unknown machine has booted from the network, and told what it is made of. */
  'machine.discovered': told(1, 'discoveredId', {
    ...{ discoveredId: Id, mac: Text, serial: Text, vendor: Text, model: Text },
  }),
  'machine.enrolled': told(1, 'machineId', { machineId: Id, name: Text }),
  'machine.state-changed': told(1, 'machineId', {
    machineId: Id,
    from: MaybeState,
    to: Text,
    reason: Type.Optional(Text),
  }),
  /** Something is wrong with it that was not before; while it stays so, nothing is told. */
  'machine.issue-raised': told(1, 'machineId', {
    ...ofIssue,
    severity: Type.Enum(['info', 'warning', 'critical']),
    message: Text,
  }),
  'machine.issue-resolved': told(1, 'machineId', {
    ...ofIssue,
    by: Type.String({ description: 'What found it gone, or the key of the operator who said so.' }),
    reason: Type.Optional(Text),
  }),
  'boot.stage': told(1, 'machineId', { ...ofBoot, stage: Text, status: Text, facts: Type.Record(Text, Text) }),
  'boot.claimed': told(1, 'machineId', ofBoot),
  /** The machine waits inside the ramdisk for its next order. */
  'boot.parked': told(1, 'machineId', ofBoot),
  /** A parked machine was given an order; `boot.claimed` tells that it has it. */
  'boot.ordered': told(1, 'machineId', ofBoot),
  'boot.handoff': told(1, 'machineId', ofBoot),
  /** The ramdisk did what it was ordered to, an install excepted (that is a handoff), or failed. */
  'boot.finished': told(1, 'machineId', {
    ...ofBoot,
    outcome: Type.Union([Type.Literal('done'), Type.Literal('failed')]),
  }),
  /** Somebody else claimed this boot too: both are cut off, and the boot starts over. */
  'boot.cut-off': told(1, 'machineId', { ...ofBoot, reason: Text }),

  // What installed servers say.
  'agent.phoned-home': told(1, 'attemptId', { ...ofAgent, hostKey: Text, bootId: Text, uptime: Type.Number() }),
  /** The first heartbeat of an agent; later ones are metrics, not events. */
  'agent.heartbeat-received': told(1, 'attemptId', ofAgent),

  // What people and programs do through the API; keyed by what it is done to.
  'tenant.created': told(1, 'tenantId', { tenantId: Id, name: Text }),
  'user.created': told(1, 'userId', { userId: Id, name: Text, role: Text }),
  'user.disabled': told(1, 'userId', { userId: Id }),
  'project.created': told(1, 'projectId', { projectId: Id, name: Text }),
  'project.deleted': told(1, 'projectId', { projectId: Id, name: Text }),
  'api-key.created': told(1, 'keyId', {
    keyId: Id,
    name: Text,
    userId: Type.Union([Id, Type.Null()]),
    role: Text,
    scopes: Type.Array(Text),
  }),
  'api-key.rotated': told(1, 'keyId', { keyId: Id, overlapSeconds: Type.Integer({ minimum: 0 }) }),
  'api-key.revoked': told(1, 'keyId', { keyId: Id }),
  'inventory.added': told(1, 'id', {
    kind: Type.Enum(['region', 'rack', 'flavor', 'subnet', 'image']),
    id: Id,
    name: Text,
  }),
  /** What machines are expected has changed. */
  'manifest.loaded': told(1, 'manifest', { added: Figure, changed: Figure }),
  /** An operator's word about an unknown machine; one that is accepted is enrolled. */
  'machine.discovery-decided': told(1, 'discoveredId', {
    ...{ discoveredId: Id, mac: Text },
    decision: Type.Enum(['accepted', 'rejected', 'forgotten']),
  }),
  'accept-rule.added': told(1, 'ruleId', { ruleId: Id, name: Text }),
  'accept-rule.removed': told(1, 'ruleId', { ruleId: Id, name: Text }),
  'manifest.row-removed': told(1, 'manifest', { rowId: Id, serial: Text }),
  /** A file was announced; then its parts come, which nothing tells of. */
  'image.upload-begun': told(1, 'uploadId', { uploadId: Id, name: Text, version: Text, format: Text, bytes: Figure }),
  'image.upload-cancelled': told(1, 'uploadId', { uploadId: Id, name: Text, version: Text }),
  /** The image is made from here on; `inventory.added` tells that it is there. */
  'image.import-begun': told(1, 'importId', {
    ...{ importId: Id, name: Text, version: Text, format: Text, sha256: Text },
    from: Type.Enum(['upload', 'url']),
  }),
  'image.import-failed': told(1, 'importId', { importId: Id, name: Text, version: Text, code: Text, message: Text }),
  'image.changed': told(1, 'imageId', {
    ...{ imageId: Id, name: Text, version: Text },
    to: Type.Enum(['deprecated', 'in use', 'deleted']),
  }),
  /** Somebody works on a machine by hand; told before it is done. */
  'machine.asked': told(2, 'machineId', {
    machineId: Id,
    action: Type.Enum(['power-on', 'power-off', 'power-reset', 'inspect', 'readmit', 'plug-in', 'warm', 'drain']),
  }),
  /** A server is given back, or its request cancelled; what becomes of that, later events tell. */
  'service.release-asked': told(1, 'requestId', ofRequest),
  /** An undo that was stuck goes on: the step that failed is run again, or left behind. */
  'saga.resumed': told(1, 'sagaId', {
    sagaId: Id,
    action: Type.Union([Type.Literal('retry'), Type.Literal('skip')]),
    reason: Text,
  }),
  /** The limits from here on, whether an operator set them or approved that they be raised. */
  'quota.changed': told(1, 'holderId', { ...ofHolder, ...limits, reason: Text }),
  'quota.increase-decided': told(1, 'quotaRequestId', {
    quotaRequestId: Id,
    ...ofHolder,
    decision: Type.Union([Type.Literal('approved'), Type.Literal('denied')]),
    reason: Text,
  }),

  // What tenants ask of operators.
  'quota.increase-asked': told(1, 'quotaRequestId', {
    quotaRequestId: Id,
    ...ofHolder,
    asked: Type.Partial(Type.Object(limits, { additionalProperties: false })),
    reason: Text,
  }),

  // What an engineer must look at.
  'alert.raised': told(1, 'subject', { subject: Text, code: Text, message: Text }),
  /** How servers on such hardware are started from now on; `alert.raised` tells when the appliance decided so. */
  'model.handoff-changed': told(1, 'model', {
    model: Text,
    firmware: Type.Enum(['bios', 'uefi']),
    handoff: Type.Enum(['kexec', 'reset']),
  }),
  /** A cluster is called again; that it was not is an `alert.raised` with the code `provider.circuit-open`. */
  'circuit.closed': told(1, 'cluster', { cluster: Id, ...held }),
  /** Something is held that no request owns. */
  'orphan.found': told(1, 'orphanId', ofOrphan),
  /** It was removed; or is gone, or owned, without our doing. */
  'orphan.ended': told(1, 'orphanId', {
    ...ofOrphan,
    outcome: Type.Union([Type.Literal('removed'), Type.Literal('owned'), Type.Literal('gone')]),
  }),
  'saga.stuck': told(1, 'subject', { sagaId: Id, saga: Text, subject: Text, step: Text, code: Text, message: Text }),
} as const;

export type EventType = keyof typeof catalogue;

/** The data of each event as it is appended and read. */
export type EventMap = { readonly [T in EventType]: AsJson<Static<(typeof catalogue)[T]['data']>> };

export const eventTypes = Object.keys(catalogue) as EventType[];

export interface EventDefinition<Fields extends TProperties = TProperties> {
  readonly version: number;
  /** The field of `data`, or what it stands for, that the event is keyed by. */
  readonly key: string;
  readonly data: TObject<Fields>;
}

function told<Fields extends TProperties>(version: number, key: string, fields: Fields): EventDefinition<Fields> {
  return { version, key, data: Type.Object(fields, { additionalProperties: false }) };
}

/** What was told is not to be changed. */
type AsJson<T> = T extends readonly (infer Each)[]
  ? readonly AsJson<Each>[]
  : T extends object
    ? { readonly [Field in keyof T]: AsJson<T[Field]> }
    : T;
