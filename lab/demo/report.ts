import { deployStages } from '../../appliance/requests/server-timeline.ts';
import type { Server, Stage, Timeline } from '../site/server.ts';

/** What `--report` writes. */
export interface DemoReport {
  readonly servers: readonly ServerReport[];
  /** What is left to an operator. */
  readonly quarantined: readonly { readonly machine: string; readonly reason: string }[];
}

export interface ServerReport {
  readonly id: string;
  readonly state: string;
  readonly machine: string | null;
  readonly firmware: 'bios' | 'uefi' | null;
  readonly path: 'cold' | 'warm';
  readonly attempts: readonly { machine: string | null; outcome: string }[];
  readonly ssh: SshReport;
  readonly stages: readonly Stage[];
}

export interface SshReport {
  readonly ok: boolean;
  readonly hostname: string;
  readonly address: string;
}

export function serverReport(server: Server, { stages }: Timeline, ssh: SshReport): ServerReport {
  const last = server.attempts.at(-1);
  return {
    id: server.id,
    state: server.state,
    machine: last?.machine ?? null,
    firmware: last?.firmware ?? null,
    path: last?.path ?? 'cold',
    attempts: server.attempts.map(({ machine, outcome }) => ({ machine, outcome })),
    ssh,
    stages: stages.map(({ name, startedAt, endedAt }) => ({ name, startedAt, endedAt })),
  };
}

/** Seconds each stage took, a column a server. */
export function stageTable(servers: readonly ServerReport[]): string {
  const names = deployStages.filter((name) =>
    servers.some(({ stages }) => stages.some((stage) => stage.name === name)),
  );
  const head = ['stage', ...servers.map(({ machine, path }) => `${machine ?? '?'}, ${path}`)];
  const rows = names.map((name) => [
    name,
    ...servers.map(({ stages }) => duration(stages.find((stage) => stage.name === name))),
  ]);
  const total = ['in all', ...servers.map(({ stages }) => duration(whole(stages)))];
  return aligned([head, ...rows, total]);
}

export function duration(stage: Stage | undefined): string {
  if (stage?.endedAt == null) return '–';
  return `${((Date.parse(stage.endedAt) - Date.parse(stage.startedAt)) / 1000).toFixed(2)} s`;
}

function whole(stages: readonly Stage[]): Stage | undefined {
  const [first, last] = [stages[0], stages.at(-1)];
  return first && last && { name: 'in all', startedAt: first.startedAt, endedAt: last.endedAt };
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('   '),
    )
    .join('\n');
}
