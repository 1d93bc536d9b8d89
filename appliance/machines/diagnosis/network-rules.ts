import type { TimelineEntry } from '../../../pxe/timeline.ts';
import { FAULT } from '../event-log.ts';
import type { BootEvidence } from './evidence.ts';
import { figureOf, matching, printed, textOf, told } from './evidence.ts';
import { answers, isBooting } from './hops.ts';
import type { Rule } from './rule.ts';
import { certain, likely } from './rule.ts';

/** From the reset to an address, and to the word what to boot. */
export const networkRules: readonly Rule[] = [
  {
    cause: 'hardware-fault',
    hop: 'firmware',
    lasting: true,
    look(evidence) {
      const faults = told(evidence, 'bmc', FAULT);
      const [first] = faults;
      if (first === undefined) return undefined;
      const sentence = `The BMC has recorded a fault of the ${textOf(first, 'part')} in this boot: ${textOf(first, 'event')}.`;
      return certain(sentence, ...faults.slice(0, 3));
    },
  },
  {
    cause: 'no-link',
    hop: 'firmware',
    look(evidence) {
      const line = matching(sincePower(evidence), NO_LINK);
      return line === undefined ? undefined : certain('The firmware finds no link at the NIC it boots from.', line);
    },
  },
  {
    cause: 'boot-order',
    hop: 'firmware',
    look(evidence) {
      const line = matching(sincePower(evidence), FROM_DISK);
      const system = told(evidence, 'dhcp').find(({ detail }) => detail['kind'] === 'os');
      if (line === undefined && system === undefined) return undefined;
      const stands = [...(line === undefined ? [] : [line]), ...(system === undefined ? [] : [system])];
      return certain('The machine has booted what is on its disk, and not asked the network.', ...stands);
    },
  },
  {
    cause: 'post-halted',
    hop: 'firmware',
    look(evidence) {
      const line = matching(sincePower(evidence), HALTED);
      return line === undefined ? undefined : certain('The firmware has stopped in its self-test.', line);
    },
  },
  {
    cause: 'relay-refused',
    hop: 'dhcp',
    look(evidence) {
      const refused = told(evidence, 'dhcp', 'relay-refused');
      const [first] = refused;
      if (first === undefined) return undefined;
      const relay = textOf(first, 'relay');
      return certain(
        `Its DHCP requests come by the relay ${relay}, which we do not believe: ${textOf(first, 'reason')}.`,
        ...refused.slice(0, 2),
      );
    },
  },
  {
    cause: 'duplicate-mac',
    hop: 'dhcp',
    lasting: true,
    look(evidence) {
      const asked = told(evidence, 'dhcp', 'discover', 'request').filter(({ detail }) => detail['uuid'] !== undefined);
      const others = asked.filter(
        (entry) => !isSameUuid(textOf(entry, 'uuid'), textOf(asked[0] as TimelineEntry, 'uuid')),
      );
      const [first] = asked;
      const [other] = others;
      if (first === undefined || other === undefined) return undefined;
      const sentence = `Two machines ask with the same MAC: one with the UUID ${textOf(first, 'uuid')}, one with ${textOf(other, 'uuid')}.`;
      return certain(sentence, first, other);
    },
  },
  {
    cause: 'machine-swapped',
    hop: 'dhcp',
    look(evidence) {
      const ignored = told(evidence, 'dhcp', 'offer', 'ack').find((entry) => /SMBIOS UUID/.test(textOf(entry, 'why')));
      const asked = told(evidence, 'dhcp', 'discover').find(({ detail }) => detail['uuid'] !== undefined);
      if (ignored === undefined || asked === undefined) return undefined;
      const known = evidence.machine.uuid ?? 'another one';
      const sentence = `The machine that asks has the UUID ${textOf(asked, 'uuid')}; the one that was inspected has ${known}.`;
      return certain(sentence, asked, ignored);
    },
  },
  {
    cause: 'wrong-switch-port',
    hop: 'dhcp',
    look(evidence) {
      const ignored = told(evidence, 'dhcp', 'offer', 'ack').find((entry) => /switch port/.test(textOf(entry, 'why')));
      return ignored && certain(`It hangs on another switch port: ${textOf(ignored, 'why')}.`, ignored);
    },
  },
  {
    cause: 'foreign-dhcp-server',
    hop: 'dhcp',
    look(evidence) {
      const chosen = told(evidence, 'dhcp', 'foreign-chosen').at(-1);
      const heard = told(evidence, 'dhcp', 'foreign-offer', 'foreign-ack').at(-1);
      if (chosen === undefined && heard === undefined) return undefined;
      const server = textOf((chosen ?? heard) as TimelineEntry, 'server');
      const mac = heard === undefined ? '' : ` (MAC ${textOf(heard, 'serverMac')})`;
      const offered = told(evidence, 'dhcp', 'offer').length > 0 ? 'DISCOVER seen, OFFER sent' : 'DISCOVER seen';
      const sentence =
        chosen === undefined
          ? `${offered}, no REQUEST to us; ${server}${mac} offered too: another DHCP server is on this segment.`
          : `${offered}, and the machine took what ${server}${mac} offered: another DHCP server is on this segment.`;
      const stands = [...(heard === undefined ? [] : [heard]), ...(chosen === undefined ? [] : [chosen])];
      return chosen === undefined ? likely(sentence, ...stands) : certain(sentence, ...stands);
    },
  },
  {
    cause: 'loader-missing',
    hop: 'dhcp',
    look(evidence) {
      const asked = told(evidence, 'dhcp', 'discover', 'request').findLast(({ detail }) => isBooting(detail));
      const answer = told(evidence, 'dhcp', 'offer', 'ack').findLast(({ detail }) => ordersBoot(detail['decision']));
      if (asked === undefined || answer === undefined || answer.detail['boot'] !== undefined) return undefined;
      const architecture = String(figureOf(asked, 'architecture'));
      const sentence = `The machine may boot, and there is no loader for its architecture (${architecture}, RFC 4578).`;
      return certain(sentence, asked, answer);
    },
  },
  {
    cause: 'address-in-use',
    hop: 'dhcp',
    lasting: true,
    look(evidence) {
      const declined = told(evidence, 'dhcp', 'decline').at(-1);
      if (declined === undefined) return undefined;
      const address = textOf(declined, 'requested') || (evidence.machine.address ?? 'its address');
      return certain(`The machine gave ${address} back: somebody else answers there.`, declined);
    },
  },
  {
    cause: 'address-refused',
    hop: 'dhcp',
    look(evidence) {
      const refusal = told(evidence, 'dhcp', 'nak').at(-1);
      return (
        refusal && likely(`The machine insists on ${textOf(refusal, 'address')}: ${textOf(refusal, 'why')}.`, refusal)
      );
    },
  },
  {
    cause: 'offers-not-heard',
    hop: 'dhcp',
    look(evidence) {
      const discovers = told(evidence, 'dhcp', 'discover').filter(({ detail }) => isBooting(detail));
      const offers = told(evidence, 'dhcp', 'offer').filter(({ detail }) => detail['boot'] !== undefined);
      const requests = told(evidence, 'dhcp', 'request').filter(({ detail }) => isBooting(detail));
      if (discovers.length < 2 || offers.length < 2 || requests.length > 0 || answers(evidence).length > 0)
        return undefined;
      const sentence = `${String(offers.length)} times DISCOVER seen and OFFER sent, and never a REQUEST: our answers do not reach the machine.`;
      return likely(sentence, ...discovers.slice(-1), ...offers.slice(-1));
    },
  },
];

// Intel's and Broadcom's ROMs, EDK2, iPXE.
const NO_LINK =
  /PXE-E61|media test failure|check cable|no media detected|waiting for link-up.*\bdown\b|link status: ?down|\bno link\b|cable (is )?(not connected|unplugged)/i;

// SeaBIOS and other BIOSes, GRUB, systemd-boot, Windows, any Linux at its console.
const FROM_DISK =
  /booting from (local )?(hard|disk|0x80)|welcome to grub|^grub loading|\bloading linux\b|windows boot manager|starting windows|^\S+ login: ?$|boot0080|\bOS loader\b/i;

const HALTED =
  /\bpost error\b|memory (initialization|training|test) (error|failed|failure)|uncorrectable (memory|ecc)|dimm\b.{0,40}\b(fail|error|disabled)|press (the )?<?f1\b|f1 to (continue|resume)|system halted|cmos (checksum|battery)/i;

function sincePower(evidence: BootEvidence): string {
  return printed(evidence, evidence.poweredAt);
}

function ordersBoot(decision: unknown): boolean {
  return decision === 'install' || decision === 'inspect' || decision === 'wipe' || decision === 'wait';
}

/** Firmware and iPXE may write the first three fields in either byte order (SMBIOS 3.7 §7.2.1). */
function isSameUuid(one: string, other: string): boolean {
  return one === other || one === swapped(other);
}

function swapped(uuid: string): string {
  const [first = '', second = '', third = '', ...rest] = uuid.split('-');
  const reversed = [first, second, third].map((field) => field.match(/../g)?.reverse().join('') ?? '');
  return [...reversed, ...rest].join('-');
}
