/** An SMBIOS structure of type 17, as SMBIOS 3.7 has it, with these texts; its slot is called by the first of them. */
export function memoryDevice(
  { size, extended = 0, bank = 0, serial = 0 }: { size: number; extended?: number; bank?: number; serial?: number },
  texts: readonly string[],
): Buffer {
  const fields = Buffer.alloc(0x64);
  fields.writeUInt8(17, 0x00);
  fields.writeUInt8(fields.length, 0x01);
  fields.writeUInt16LE(size, 0x0c);
  fields.writeUInt8(1, 0x10);
  fields.writeUInt8(bank, 0x11);
  fields.writeUInt8(serial, 0x18);
  fields.writeUInt32LE(extended, 0x1c);
  return Buffer.concat([fields, Buffer.from(`${texts.join('\0')}\0\0`, 'latin1')]);
}
