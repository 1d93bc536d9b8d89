/** A frame as switches send it (IEEE 802.1AB-2016, §8), with these fields and the end behind them. */
export function lldpFrame(...fields: readonly (readonly [type: number, value: Buffer])[]): Buffer {
  const header = Buffer.from('0180c200000e52540077000188cc', 'hex');
  return Buffer.concat([header, ...fields.map(([type, value]) => lldpField(type, value)), Buffer.of(0, 0)]);
}

export function lldpField(type: number, value: Buffer): Buffer {
  const header = Buffer.alloc(2);
  header.writeUInt16BE((type << 9) | value.length);
  return Buffer.concat([header, value]);
}

export const chassis = (subtype: number, id: string | Buffer) => [1, idOf(subtype, id)] as const;
export const port = (subtype: number, id: string | Buffer) => [2, idOf(subtype, id)] as const;
export const lifetime = (seconds: number) => [3, Buffer.of(seconds >> 8, seconds & 0xff)] as const;
export const systemName = (name: string) => [5, Buffer.from(name, 'latin1')] as const;

function idOf(subtype: number, id: string | Buffer): Buffer {
  return Buffer.concat([Buffer.of(subtype), Buffer.from(id)]);
}
