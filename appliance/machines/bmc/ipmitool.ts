import { spawn } from 'node:child_process';

import { RackstartError } from '../../kernel/errors.ts';
import type { BmcEndpoint } from './bmc.ts';
import { bmcError } from './bmc-error.ts';
import type { BmcErrorCode } from './bmc-error.ts';
import type { CommandQueue } from './command-queue.ts';
import { refused } from './ipmi/completion-code.ts';
import type { IpmiRequest } from './ipmi/message.ts';
import { recorded } from './transport.ts';
import type { IpmiTransport, Recorder } from './transport.ts';

export interface IpmitoolDeps extends Recorder {
  queue: CommandQueue;
  /** Whole seconds to wait for an answer, and how often to ask. */
  patience: { eachSeconds: number; times: number };
}

/**
 * Each request by a process of its own, `ipmitool raw`: for the BMC that our own client does not get along with. Slow
 * (a login per command), and the same commands and checks.
 */
export class IpmitoolTransport implements IpmiTransport {
  readonly #endpoint: BmcEndpoint;
  readonly #deps: IpmitoolDeps;
  readonly #closing = new AbortController();

  constructor(endpoint: BmcEndpoint, deps: IpmitoolDeps) {
    this.#endpoint = endpoint;
    this.#deps = deps;
  }

  async request(request: IpmiRequest, signal: AbortSignal): Promise<Buffer> {
    const untilClosed = AbortSignal.any([signal, this.#closing.signal]);
    return this.#deps.queue.run(
      () => recorded(this.#deps, this.#endpoint, request, () => this.#run(request, untilClosed)),
      untilClosed,
    );
  }

  async close(): Promise<void> {
    this.#closing.abort(this.#error('bmc.unreachable', 'was closed here'));
  }

  async #run(request: IpmiRequest, signal: AbortSignal): Promise<Buffer> {
    const { code, stdout, stderr } = await run('ipmitool', this.#arguments(request), this.#environment(), signal);
    if (code === 0) return Buffer.from(stdout.replace(/\s+/g, ''), 'hex');
    throw this.#failure(request, stderr);
  }

  #arguments({ netFn, cmd, data, repeatable }: IpmiRequest): string[] {
    const { address, port, username, cipherSuite } = this.#endpoint;
    const { eachSeconds, times } = this.#deps.patience;
    // -v names the stage that failed, -E takes the password from the environment, where argv would show it to all.
    const login = ['-I', 'lanplus', '-H', address, '-p', String(port), '-U', username, '-E', '-C', String(cipherSuite)];
    const patience = repeatable ? [eachSeconds, times] : [eachSeconds * times, 1];
    const bytes = [netFn, cmd, ...data].map((byte) => `0x${byte.toString(16)}`);
    return [
      ...login,
      '-L',
      'ADMINISTRATOR',
      '-N',
      String(patience[0]),
      '-R',
      String(patience[1]),
      '-v',
      'raw',
      ...bytes,
    ];
  }

  #environment(): NodeJS.ProcessEnv {
    return { PATH: process.env['PATH'], IPMITOOL_PASSWORD: this.#endpoint.password.reveal() };
  }

  // ipmitool has one exit code for everything; these lines come from its lanplus.c and ipmi_raw.c (1.8.19).
  #failure(request: IpmiRequest, stderr: string): RackstartError {
    const completionCode = /Unable to send RAW command .*rsp=0x([0-9a-f]{1,2})\)/.exec(stderr)?.[1];
    if (completionCode !== undefined) return refused(this.#endpoint, request, Number.parseInt(completionCode, 16));
    if (/RAKP 2 HMAC is invalid|unauthorized name|invalid role|unauthorized role|invalid name/.test(stderr)) {
      return this.#error('bmc.auth', `refuses the user ${this.#endpoint.username} with this password`);
    }
    if (
      /invalid (authentication|integrity|confidentiality) algorithm|no matching|no cipher suite match/i.test(stderr)
    ) {
      return this.#error('bmc.auth', `does not offer cipher suite ${this.#endpoint.cipherSuite}`);
    }
    if (/insufficient resources/.test(stderr)) return this.#error('bmc.busy', 'has no session left');
    return this.#error('bmc.unreachable', `did not answer ${request.name}`);
  }

  #error(code: BmcErrorCode, what: string): RackstartError {
    return bmcError(code, this.#endpoint, what);
  }
}

interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

function run(program: string, args: string[], env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const said = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => {
        if (said[stream].length < OUTPUT_LIMIT) said[stream] += text;
      });
    }
    const stop = () => child.kill('SIGKILL');
    signal.addEventListener('abort', stop, { once: true });
    child.once('error', (cause) =>
      reject(new RackstartError('host.missing', `${program} cannot be started: install it`, { cause })),
    );
    child.once('close', (code) => {
      signal.removeEventListener('abort', stop);
      if (signal.aborted) reject(signal.reason as Error);
      else resolve({ code, ...said });
    });
  });
}

// An IPMI answer has at most 255 bytes; what is longer is not one.
const OUTPUT_LIMIT = 16_384;
