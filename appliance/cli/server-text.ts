import type { Diagnosis } from './diagnosis.ts';
import { diagnosisText } from './diagnosis.ts';
import { duration, facts, printable, table } from './text.ts';

/** A server as the API presents it, as far as people look at it. */
export interface Server {
  readonly id: string;
  readonly tenant: string;
  readonly hostname: string;
  readonly region: string;
  readonly flavor: string;
  readonly image: string;
  readonly provider: string;
  readonly cluster: string | null;
  readonly state: string;
  readonly status: string;
  readonly connection: {
    readonly username: string;
    readonly addresses: readonly string[];
    readonly hostKey: string | null;
    readonly endpoints?: Readonly<Record<string, string>>;
  } | null;
  readonly failure: { readonly code: string; readonly message: string; readonly step?: string } | null;
  readonly dependsOn: readonly string[];
  readonly steps: readonly StepProgress[];
  readonly attempts: readonly Attempt[];
  readonly createdAt: string;
  readonly endedAt: string | null;
}

interface Attempt {
  readonly number: number;
  readonly outcome: string;
  readonly machine: string | null;
  readonly firmware: string | null;
  readonly blame: string | null;
  readonly diagnosis: Diagnosis | null;
  readonly steps: readonly Step[];
}

interface StepProgress {
  readonly name: string;
  readonly status: string;
  readonly attempts: number;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly reason: { readonly code: string; readonly message: string } | null;
}

interface Step {
  readonly name: string;
  readonly state: string;
  readonly startedAt: string;
  readonly endedAt: string | null;
}

export interface Timeline {
  readonly stages: readonly Stage[];
  readonly entries: readonly { at: string; source: string; name: string; detail: Readonly<Record<string, unknown>> }[];
}

export interface Stage {
  readonly name: string;
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly facts: Readonly<Record<string, string>>;
}

export function serverTable(servers: readonly Server[]): string {
  const rows = servers.map(({ hostname, status, state, flavor, image, connection, attempts, id }) => {
    const machine = attemptInFront(attempts)?.machine;
    return [hostname, status, state, flavor, image, machine, connection?.addresses.join(' '), id];
  });
  return table(['hostname', 'status', 'state', 'flavor', 'image', 'machine', 'address', 'id'], rows);
}

export function serverSheet(server: Server): string {
  const { connection, failure, attempts } = server;
  const [address] = connection?.addresses ?? [];
  const { machine = null, firmware = null } = attemptInFront(attempts) ?? {};
  const lines = facts({
    hostname: server.hostname,
    id: server.id,
    tenant: server.tenant,
    status: `${server.status} (${server.state})`,
    'made of': `${server.flavor}, ${server.image}, in ${server.region}`,
    'made by': server.cluster === null ? server.provider : `${server.provider}, at ${server.cluster}`,
    ordered: server.createdAt,
    ...(server.dependsOn.length === 0 ? {} : { 'depends on': server.dependsOn.join(' ') }),
    ...(server.endedAt === null ? {} : { ended: server.endedAt }),
    ...(machine === null ? {} : { machine: firmware === null ? machine : `${machine} ${firmware}` }),
    ...triedBefore(attempts),
    ...(failure === null ? {} : { failed: `${failure.step ?? ''} ${failure.message} (${failure.code})`.trim() }),
    ...(connection === null || address === undefined
      ? {}
      : {
          addresses: connection.addresses.join(' '),
          ...(connection.hostKey === null ? {} : { 'host key': connection.hostKey }),
          'log in': `ssh ${connection.username}@${address}`,
        }),
    ...connection?.endpoints,
  });
  const rows = server.steps.map(({ name, status, attempts: tried, startedAt, endedAt, reason }) => {
    const why = reason === null ? '' : `${reason.message} (${reason.code})`;
    return [name, status, tried, startedAt, startedAt === null ? '' : span(startedAt, endedAt), why];
  });
  const steps = table(['step', 'status', 'attempts', 'from', 'time', 'reason'], rows);
  return [lines, steps, ...diagnosesOf(attempts)].join('\n');
}

/** Why boots failed, the newest attempt first: what was found and what to do, or that it is unknown and what was not seen. */
function diagnosesOf(attempts: Server['attempts']): string[] {
  return attempts.toReversed().flatMap(({ number, machine, diagnosis }) => {
    if (diagnosis === null) return [];
    const of = attempts.length === 1 ? '' : `, attempt ${String(number)}`;
    return [`why its boot failed${of}${machine === null ? '' : `, on ${machine}`}:\n${diagnosisText(diagnosis)}`];
  });
}

/** The one that the server is, or is to be; of two that are tried beside each other one is cancelled in the end. */
function attemptInFront(attempts: Server['attempts']): Attempt | undefined {
  return attempts.find(({ outcome }) => outcome === 'running' || outcome === 'succeeded') ?? attempts.at(-1);
}

/** What the request has moved on from. */
function triedBefore(attempts: Server['attempts']): Record<string, string> {
  const before = attempts.filter((attempt) => attempt.outcome === 'failed' && attempt !== attemptInFront(attempts));
  const failed = before.map(({ machine, blame }) => `${machine ?? ''} (fault: ${blame ?? 'unknown'})`);
  return failed.length === 0 ? {} : { 'tried on': failed.join('; ') };
}

export function timelineText({ stages, entries }: Timeline): string {
  const stageRows = stages.map(({ name, startedAt, endedAt, facts: known }) => {
    return [name, startedAt, span(startedAt, endedAt), factsText(known)];
  });
  const entryRows = entries.map(({ at, source, name, detail }) => [at, source, name, factsText(detail)]);
  return [
    table(['stage', 'from', 'time', 'facts'], stageRows),
    table(['at', 'source', 'what', 'detail'], entryRows),
  ].join('\n');
}

/** How long it took; empty while it goes on. */
export function span(startedAt: string, endedAt: string | null): string {
  return endedAt === null ? '' : duration(Date.parse(endedAt) - Date.parse(startedAt));
}

/** `name=value …`, short enough for a line. */
export function factsText(known: Readonly<Record<string, unknown>>): string {
  return Object.entries(known)
    .map(([name, value]) => `${name}=${printable(typeof value === 'string' ? value : JSON.stringify(value))}`)
    .map((text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}...` : text))
    .join(' ');
}

const LONGEST = 60;
