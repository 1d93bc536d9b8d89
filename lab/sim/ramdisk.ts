import type { Clock } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import { ask, demand } from './ask.ts';
import type { Question } from './ask.ts';
import type { RamdiskBoot } from './boot-script.ts';
import type { MachineSpec } from './machine-spec.ts';

export interface RamdiskDeps {
  readonly clock: Clock;
  readonly ids: Ids;
  /** The machine's own address. */
  readonly address: string;
  /** The appliance's CA, out of the initrd. */
  readonly ca: string;
  readonly say: (line: string) => void;
}

/**
 * The machine's side of the boot protocol, from the claim until the appliance ends this boot; says how it did. It inspects
 * and wipes; an install is claimed and goes no further.
 */
export async function runRamdisk(
  { url, claimToken }: RamdiskBoot,
  machine: MachineSpec,
  { clock, ids, address, ca, say }: RamdiskDeps,
  signal: AbortSignal,
): Promise<string> {
  const began = clock.now();
  const from = { from: address, ca, signal };
  const claim = { protocol: '1', token: claimToken, nonce: ids.random(16).toString('hex') };
  const identity = { mac: machine.mac.replaceAll(':', '-'), uuid: machine.uuid };
  const granted = await demand(`${url}/boot/v1/claim`, {
    ...from,
    method: 'POST',
    body: new URLSearchParams({ ...claim, ...identity }),
  });
  const { bearer = '', verb = '', generation = '' } = lines(granted.toString());
  const asked: Question = { ...from, bearer };
  say(`claimed: ${verb}, generation ${generation}`);

  const report = (stage: string, status: 'started' | 'done', facts = {}) => {
    const uptime = ((clock.now() - began) / SECOND).toFixed(2);
    const body = new URLSearchParams({ generation, stage, status, uptime, ...facts });
    return demand(`${url}/boot/v1/report`, { ...asked, method: 'POST', body });
  };
  if (verb === 'inspect') {
    await report('inspect', 'started');
    await demand(`${url}/boot/v1/inspection`, { ...asked, method: 'POST', body: inspection(machine) });
    await report('inspect', 'done');
  } else if (verb === 'wipe') {
    await report('wipe', 'started');
    await report('wipe', 'done', { method: 'simulated', disks: '1' });
  }

  // 204: nothing yet, ask again at once.
  const next = () => ask(`${url}/boot/v1/next?generation=${generation}`, asked);
  let answer = await next();
  while (answer.status === 204) answer = await next();
  return `the appliance ended this boot: status ${answer.status}`;
}

function lines(text: string): Record<string, string> {
  const pairs = text.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]);
  return Object.fromEntries(pairs) as Record<string, string>;
}

function inspection({ name, mac, uuid, firmware, cores, memoryMib, diskGib }: MachineSpec): string {
  return [
    `cores=${cores}`,
    `memory_kib=${memoryMib * 1024}`,
    `uuid=${uuid}`,
    'vendor=Rackstart',
    'model=Simulated',
    `serial=${name}`,
    `firmware=${firmware}`,
    `disk=sda|${diskGib * 1024 ** 3}|ssd|${name}-0|Simulated`,
    `nic=eth0|${mac}|up|10000`,
    '',
  ].join('\n');
}
