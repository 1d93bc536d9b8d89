/** An address of the range that somebody has, or had; as numbers. */
export interface Taken {
  readonly address: number;
  /** Whose it is, or was last; undefined when it is no client's: it rests, or is held for a server. */
  readonly mac: string | undefined;
  /** True while nobody else may have it; once false, `since` is when it became free. */
  readonly live: boolean;
  readonly since: number;
}

export interface AddressRange {
  readonly first: number;
  readonly last: number;
}

export interface Wish {
  readonly mac: string;
  /** What the client asks for. */
  readonly requested?: number | undefined;
}

/**
 * The address a client gets: the one it has, or had and nobody took since; else the one it asks for; else one that
 * nobody ever had; else the one that has been free for longest, so that a client that was away finds its own again.
 * Undefined when every address is live for somebody else. Looks at each address of the range once at most.
 */
export function chooseAddress(range: AddressRange, taken: readonly Taken[], wish: Wish): number | undefined {
  const inside = taken.filter(({ address }) => contains(range, address));
  const own = inside.filter(({ mac }) => mac === wish.mac);
  const had = own.find(({ live }) => live) ?? own[0];
  if (had !== undefined) return had.address;

  const known = new Map(inside.map((entry) => [entry.address, entry]));
  const { requested } = wish;
  if (requested !== undefined && contains(range, requested) && known.get(requested)?.live !== true) return requested;

  if (known.size < range.last - range.first + 1) {
    for (let address = range.first; address <= range.last; address++) if (!known.has(address)) return address;
  }
  return inside
    .filter(({ live }) => !live)
    .reduce<Taken | undefined>((oldest, entry) => (oldest && oldest.since <= entry.since ? oldest : entry), undefined)
    ?.address;
}

export function contains({ first, last }: AddressRange, address: number): boolean {
  return address >= first && address <= last;
}
