import type { Clock } from '../../../kernel/clock.ts';
import type { RackstartError } from '../../../kernel/errors.ts';
import type { Ids } from '../../../kernel/ids.ts';
import type { BmcEndpoint } from '../bmc.ts';
import { bmcError } from '../bmc-error.ts';
import type { BmcErrorCode } from '../bmc-error.ts';
import type { BmcSocket, Patience } from './bmc-socket.ts';
import { cipherSuite } from './cipher-suite.ts';
import { channelAuthCapabilities } from './commands.ts';
import { refused } from './completion-code.ts';
import { answers, decodeResponse, encodeRequest } from './message.ts';
import * as rakp from './rakp.ts';
import * as rmcp from './rmcp.ts';
import { SecureChannel } from './secure-channel.ts';

export interface SessionDeps {
  clock: Clock;
  ids: Ids;
  patience: Patience;
}

/** The messages of one login, in the order of its methods (IPMI 2.0 §13.14, §13.15). */
export class Handshake {
  readonly #endpoint: BmcEndpoint;
  readonly #socket: BmcSocket;
  readonly #deps: SessionDeps;
  readonly #signal: AbortSignal;
  #tag = 0;

  constructor(endpoint: BmcEndpoint, socket: BmcSocket, deps: SessionDeps, signal: AbortSignal) {
    this.#endpoint = endpoint;
    this.#socket = socket;
    this.#deps = deps;
    this.#signal = signal;
  }

  /** What every client asks first (§22.13): takes no session slot from a BMC that has few. */
  async capabilities(): Promise<void> {
    const request = channelAuthCapabilities();
    const accept = (packet: Buffer) => {
      const message = rmcp.decodeSessionless(packet);
      const response = message && decodeResponse(message);
      return response && answers(response, request.request, 0) ? response : undefined;
    };
    const make = () => rmcp.encodeSessionless(encodeRequest(request.request, 0));
    const response = await this.#socket.ask(make, accept, this.#deps.patience, this.#signal);
    if (response === undefined) throw await this.#silent();
    if (response.completionCode !== 0) throw refused(this.#endpoint, request.request, response.completionCode);
    const { rmcpPlus, bmcKeySet } = request.decode(response.data);
    if (!rmcpPlus) throw this.#error('bmc.auth', 'does not speak IPMI 2.0');
    if (bmcKeySet) throw this.#error('bmc.auth', 'wants a key of its own (K_G), which is not supported; clear it');
  }

  /** Algorithms, and one id per side. */
  async agree(): Promise<rakp.Login> {
    const open = { suite: cipherSuite(this.#endpoint.cipherSuite), consoleId: this.#newId() };
    const tag = this.#nextTag();
    const bmcId = await this.#ask(
      rmcp.payload.openRequest,
      rakp.encodeOpenRequest(tag, open),
      rmcp.payload.openResponse,
      (message) => rakp.decodeOpenResponse(message, tag, open),
    );
    return {
      ...open,
      bmcId,
      consoleRandom: this.#deps.ids.random(16),
      username: this.#credential('user name', this.#endpoint.username, 16),
      password: this.#credential('password', this.#endpoint.password.reveal(), 20),
    };
  }

  async prove(login: rakp.Login): Promise<SecureChannel> {
    const first = this.#nextTag();
    const bmc = await this.#ask(rmcp.payload.rakp1, rakp.encodeRakp1(first, login), rmcp.payload.rakp2, (message) =>
      rakp.decodeRakp2(message, first, login),
    );
    const second = this.#nextTag();
    const keys = await this.#ask(
      rmcp.payload.rakp3,
      rakp.encodeRakp3(second, login, bmc),
      rmcp.payload.rakp4,
      (message) => rakp.decodeRakp4(message, second, login, bmc),
    );
    return new SecureChannel(login.suite, keys, login.consoleId, login.bmcId, this.#deps.ids);
  }

  async #ask<T>(
    type: number,
    payload: Buffer,
    answerType: number,
    decode: (message: Buffer) => rakp.Answer<T> | undefined,
  ): Promise<T> {
    const packet = rmcp.encodeSessionPacket({ payloadType: type, secured: false, sessionId: 0, sequence: 0, payload });
    const accept = (bytes: Buffer) => {
      const answer = rmcp.decodeSessionPacket(bytes);
      return answer && !answer.secured && answer.payloadType === answerType ? decode(answer.payload) : undefined;
    };
    const answer = await this.#socket.ask(() => packet, accept, this.#deps.patience, this.#signal);
    if (answer === undefined) throw bmcError('bmc.unreachable', this.#endpoint, 'fell silent during the login');
    if ('value' in answer) return answer.value;
    throw this.#refused(answer.refusal);
  }

  #refused(status: number): RackstartError {
    const { username, cipherSuite } = this.#endpoint;
    switch (rakp.meaning(status)) {
      case 'login':
        return this.#error('bmc.auth', `refuses the user ${username} with this password`, status);
      case 'cipher-suite':
        return this.#error('bmc.auth', `does not offer cipher suite ${cipherSuite}`, status);
      case 'no-room':
        return this.#error('bmc.busy', 'has no session left', status);
      case 'other':
        return this.#error('bmc.refused', 'broke the login off', status);
    }
  }

  #error(code: BmcErrorCode, what: string, rakpStatus?: number): RackstartError {
    return bmcError(code, this.#endpoint, what, rakpStatus === undefined ? {} : { rakpStatus });
  }

  // A BMC that answers pings has its IPMI switched off: another repair than a cable.
  async #silent(): Promise<RackstartError> {
    const tag = this.#nextTag();
    const accept = (packet: Buffer) => (rmcp.isPong(packet, tag) ? true : undefined);
    const patience = { ...this.#deps.patience, times: 1 };
    const pong = await this.#socket.ask(() => rmcp.encodePing(tag), accept, patience, this.#signal);
    const what = pong === true ? 'is there, but its IPMI over LAN does not answer' : 'does not answer';
    return bmcError('bmc.unreachable', this.#endpoint, what, { answersPing: pong === true });
  }

  // §22.30: names have at most 16 bytes, passwords 20.
  #credential(what: string, text: string, limit: number): Buffer {
    const bytes = Buffer.from(text, 'utf8');
    if (bytes.length > limit) throw this.#error('bmc.auth', `cannot have this ${what}: at most ${limit} bytes`);
    return bytes;
  }

  #newId(): number {
    return this.#deps.ids.random(4).readUInt32LE() || 1;
  }

  // Tags match answers to questions of one login; 0 is left to those who never set one.
  #nextTag(): number {
    this.#tag = (this.#tag + 1) & 0xff;
    return this.#tag;
  }
}
