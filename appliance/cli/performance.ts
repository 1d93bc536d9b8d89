import type { Command } from 'commander';
import { Option } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { facts, table } from './text.ts';

/** How long deploys took, as the API presents it. */
interface Performance {
  readonly since: string;
  readonly target: { readonly seconds: number; readonly medianSeconds: number };
  readonly all: Times;
  readonly kinds: readonly (Times & {
    readonly model: string | null;
    readonly firmware: string | null;
    readonly path: string;
  })[];
  readonly stages: readonly Stage[];
}

/** What a stage of a boot may take, and how soon it was noticed that one was dead. */
interface Stage {
  readonly model: string | null;
  readonly firmware: string | null;
  readonly stage: string;
  readonly boots: number;
  readonly p99Seconds: number | null;
  readonly allowedSeconds: number;
  readonly basis: string;
  readonly late: number;
  readonly noticedP50Seconds: number | null;
  readonly noticedP99Seconds: number | null;
}

interface Times {
  readonly deploys: number;
  readonly withinTarget: number | null;
  readonly spans: readonly Span[];
}

interface Span {
  readonly span: string;
  readonly deploys: number;
  readonly p50Seconds: number;
  readonly p99Seconds: number;
}

interface Filter {
  readonly region?: string;
  readonly model?: string;
  readonly firmware?: string;
  readonly path?: string;
  readonly since?: string;
}

export function performanceCommand(program: Command, context: CliContext): void {
  asksApi(
    program
      .command('performance')
      .description(
        'how long deploys of the last 30 days took, by stage and by hardware, and how soon dead boots were noticed',
      )
      .option('--region <name>', 'of this region alone')
      .option('--model <model>', 'on this hardware alone')
      .addOption(new Option('--firmware <firmware>', 'on such machines alone').choices(['bios', 'uefi']))
      .addOption(new Option('--path <path>', 'on cold or on warm machines alone').choices(['cold', 'warm']))
      .option('--since <time>', 'no deploy that completed before, such as 2026-11-01T00:00:00Z'),
  ).action(async ({ region, model, firmware, path, since, ...options }: RemoteOptions & Filter) => {
    const { api, answer } = await connect(context, options);
    const filter = Object.entries({ region, model, firmware, path, since }).filter(([, value]) => value !== undefined);
    const query = new URLSearchParams(filter as [string, string][]);
    const performance = (await api.get(`/performance?${query.toString()}`)) as Performance;
    answer(performance, performanceText(performance));
  });
}

/** Whether the targets are met, then each kind of hardware, then each stage; then what boots may take, and when dead ones were missed. */
export function performanceText({ since, target, all, kinds, stages }: Performance): string {
  const deploys = deploysText({ since, target, all, kinds });
  return stages.length === 0 ? deploys : `${deploys}\n${stagesText(stages)}`;
}

function deploysText({ since, target, all, kinds }: Omit<Performance, 'stages'>): string {
  const total = totalOf(all);
  if (total === undefined) return `No such deploy has completed since ${since}.\n`;
  const inTime = `within ${String(target.seconds)} s`;
  const summary = facts({
    deploys: `${String(all.deploys)}, completed since ${since}`,
    p50: against(total.p50Seconds, target.medianSeconds),
    p99: against(total.p99Seconds, target.seconds),
    'in time': `${percent(all.withinTarget)} ${inTime}`,
  });
  const kindRows = kinds.map((kind) => {
    const [p50, p99] = [totalOf(kind)?.p50Seconds, totalOf(kind)?.p99Seconds].map((time) => time && seconds(time));
    return [kind.model, kind.firmware, kind.path, kind.deploys, p50, p99, percent(kind.withinTarget)];
  });
  const spanRows = all.spans.map(({ span, deploys, p50Seconds, p99Seconds }) => {
    return [span, deploys, seconds(p50Seconds), seconds(p99Seconds)];
  });
  return [
    summary,
    table(['model', 'firmware', 'path', 'deploys', 'p50', 'p99', inTime], kindRows),
    table(['stage', 'deploys', 'p50', 'p99'], spanRows),
  ].join('\n');
}

function stagesText(stages: readonly Stage[]): string {
  const rows = stages.map(({ model, firmware, stage, boots, basis, late, ...times }) => {
    const { p99Seconds: p99, allowedSeconds: allowed, noticedP50Seconds, noticedP99Seconds } = times;
    const noticed = [noticedP50Seconds, noticedP99Seconds].map(maybe);
    return [model, firmware, stage, boots, maybe(p99), seconds(allowed), basis, late, ...noticed];
  });
  return table(
    ['model', 'firmware', 'boot stage', 'boots', 'p99', 'allowed', 'by', 'late', 'noticed p50', 'noticed p99'],
    rows,
  );
}

function totalOf({ spans }: Times): Span | undefined {
  return spans.find(({ span }) => span === 'total');
}

function against(time: number, target: number): string {
  return `${seconds(time)}, ${time <= target ? 'which meets' : 'which misses'} the target of ${String(target)} s`;
}

function seconds(time: number): string {
  return `${time.toFixed(2)} s`;
}

function maybe(time: number | null): string | null {
  return time === null ? null : seconds(time);
}

// Rounded down: what is not all is not 100 %.
function percent(share: number | null): string {
  return share === null ? '' : `${(Math.floor(share * 1000 + 1e-6) / 10).toFixed(1)} %`;
}
