import { InvalidArgumentError } from 'commander';

/** Parses an option's whole number. */
export function integer(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}

/** Collects an option that may be given several times. */
export function several(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

export interface AddressRange {
  readonly first: string;
  readonly last: string;
}

/** `10.0.0.10-10.0.0.99` */
export function range(text: string): AddressRange {
  const [first, last, ...rest] = text.split('-');
  if (!first || !last || rest.length > 0) throw new InvalidArgumentError('Write it like 10.0.0.10-10.0.0.99.');
  return { first, last };
}
