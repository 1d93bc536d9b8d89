/** A copy with a few bytes changed, cut short, repeated or grown, mostly among the options. */
export function mutated(original: Buffer, random: () => number): Buffer {
  const pick = (below: number) => Math.floor(random() * below);
  let bytes: Buffer = Buffer.from(original);
  for (let change = pick(4); change >= 0; change--) {
    const options = random() < 0.7 ? Math.min(236, bytes.length) : 0;
    const at = options + pick(Math.max(1, bytes.length - options));
    switch (pick(5)) {
      case 0:
        bytes = bytes.subarray(0, at);
        break;
      case 1:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(pick(bytes.length + 1))]);
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([52, 1, 3]), bytes.subarray(at)]);
        break;
      default:
        if (at < bytes.length) bytes[at] = pick(256);
    }
  }
  return bytes;
}
