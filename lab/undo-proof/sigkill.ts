import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Millis } from '../../appliance/kernel/clock.ts';
import { onAbruptEnd } from '../process/abrupt-end.ts';
import type { FromLife, Life } from './killed-process.ts';
import { RackHost } from './remote-rack.ts';
import { BEGINNING } from './template.ts';
import type { Template } from './template.ts';
import type { SagaCase, Scenario, Verdict } from './trial.ts';

/** Machines of the template's site. */
const MACHINES = 1;

/**
 * Processes that kill themselves by SIGKILL, one after another on one database and one rack, until one sees the end. One that has
 * seen an end begins the next trial: a process is started for each that is killed, and while that one is still busy.
 */
export class Killer {
  readonly #template: Template;
  #idle: ChildProcess | undefined;

  constructor(template: Template) {
    this.#template = template;
  }

  async prove({ saga, provider }: SagaCase, { name, sigkillAt = [], thenCancel = false }: Scenario): Promise<Verdict> {
    const path = this.#template.copy();
    const host = new RackHost(MACHINES);
    let now = BEGINNING;
    try {
      for (let life = 0; ; life += 1) {
        const child = this.#idle ?? this.#start();
        const killAt = sigkillAt[life];
        const isLast = killAt === undefined;
        this.#idle = isLast ? undefined : this.#start();
        const told: Life = {
          ...{ saga, provider, path, scenario: name, life, now, killAt },
          thenCancel: thenCancel && isLast,
        };
        const verdict = await lead(child, told, host, (at) => (now = at));
        // Somebody has to see that it is gone, and start the next.
        now += SECOND;
        if (verdict === undefined) continue;
        this.#idle?.kill('SIGKILL');
        this.#idle = child;
        return { ...verdict, lives: life + 1, met: life === sigkillAt.length };
      }
    } finally {
      this.#template.discard(path);
    }
  }

  close(): void {
    this.#idle?.kill('SIGKILL');
    this.#idle = undefined;
  }

  #start(): ChildProcess {
    const child = fork(join(import.meta.dirname, 'killed-process.ts'), {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      serialization: 'advanced',
      env: { ...process.env, NODE_COMPILE_CACHE: this.#template.compiled },
    });
    child.once('exit', onAbruptEnd(() => child.kill('SIGKILL'))); // prettier-ignore
    return child;
  }
}

/** Undefined when it was killed on its way. */
async function lead(
  child: ChildProcess,
  life: Life,
  host: RackHost,
  tick: (now: Millis) => void,
): Promise<Verdict | undefined> {
  const died = once(child, 'exit').then(() => undefined);
  const verdict = Promise.withResolvers<Verdict>();
  const serve = host.serve(child, died);
  const hear = (message: FromLife) => {
    if ('now' in message) tick(message.now);
    else if ('verdict' in message) verdict.resolve(message.verdict);
    else serve(message);
  };
  child.on('message', hear);
  child.send({ life });
  const seen = await Promise.race([verdict.promise, died]);
  child.off('message', hear);
  if (seen === undefined && child.signalCode !== 'SIGKILL') {
    throw new Error(`a process ended by itself: ${String(child.exitCode)}`);
  }
  return seen;
}
