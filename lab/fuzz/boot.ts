import { Turnstile } from '../../appliance/kernel/turnstile.ts';

import { StoreAgentDesk } from '../../appliance/machines/agent-desk.ts';
import { openBootCertificate } from '../../pxe/http/certificate.ts';
import { BootHttp } from '../../pxe/http/server.ts';
import { loadBootScripts } from '../../templates/boot-scripts.ts';
import { bodyInput, bootInput } from './boot-inputs.ts';
import { readBody } from './boot-readers.ts';
import { inspected, installed } from './boot-site.ts';
import type { Find, Input, Target, Way } from './campaign.ts';
import { turns } from './campaign.ts';
import { Dice } from './dice.ts';
import type { FuzzedImage } from './frozen-image.ts';
import { frozenImage } from './frozen-image.ts';
import { frozenRequests, wrongAnswer } from './frozen-inputs.ts';
import { HttpWire, inMemory, overTcp, overTls, serversOf } from './http-wire.ts';
import type { HttpAnswer } from './http-wire.ts';
import { countingLog, openSite, SERVER, siteState } from './site.ts';
import type { Site, SiteMachine } from './site.ts';

/**
 * The HTTP side of the boot plane on the real director, agents and store: connections in memory that its own servers
 * parse, and TCP and TLS. Most of what goes there directly is given to the readers of bodies alone. Whoever attacks knows
 * every secret of two machines, and none of the others', which must stay as they are. No answer may be a 5xx. One request in
 * eight is for a frozen image: what is given of one is exact to the byte, whatever was asked beside it.
 */
export async function openBoot(find: Find, seed: number): Promise<Target> {
  const site = await openSite(4);
  const [good, victim, ...open] = site.machines as [SiteMachine, SiteMachine, SiteMachine, SiteMachine];
  const own = [await inspected(site, open[0]), await installed(site, open[1])];
  const log = countingLog(find);
  const frozen = await frozenImage(site);
  const service = await serve(site, log, frozen);
  const reached: Record<string, number> = { hungUp: 0 };
  const wires = await openWires(service);
  let renewals = 0;

  // Long polls end when their time is over.
  const onWait = () => site.clock.advance(30_000);
  const renew = async () => {
    const dice = new Dice('boot', seed, 'renewal', renewals++);
    for (const machine of own) await machine.renew(dice);
  };
  const count = (what: string | number) => {
    reached[what] = (reached[what] ?? 0) + 1;
  };
  const note = (input: Input, status: number) => {
    count(status);
    if (status >= 500 || Number.isNaN(status)) find(`answered ${status}`, input);
  };

  const attackFrozen = async (input: Input) => {
    const requests = frozenRequests(input.dice, frozen.served);
    const wire = wires.frozen(input.way);
    if (input.dice.percent(5)) return wire.abandon(requests[0]!.bytes);
    const answers = await wire.askAll(requests, onWait);
    for (const [at, answer] of answers.entries()) {
      const request = requests[at]!;
      note(input, answer.status);
      count(`${request.file?.kind ?? 'elsewhere'} ${answer.status}`);
      const wrong =
        wrongAnswer(request, answer) ?? (wrongBody(answer, request.head) ? 'an error that is no error' : '');
      if (wrong !== '') find(`${wrong}: ${request.bytes.toString('latin1')}${answer.head}`, input);
    }
    if (answers.length === requests.length) return;
    if (answers.length > 0 && !/^connection: close/m.test(answers.at(-1)!.head))
      find(`hung up behind ${answers.length} of ${requests.length}`, input);
    count('hungUp');
  };

  await renew();
  let first = '';
  return {
    reached,
    async feed(input: Input) {
      if (input.index % RENEW_EVERY === 0) await renew();
      if (input.dice.percent(FROZEN)) return attackFrozen(input);
      if (input.way === 'direct' && input.dice.percent(85)) {
        reached['read'] = (reached['read'] ?? 0) + readBody(bodyInput(input.dice), (what) => find(what, input));
        return;
      }
      const { secure, bytes, whole, head } = bootInput(
        input,
        own.map(({ secrets }) => secrets),
        frozen.served[0]!.digest,
      );
      const wire = wires.of(input.way, secure);
      if (!whole) {
        const text = await wire.shout(bytes, onWait);
        for (const [, status] of text.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)) note(input, Number(status));
        if (text === '') reached['hungUp']!++;
        return;
      }
      const answer = await wire.ask(bytes, head, onWait);
      if (answer === undefined) reached['hungUp']!++;
      else note(input, answer.status);
      if (answer !== undefined && wrongBody(answer, head)) {
        find(`an error that is no error: ${answer.status} ${answer.body.slice(0, 200)}`, input);
      }
    },
    settle: () => turns(),
    async exchange() {
      let story = '';
      for (const way of ['direct', 'socket'] as const) {
        story += await boot(site, good, wires.good(way), onWait);
        for (const { path, content } of frozen.served) {
          const whole = await wires
            .good(way)
            .clear.ask(Buffer.from(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`), false, onWait);
          if (!Buffer.from(whole?.body ?? '', 'latin1').equals(content))
            throw new Error(`${path} is not as it was frozen`);
        }
      }
      if (first === '') first = story;
      if (story !== first) throw new Error(`another boot:\n${story}\nthan at first:\n${first}`);
    },
    async rest() {
      await site.clock.advance(60_000);
      wires.hangUp();
      await turns(20);
    },
    async state() {
      const { addresses, subnets, ...rest } = (await siteState(site, [victim])) as Record<string, unknown>;
      return { addresses, subnets, ...rest, waiting: site.clock.nextWake(), images: frozen.files() };
    },
    async close() {
      wires.hangUp();
      await turns(20);
      await service.stop();
      await site.close();
    },
  };
}

const RENEW_EVERY = 120;
// In a hundred.
const FROZEN = 12;

async function serve(site: Site, log: ReturnType<typeof countingLog>, frozen: FuzzedImage) {
  const { directory, ids, clock, director, store, events, tokenKey } = site;
  const certificate = await openBootCertificate({ directory, addresses: [SERVER], ids });
  const server = new BootHttp({
    listen: { address: SERVER, httpPort: 8080, httpsPort: 8443 },
    director,
    agents: new StoreAgentDesk({ store, events, tokenKey, clock }),
    certificate,
    scripts: loadBootScripts(),
    loaders: new Map([['snponly.efi', Buffer.from('loader')]]),
    ramdisk: {
      kernel: { bytes: Buffer.from('kernel'), sha256: 'k' },
      initrd: { bytes: Buffer.from('initrd'), sha256: 'i' },
      version: '0123456789abcdef',
    },
    timeline: { seen: () => undefined },
    frozen: frozen.source,
    turnstile: new Turnstile(4, 4),
    imageTurns: new Turnstile(4, 4),
    clock,
    log,
  });
  const stopping = new AbortController();
  const running = server.run(stopping.signal);
  const ports = await server.ready;
  return {
    ports,
    ca: certificate.ca,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

interface Wires {
  of(way: Way, secure: boolean): HttpWire;
  /** Of the machine that boots well, apart from all others. */
  good(way: Way): { clear: HttpWire; secure: HttpWire };
  /** For frozen images alone: nothing that came before has left half a request on it. */
  frozen(way: Way): HttpWire;
  hangUp(): void;
}

async function openWires({ ports: { http, https }, ca }: Awaited<ReturnType<typeof serve>>): Promise<Wires> {
  // An address may hold so many connections at once, and those that were hung up on take a moment to go.
  let last = 0;
  const address = () => `10.77.2.${1 + (last++ % 200)}`;
  const overNetwork = (secure: boolean, from: () => string) =>
    secure ? overTls(https, from, ca) : overTcp(http, from);
  const [clear, secure] = await serversOf([http, https], async (port) => {
    const wire = new HttpWire(overNetwork(port === https, address));
    await wire.ask(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), false, () => turns());
    wire.hangUp();
  });
  const kinds = [false, true];
  const pair = (from: () => string) => ({
    direct: kinds.map((tls) => new HttpWire(inMemory(tls ? secure! : clear!, tls))),
    socket: kinds.map((tls) => new HttpWire(overNetwork(tls, from))),
  });
  const [hostile, good, frozen] = [pair(address), pair(() => '10.77.0.10'), pair(address)];
  return {
    of: (way, tls) => hostile[way][tls ? 1 : 0]!,
    good: (way) => ({ clear: good[way][0]!, secure: good[way][1]! }),
    frozen: (way) => frozen[way][0]!,
    hangUp() {
      for (const wires of [hostile, good, frozen]) for (const wire of [...wires.direct, ...wires.socket]) wire.hangUp();
    },
  };
}

/** A whole inspection, from the script to its last report; what was answered, without what is new each time. */
async function boot(
  site: Site,
  machine: SiteMachine,
  { clear, secure }: { clear: HttpWire; secure: HttpWire },
  onWait: () => Promise<void>,
): Promise<string> {
  const { mac } = machine;
  const uuid = `12345678-9abc-4ef0-8122-${mac.replaceAll(':', '')}`;
  const { generation } = await site.order(machine);
  const decision = await site.director.decide({ mac, kind: 'ipxe', architecture: 7 });
  if (!('scriptToken' in decision)) throw new Error(`no boot: ${decision.why}`);
  const story: string[] = [];
  const say = async (wire: HttpWire, line: string, body?: string, type = 'application/x-www-form-urlencoded') => {
    const content = body === undefined ? '' : `Content-Type: ${type}\r\nContent-Length: ${body.length}\r\n`;
    const head = `${line} HTTP/1.1\r\nHost: ${SERVER}\r\n${bearer}${content}\r\n`;
    const answer = await wire.ask(Buffer.from(head + (body ?? '')), false, onWait);
    if (answer === undefined || answer.status >= 300) throw new Error(`${line}: ${answer?.status} ${answer?.body}`);
    story.push(`${line.split('?')[0]} ${answer.status} ${answer.body}`);
    return answer.body;
  };
  let bearer = '';
  const script = await say(clear, `GET /boot/${mac.replaceAll(':', '-')}?token=${decision.scriptToken.reveal()}`);
  const token = /rackstart\.token=(\S+)/.exec(script)?.[1] ?? '';
  const claim = { protocol: '1', token, nonce: '0'.repeat(32), mac, uuid };
  const order = await say(secure, 'POST /boot/v1/claim', new URLSearchParams(claim).toString());
  const secret = /^bearer=(.*)$/m.exec(order)?.[1] ?? '';
  bearer = `Authorization: Bearer ${secret}\r\n`;
  const report = (status: string) => `generation=${generation}&stage=inspect&status=${status}&uptime=10.5`;
  await say(secure, 'POST /boot/v1/report', report('started'));
  await say(secure, 'POST /boot/v1/inspection', inspection(mac, uuid), 'text/plain');
  await say(secure, 'POST /boot/v1/report', report('done'));
  const news = [decision.scriptToken.reveal(), token, secret, `generation=${generation}`];
  return news.reduce((text, one) => text.replaceAll(one, '*'), `${story.join('\n')}\n`);
}

function inspection(mac: string, uuid: string): string {
  const facts = ['cores=4', 'memory_kib=8192000', `uuid=${uuid}`, 'vendor=V', 'model=M', 'serial=S', 'firmware=uefi'];
  return [...facts, 'disk=vda|4294967296|ssd|S0|virtio', `nic=eth0|${mac}|up|1000`].join('\n');
}

/** Every error has a code and says what to do next, but for Node's own answers to no Host (400) and odd expectations (417). */
function wrongBody({ status, body }: HttpAnswer, head: boolean): boolean {
  if (status < 400 || head || (body === '' && (status === 400 || status === 417))) return false;
  try {
    const { error } = JSON.parse(body) as { error: { code: string; hint: string } };
    return error.code === 'internal' || error.hint === '';
  } catch {
    return true;
  }
}
