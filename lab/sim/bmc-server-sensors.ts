/** Completion code and data of an answer. */
export type Answer = number[];

/** A few threshold sensors of a server, and the repository that describes them (IPMI 2.0 §33, §35, §43.1). */
export class SensorRepository {
  readonly #machine: Powered;
  #reservation = 0;

  constructor(machine: Powered) {
    this.#machine = machine;
  }

  /** Network functions "sensor/event" (0x04) and "storage" (0x0a); undefined for a command that is not of sensors. */
  run(netFn: number, command: number, data: Buffer): Answer | undefined {
    switch (`${netFn} ${command}`) {
      case '4 45':
        return this.#reading(data);
      case '4 39':
        return thresholdsOf(data);
      case '10 32':
        return [OK, SDR_VERSION, ...le16(sensors.length), ...le16(0), ...Array<number>(8).fill(0), RESERVABLE];
      case '10 34':
        return [OK, ...le16((this.#reservation = (this.#reservation + 1) & 0xffff))];
      case '10 35':
        return this.#record(data);
      default:
        return undefined;
    }
  }

  // §35.14: a machine that is off has a temperature, and fans and supplies that are not read.
  #reading(data: Buffer): Answer {
    const sensor = sensors.find(({ number }) => number === data[0]);
    if (sensor === undefined) return [NOT_PRESENT];
    const on = this.#machine.power();
    if (!on && sensor.off === undefined) return [OK, 0, SCANNING | UNAVAILABLE, 0];
    const raw = (on ? sensor.on : sensor.off) ?? 0;
    return [OK, raw, SCANNING, crossed(sensor, raw)];
  }

  // §33.12: in parts, under a reservation that nobody has taken since.
  #record(data: Buffer): Answer {
    if (data.length < 6) return [WRONG_LENGTH];
    const [reservation, id, offset] = [data.readUInt16LE(0), data.readUInt16LE(2), data.readUInt8(4)];
    if (offset > 0 && reservation !== this.#reservation) return [RESERVATION_CANCELLED];
    const index = id === LAST ? sensors.length - 1 : id;
    const [sensor, next] = [sensors[index], index + 1 < sensors.length ? index + 1 : LAST];
    if (sensor === undefined) return [NOT_PRESENT];
    const wanted = data.readUInt8(5);
    if (wanted === WHOLE_RECORD || wanted > MOST_AT_ONCE) return [TOO_MANY_BYTES];
    return [OK, ...le16(next), ...record(index, sensor).subarray(offset, offset + wanted)];
  }
}

interface Powered {
  power(): boolean;
}

interface Sensor {
  readonly number: number;
  readonly name: string;
  readonly type: number;
  readonly unit: number;
  readonly entity: number;
  /** A reading is this times the raw byte. */
  readonly factor: number;
  /** Raw. Without `off` it is not read while the machine is off. */
  readonly on: number;
  readonly off?: number;
  /** Raw; a fan has lower ones, the others upper ones: critical, then non-critical. */
  readonly limits: { readonly lower?: readonly [number, number]; readonly upper?: readonly [number, number] };
}

// Types by table 42-3, units by table 43-15, entities by table 43-13.
const temperature = { type: 0x01, unit: 1, factor: 1 };
const fan = { type: 0x04, unit: 18, entity: 0x1d, factor: 100, on: 52, limits: { lower: [8, 12] } } as const;
const sensors: readonly Sensor[] = [
  { ...temperature, number: 1, name: 'Inlet Temp', entity: 0x37, on: 24, off: 22, limits: { upper: [47, 42] } },
  { ...temperature, number: 2, name: 'CPU Temp', entity: 0x03, on: 51, limits: { upper: [98, 90] } },
  { ...fan, number: 3, name: 'Fan 1' },
  { ...fan, number: 4, name: 'Fan 2' },
  {
    number: 5,
    name: 'PSU 1',
    type: 0x08,
    unit: 6,
    entity: 0x0a,
    factor: 4,
    on: 45,
    off: 3,
    limits: { upper: [225, 200] },
  },
];

/** A full sensor record (§43.1). */
function record(id: number, sensor: Sensor): Buffer {
  const name = Buffer.from(sensor.name);
  const bytes = Buffer.alloc(48 + name.length);
  const mask = readable(sensor);
  bytes.writeUInt16LE(id, 0);
  bytes.set([SDR_VERSION, FULL_SENSOR, bytes.length - 5, BMC, 0, sensor.number, sensor.entity, 1], 2);
  // Scanned from the start; thresholds can be read, no events; the reading is one of thresholds.
  bytes.set([0x01, 0x47, sensor.type, 0x01], 10);
  bytes.set([mask, 0], 18);
  bytes.set([0, sensor.unit, 0, 0, sensor.factor], 20);
  bytes.set([sensor.on, 0xff, 0, 0xff, 0], 31);
  bytes.set(thresholds(sensor).toReversed(), 36); // here from the highest down
  bytes[47] = 0xc0 | name.length; // eight-bit ASCII
  name.copy(bytes, 48);
  return bytes;
}

/** Lower non-critical, critical, non-recoverable; upper non-critical, critical, non-recoverable. */
function thresholds({ limits: { lower, upper } }: Sensor): number[] {
  return [lower?.[1] ?? 0, lower?.[0] ?? 0, 0, upper?.[1] ?? 0, upper?.[0] ?? 0, 0];
}

function readable({ limits: { lower, upper } }: Sensor): number {
  return (lower === undefined ? 0 : 0b00_0011) | (upper === undefined ? 0 : 0b01_1000);
}

// §35.9.
function thresholdsOf(data: Buffer): Answer {
  const sensor = sensors.find(({ number }) => number === data[0]);
  return sensor === undefined ? [NOT_PRESENT] : [OK, readable(sensor), ...thresholds(sensor)];
}

function crossed({ limits: { lower, upper } }: Sensor, raw: number): number {
  const low = lower === undefined ? 0 : raw <= lower[0] ? 0b11 : raw <= lower[1] ? 0b01 : 0;
  const high = upper === undefined ? 0 : raw >= upper[0] ? 0b11_000 : raw >= upper[1] ? 0b01_000 : 0;
  return low | high;
}

function le16(value: number): [number, number] {
  return [value & 0xff, value >> 8];
}

const OK = 0x00;
const RESERVATION_CANCELLED = 0xc5;
const WRONG_LENGTH = 0xc7;
const TOO_MANY_BYTES = 0xca;
const NOT_PRESENT = 0xcb;

const BMC = 0x20;
const SDR_VERSION = 0x51;
const FULL_SENSOR = 0x01;
const RESERVABLE = 0x02;
const LAST = 0xffff;
const WHOLE_RECORD = 0xff;
// Many BMCs give no more at once than an IPMB message holds.
const MOST_AT_ONCE = 32;
const SCANNING = 0x40;
const UNAVAILABLE = 0x20;
