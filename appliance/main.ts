#!/usr/bin/env node
import { describeFailure } from './cli/failure.ts';
import { createProgram } from './cli/program.ts';
import { loadConfig } from './config.ts';
import { createIds } from './kernel/ids.ts';
import { createLog } from './kernel/log.ts';
import { SteadyClock } from './kernel/steady-clock.ts';
import { openSystemd } from './kernel/systemd.ts';

const clock = new SteadyClock();
const ids = createIds(clock);
const { stdout, stderr, env: environment } = process;

// A reader that has seen enough (`| head`) is no error of ours.
stdout.on('error', () => process.exit());

const stopping = new AbortController();
// Once: who asks a second time is not kept waiting.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());

const program = createProgram({
  stdout,
  stderr,
  environment,
  clock,
  ids,
  signal: stopping.signal,
  loadConfig: (file) => loadConfig(file, environment),
  async serve(file) {
    const config = await loadConfig(file, environment);
    // Late: the other commands need no daemon, and start in a tenth of the time.
    const { runAppliance } = await import('./appliance.ts');
    const log = createLog(config.log);
    const systemd = openSystemd(environment, process.pid, log);
    await runAppliance(config, { clock, ids, log, systemd }, stopping.signal, ({ api: { host, port } }) => {
      stdout.write(`rackstart: ready, API at http://${urlHost(host)}:${String(port)} (documentation: /docs)\n`);
    });
  },
});

try {
  await program.parseAsync();
} catch (error) {
  const { text, exitCode } = describeFailure(error);
  stderr.write(text);
  process.exitCode = exitCode;
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
