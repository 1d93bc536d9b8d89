import { RackstartError } from '../../appliance/kernel/errors.ts';

/**
 * Reads the descriptor inside of a VMDK (VMware, "Virtual Disk Format 1.1", "The Descriptor File"): one extent, this file,
 * of the header's capacity; no parent. Only words that the specification has are taken. Gives its `createType`.
 */
export function readVmdkDescriptor(text: Buffer, capacity: bigint): 'monolithicSparse' | 'streamOptimized' {
  const lines = linesOf(text);
  if (lines[0] !== '# Disk DescriptorFile') throw invalid('does not begin as one');
  const values = new Map<string, string>();
  const extents: string[] = [];
  for (const line of lines) {
    if (line === '' || line.startsWith('#')) continue;
    if (/^(RW|RDONLY|NOACCESS)\s/.test(line)) {
      extents.push(line);
      continue;
    }
    const [, key, quoted, bare] = /^([A-Za-z][A-Za-z0-9._]{0,63})\s*=\s*(?:"([^"]*)"|([^"\s]*))$/.exec(line) ?? [];
    if (key === undefined) throw invalid(`has a line that is none: ${JSON.stringify(line.slice(0, 80))}`);
    const word = key.toLowerCase();
    if (values.has(word)) throw invalid(`says ${key} twice`);
    values.set(word, quoted ?? bare ?? '');
  }
  checkWords(values);
  checkExtents(extents, capacity);
  return createTypeOf(values.get('createtype'));
}

/** The disk, or a part of it, is not in this file. */
export function elsewhere(what: string): RackstartError {
  return new RackstartError(
    'image.external',
    `The VMDK ${what}: make one file of it with qemu-img convert -O vmdk -o subformat=streamOptimized.`,
  );
}

function linesOf(text: Buffer): string[] {
  // Zeros fill the sectors; a reader in C stops at the first, so nothing may hide behind it.
  const end = text.indexOf(0);
  if (end >= 0 && text.subarray(end).some((byte) => byte !== 0)) throw invalid('goes on behind its end');
  const characters = end < 0 ? text : text.subarray(0, end);
  const lines = characters.toString('latin1').split('\n');
  return lines.map((line) => line.replace(/\r$/, '').trim());
}

function checkWords(values: ReadonlyMap<string, string>): void {
  const parent = values.get('parentcid');
  if (values.has('parentfilenamehint') || (parent !== undefined && parent.toLowerCase() !== NO_PARENT)) {
    throw elsewhere('holds what changed since a parent disk');
  }
  if (values.has('changetrackpath')) throw elsewhere('names a file of tracked changes');
  for (const [word, value] of values) {
    if (word.startsWith('ddb.')) continue;
    const meaning = WORDS[word];
    if (meaning === undefined) throw invalid(`has a word that is not known: ${word}`);
    if (!meaning.test(value)) throw invalid(`says something else than it may of ${word}`);
  }
  if (parent === undefined) throw invalid('does not say that it has no parent');
}

function checkExtents(extents: readonly string[], capacity: bigint): void {
  const [line = '', ...more] = extents;
  if (more.length > 0) throw elsewhere(`lies in ${extents.length} files`);
  const [, sectors, type, name] = /^RW (\d{1,19}) ([A-Z]+) "([^"]{1,255})"$/.exec(line) ?? [];
  if (sectors === undefined) throw invalid('has no extent of its own');
  if (type !== 'SPARSE') throw elsewhere(`keeps its disk elsewhere (an extent of type ${type})`);
  if (/[/\\]/.test(name ?? '') || name === '..') throw elsewhere('names a file by a path');
  if (BigInt(sectors) !== capacity) throw invalid(`says ${sectors} sectors where the header says ${capacity}`);
}

function createTypeOf(value: string | undefined): 'monolithicSparse' | 'streamOptimized' {
  if (value === undefined) throw invalid('does not say of what type it is');
  if (value === 'monolithicSparse' || value === 'streamOptimized') return value;
  throw new RackstartError(
    'image.unsupported',
    `The VMDK is of type ${value}: only monolithicSparse and streamOptimized are one file.`,
  );
}

const NO_PARENT = 'ffffffff';
const WORDS: Readonly<Record<string, RegExp>> = {
  version: /^[1-9]$/,
  encoding: /^[A-Za-z0-9-]{1,32}$/,
  cid: /^[0-9a-fA-F]{1,8}$/,
  parentcid: /^[fF]{8}$/,
  isnativesnapshot: /^(yes|no)$/,
  createtype: /^[A-Za-z]{1,40}$/,
};

function invalid(what: string): RackstartError {
  return new RackstartError('image.invalid', `The descriptor in the VMDK ${what}.`);
}
