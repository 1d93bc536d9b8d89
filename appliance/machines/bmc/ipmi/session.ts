import type { BmcEndpoint } from '../bmc.ts';
import { bmcError } from '../bmc-error.ts';
import { BmcSocket } from './bmc-socket.ts';
import type { Patience } from './bmc-socket.ts';
import { closeSession, setSessionPrivilege } from './commands.ts';
import { refused } from './completion-code.ts';
import { Handshake } from './handshake.ts';
import type { SessionDeps } from './handshake.ts';
import { answers, decodeResponse, encodeRequest } from './message.ts';
import type { IpmiRequest, IpmiResponse } from './message.ts';
import { payload } from './rmcp.ts';
import type { SecureChannel } from './secure-channel.ts';

/** One authenticated session as administrator with a BMC (IPMI 2.0 §13.14, §13.15). One request at a time. */
export class Session {
  readonly #socket: BmcSocket;
  readonly #channel: SecureChannel;
  readonly #patience: Patience;
  readonly #bmcId: number;
  #sequence = 0;
  #console: ((packet: Buffer) => void) | undefined;

  private constructor(socket: BmcSocket, channel: SecureChannel, patience: Patience, bmcId: number) {
    this.#socket = socket;
    this.#channel = channel;
    this.#patience = patience;
    this.#bmcId = bmcId;
  }

  /** Rejects with `bmc.unreachable`, `bmc.auth` (name, password, cipher suite), `bmc.busy` or `bmc.refused`. */
  static async open(endpoint: BmcEndpoint, deps: SessionDeps, signal: AbortSignal): Promise<Session> {
    const session = await Session.#login(endpoint, deps, signal);
    try {
      await session.#becomeAdministrator(endpoint, signal);
      return session;
    } catch (error) {
      // For the BMC it is a session like any other, and one of few, until a minute of silence has passed.
      await session.close();
      throw error;
    }
  }

  static async #login(endpoint: BmcEndpoint, deps: SessionDeps, signal: AbortSignal): Promise<Session> {
    const socket = await BmcSocket.connect(endpoint.address, endpoint.port, deps.clock);
    try {
      const handshake = new Handshake(endpoint, socket, deps, signal);
      await handshake.capabilities();
      const login = await handshake.agree();
      const channel = await handshake.prove(login);
      return new Session(socket, channel, deps.patience, login.bmcId);
    } catch (error) {
      await socket.close();
      throw error;
    }
  }

  /**
   * The BMC's answer, or undefined when there is none: it may have lost the session, or be gone. What may not be
   * repeated is sent once and waited for as long.
   */
  exchange(request: IpmiRequest, signal: AbortSignal): Promise<IpmiResponse | undefined> {
    const { each, times } = this.#patience;
    const patience = request.repeatable ? this.#patience : { each: each * times, times: 1 };
    // A repeated message keeps its own number, so that a late answer to the first counts; the packet gets a new one.
    const sequence = this.#nextSequence();
    const message = encodeRequest(request, sequence);
    const accept = (packet: Buffer) => {
      const message = this.#receive(packet);
      const response = message && decodeResponse(message);
      return response && answers(response, request, sequence) ? response : undefined;
    };
    return this.#socket.ask(() => this.#channel.seal(message), accept, patience, signal);
  }

  /** Sends what is not waited for. */
  async tell(request: IpmiRequest): Promise<void> {
    await this.#socket.send(this.#channel.seal(encodeRequest(request, this.#nextSequence())));
  }

  /** Where packets of serial-over-LAN go from now on, also those that come while a request waits for its answer. */
  hearConsole(listener: (packet: Buffer) => void): void {
    this.#console = listener;
    this.#socket.hear((packet) => void this.#receive(packet));
  }

  async sendConsole(packet: Buffer): Promise<void> {
    await this.#socket.send(this.#channel.seal(packet, payload.sol));
  }

  /** Tells the BMC, so that it can give the slot to another, and waits for nothing. */
  async close(): Promise<void> {
    await this.tell(closeSession(this.#bmcId));
    await this.#socket.close();
  }

  // Sessions start as user (§13.14): without this the power commands are refused with 0xd4.
  async #becomeAdministrator(endpoint: BmcEndpoint, signal: AbortSignal): Promise<void> {
    const request = setSessionPrivilege();
    const response = await this.exchange(request, signal);
    if (response === undefined) throw bmcError('bmc.unreachable', endpoint, 'fell silent after the login');
    if (response.completionCode !== 0) {
      const cause = refused(endpoint, request, response.completionCode);
      throw bmcError('bmc.auth', endpoint, `does not let ${endpoint.username} be administrator`, { cause });
    }
  }

  /** The IPMI message in a packet of this session. */
  #receive(packet: Buffer): Buffer | undefined {
    const opened = this.#channel.open(packet);
    if (opened?.type === payload.sol) this.#console?.(opened.message);
    return opened?.type === payload.ipmi ? opened.message : undefined;
  }

  #nextSequence(): number {
    this.#sequence = (this.#sequence + 1) & 0x3f;
    return this.#sequence;
  }
}
