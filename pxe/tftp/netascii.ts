/** A file as netascii has it (RFC 1350 §1, RFC 764): a line feed as CR LF, a carriage return as CR NUL. */
export function toNetascii(data: Buffer): Buffer {
  const longer = data.reduce((count, byte) => count + Number(byte === LF || byte === CR), 0);
  const text = Buffer.alloc(data.length + longer);
  let at = 0;
  for (const byte of data) {
    if (byte === LF) text[at++] = CR;
    text[at++] = byte;
    if (byte === CR) at++;
  }
  return text;
}

const LF = 0x0a;
const CR = 0x0d;
