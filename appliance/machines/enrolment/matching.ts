import type { Inspection } from '../../../pxe/boot-plan.ts';
import { parseCidr } from '../../network/address-range.ts';
import type { AcceptRuleRow, DiscoveredMachineRow, ExpectedMachineRow } from '../../store/schema.ts';
import { knownUuid } from '../inspection.ts';

/** A machine that has told of itself, and nobody has enrolled. */
export interface Stranger {
  readonly row: Pick<DiscoveredMachineRow, 'id' | 'mac' | 'subnet_id' | 'told_at'>;
  /** The region of that subnet. */
  readonly regionId: string;
  readonly facts: Inspection;
}

/** What it is held against. */
export interface KnownWorld {
  /** Enrolled ones. */
  readonly machines: readonly {
    readonly id: string;
    readonly name: string;
    readonly serial: string | null;
    readonly smbios_uuid: string | null;
    readonly macs: readonly string[];
  }[];
  /** All that wait, itself among them. */
  readonly strangers: readonly Stranger[];
  readonly expected: readonly (ExpectedMachineRow & { readonly region_id: string })[];
  readonly rules: readonly (AcceptRuleRow & { readonly region_id: string })[];
}

export type Match =
  | { readonly kind: 'expected'; readonly row: ExpectedMachineRow }
  | { readonly kind: 'rule'; readonly rule: AcceptRuleRow; readonly bmcAddress: string }
  | { readonly kind: 'none'; readonly why: string }
  /** It says that it is a machine which is enrolled: whichever of them lies, nothing is taken over. */
  | { readonly kind: 'taken'; readonly machineId: string; readonly why: string };

/**
 * Which machine a stranger is. Everything it tells may be forged, so what is enrolled is never given away for it; and where two
 * answers are possible, there is none.
 */
export function matchOf(stranger: Stranger, world: KnownWorld): Match {
  const taken = takenBy(stranger, world.machines);
  if (taken !== undefined) return taken;
  const { serial } = stranger.facts;
  const twin = isTelling(serial)
    ? world.strangers.find((other) => other.row.id !== stranger.row.id && other.facts.serial === serial)
    : undefined;
  if (twin !== undefined) return none(`Another machine that waits, ${twin.row.mac}, has the same serial number.`);
  const row = world.expected.find((each) => isTelling(serial) && each.serial === serial);
  if (row !== undefined) return byManifest(stranger, row);
  return byRule(stranger, world.rules);
}

/** The enrolled machine for which this one could be taken. */
export function takenBy(
  { row: { mac }, facts }: Stranger,
  machines: KnownWorld['machines'],
): (Match & { kind: 'taken' }) | undefined {
  const macs = [mac, ...facts.nics.map((nic) => nic.mac)];
  const uuid = knownUuid(facts.uuid);
  for (const machine of machines) {
    const found = (what: string): Match & { kind: 'taken' } => {
      const why = `It has the ${what} of machine ${machine.name}.`;
      return { kind: 'taken', machineId: machine.id, why };
    };
    const shared = machine.macs.find((each) => macs.includes(each));
    if (shared !== undefined) return found(`MAC ${shared}`);
    if (uuid !== null && uuid === machine.smbios_uuid) return found('SMBIOS UUID');
    if (isTelling(facts.serial) && facts.serial === machine.serial) return found('serial number');
  }
  return undefined;
}

/**
 * Whether a serial number tells anything. Boards leave the factory with these in their place; a machine with such a one is matched by
 * no manifest.
 */
export function isTelling(serial: string): boolean {
  return serial.length > 1 && !PLACEHOLDERS.test(serial);
}

// As Linux's own list of DMI placeholders, and its users, have them.
const PLACEHOLDERS =
  /^(0+|x+|\.+|0?123456789.*|none|n\/?a|unknown|default( string)?|system serial number|to be filled by o\.?e\.?m\.?|not (specified|applicable|available))$/i;

function byManifest(stranger: Stranger, row: KnownWorld['expected'][number]): Match {
  const { facts, regionId } = stranger;
  const says = (what: string, expected: string, told: string) =>
    none(`The manifest has ${row.serial} with ${what} ${expected}, and here it is ${told}.`);
  if (row.machine_id !== null) return none(`The manifest's ${row.serial} is machine ${row.machine_id}.`);
  if (row.region_id !== regionId) return none(`The manifest has ${row.serial} in another region than it booted in.`);
  if (facts.bmcAddress !== undefined && facts.bmcAddress !== row.bmc_address) {
    return says('the BMC', row.bmc_address, facts.bmcAddress);
  }
  const port = switchPortOf(stranger);
  if (row.switch_port !== null && port !== undefined && port !== row.switch_port) {
    return says('the switch port', row.switch_port, port);
  }
  return { kind: 'expected', row };
}

function byRule(stranger: Stranger, rules: KnownWorld['rules']): Match {
  const { facts } = stranger;
  const fitting = rules.filter((rule) => fits(stranger, rule));
  const [rule] = fitting;
  if (rule === undefined) {
    return none(
      isTelling(facts.serial) ? 'Neither manifest nor rule knows it.' : 'It has no serial number to tell it by.',
    );
  }
  const unheard = fitting.find(({ switch_port }) => switch_port !== null);
  if (unheard !== undefined && switchPortOf(stranger) === undefined) {
    return none(`Rule ${unheard.name} may take it, and no switch has told where it is plugged in.`);
  }
  if (fitting.length > 1) return none(`Several rules take it: ${fitting.map(({ name }) => name).join(', ')}.`);
  if (!isTelling(facts.serial)) return none(`Rule ${rule.name} takes it, and it has no serial number to be named by.`);
  const { bmcAddress } = facts;
  if (bmcAddress === undefined) return none(`Rule ${rule.name} takes it, and its BMC's address is not known.`);
  if (!parseCidr(rule.bmc_network).contains(bmcAddress)) {
    return none(`Rule ${rule.name} takes it, and its BMC ${bmcAddress} is not in ${rule.bmc_network}.`);
  }
  return { kind: 'rule', rule, bmcAddress };
}

/**
 * Whether all holds that the rule names. Of a switch that has not spoken, anything may hold: which rule takes a machine must not hang
 * on whether its switch was heard by then.
 */
function fits(stranger: Stranger, rule: KnownWorld['rules'][number]): boolean {
  const { row, facts, regionId } = stranger;
  const port = switchPortOf(stranger);
  return (
    rule.region_id === regionId &&
    (rule.subnet_id === null || rule.subnet_id === row.subnet_id) &&
    (rule.mac_prefix === null || row.mac.startsWith(rule.mac_prefix)) &&
    isToldLike(facts.vendor, rule.vendor) &&
    isToldLike(facts.model, rule.model) &&
    isToldLike(facts.firmwareVendor, rule.firmware_vendor) &&
    isToldLike(facts.firmwareVersion, rule.firmware_version) &&
    (port === undefined || isToldLike(port, rule.switch_port))
  );
}

/** What a switch told where the NIC is plugged in that it booted from. */
function switchPortOf({ row, facts }: Stranger): string | undefined {
  return facts.nics.find(({ mac }) => mac === row.mac)?.neighbour;
}

function isToldLike(text: string | undefined, pattern: string | null): boolean {
  return pattern === null || (text !== undefined && isLike(text, pattern));
}

/** Whether a text is of a pattern in which `*` is any text; letters in either case. In time that is linear in both, whatever they hold. */
export function isLike(text: string, pattern: string): boolean {
  const [first = '', ...rest] = pattern.toLowerCase().split('*');
  const all = text.toLowerCase();
  if (!all.startsWith(first)) return false;
  const last = rest.pop();
  if (last === undefined) return all === first;
  let at = first.length;
  for (const part of rest) {
    const found = all.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return all.length - last.length >= at && all.endsWith(last);
}

function none(why: string): Match {
  return { kind: 'none', why };
}
