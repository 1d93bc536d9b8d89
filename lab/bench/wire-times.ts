import type { Distribution } from '../sim/histogram.ts';
import { Histogram } from '../sim/histogram.ts';
import { run } from '../process/run.ts';

/** How long the appliance took, from the first packet of a question to the first of its answer, as the kernel stamped them on the appliance's own interface. */
export interface WireTimes {
  readonly dhcp: Distribution;
  readonly script: Distribution;
}

/** Of a capture that has DHCP and the boot plane's HTTP, whole packets. Needs tshark. */
export async function wireTimes(pcapFile: string): Promise<WireTimes> {
  return { dhcp: await dhcpTimes(pcapFile), script: await scriptTimes(pcapFile) };
}

/** Of a capture that has DHCP, whole packets. Needs tshark. */
export async function dhcpTimes(pcapFile: string): Promise<Distribution> {
  const times = new Histogram();
  const asked = new Map<string, number>();
  const fields = ['frame.time_epoch', 'dhcp.hw.mac_addr', 'dhcp.id', 'dhcp.option.dhcp'];
  for (const [at, mac, id, type = ''] of await packets(pcapFile, 'dhcp', fields)) {
    const question = `${String(mac)} ${String(id)} ${QUESTIONS.get(type) ?? type}`;
    const since = asked.get(question);
    // One that is sent again waits since it was sent first.
    if (type in ANSWERS) asked.set(question, since ?? Number(at));
    if (!QUESTIONS.has(type) || since === undefined) continue;
    times.record((Number(at) - since) * 1_000);
    asked.delete(question);
  }
  return times.distribution();
}

// RFC 2132 §9.6: what answers a DISCOVER is an OFFER, what answers a REQUEST an ACK.
const ANSWERS: Readonly<Record<string, string>> = { 1: '2', 3: '5' };
const QUESTIONS = new Map(Object.entries(ANSWERS).map(([question, answer]) => [answer, question]));

async function scriptTimes(pcapFile: string): Promise<Distribution> {
  const times = new Histogram();
  const filter = 'http.response and http.response_for.uri contains "/boot/"';
  for (const [seconds] of await packets(pcapFile, filter, ['http.time'])) times.record(Number(seconds) * 1_000);
  return times.distribution();
}

async function packets(pcapFile: string, filter: string, fields: readonly string[]): Promise<string[][]> {
  const wanted = fields.flatMap((field) => ['-e', field]);
  const printed = await run(['tshark', '-r', pcapFile, '-Y', filter, '-T', 'fields', ...wanted]);
  return printed
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split('\t'));
}
