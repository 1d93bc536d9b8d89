export interface TransferLimits {
  /** The longest block granted, in bytes. 1468 fills an Ethernet frame; longer ones travel in fragments, which PXE ROMs cannot join. */
  readonly blockSize: number;
  /** The most blocks sent before an acknowledgement is waited for. */
  readonly windowSize: number;
}

export interface NegotiatedOptions {
  readonly blockSize: number;
  readonly windowSize: number;
  /** Seconds before the first retransmission; undefined when the client leaves them to us. */
  readonly timeout: number | undefined;
  /** What to put into the option acknowledgement; empty: none is sent. */
  readonly granted: ReadonlyMap<string, number>;
}

/**
 * What is granted of what a client asked (RFC 2347 to 2349, 7440). An unknown option, or a value outside its range,
 * is as if it had not been asked for; block and window sizes may be granted smaller, a timeout only as it is.
 */
export function negotiate(
  asked: ReadonlyMap<string, string>,
  fileSize: number,
  limits: TransferLimits,
): NegotiatedOptions {
  const granted = new Map<string, number>();
  const grant = (name: string, least: number, most: number, limit: number): number | undefined => {
    const value = decimal(asked.get(name));
    if (value === undefined || value < least || value > most) return undefined;
    granted.set(name, Math.min(value, limit));
    return granted.get(name);
  };
  const blockSize = grant('blksize', 8, 65_464, limits.blockSize) ?? 512;
  const timeout = grant('timeout', 1, LONGEST_TIMEOUT, LONGEST_TIMEOUT);
  const windowSize = grant('windowsize', 1, 65_535, limits.windowSize) ?? 1;
  if (decimal(asked.get('tsize')) !== undefined) granted.set('tsize', fileSize);
  return { blockSize, windowSize, timeout, granted };
}

// RFC 2349 allows 255 s: a silent stranger would hold one of our transfers for 25 minutes. It gets our own timer instead.
const LONGEST_TIMEOUT = 20;

function decimal(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
