import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { DiskHeader } from './disk-header.ts';
import type { DiskBytes } from './disk-bytes.ts';

/**
 * A qcow2 header, version 2 or 3 (QEMU, docs/interop/qcow2.txt, "Header" and "Header extensions"; numbers are big-endian).
 * One that names a backing file or an external data file would have its reader open that file: refused, as are encryption
 * and internal snapshots. Its tables must lie within the file and cover the disk.
 */
export async function readQcow2(bytes: DiskBytes): Promise<DiskHeader> {
  const header = await readFields(bytes);
  refuseOtherFiles(header);
  if (header.cryptMethod !== 0) {
    throw new RackstartError('image.encrypted', `The qcow2 is encrypted (method ${header.cryptMethod}).`);
  }
  refuseFeatures(header.incompatible);
  if (header.snapshots > 0) {
    throw new RackstartError('image.unsupported', `The qcow2 holds ${header.snapshots} snapshots: flatten it first.`);
  }
  await refuseExtensions(bytes, header);
  checkTables(bytes, header);
  return { format: 'qcow2', variant: `version ${header.version}`, virtualSize: Number(header.size) };
}

interface Fields {
  readonly version: 2 | 3;
  readonly backingFileOffset: bigint;
  readonly clusterBits: number;
  readonly size: bigint;
  readonly cryptMethod: number;
  readonly l1Entries: number;
  readonly l1Offset: bigint;
  readonly refcountOffset: bigint;
  readonly refcountClusters: number;
  readonly snapshots: number;
  readonly incompatible: bigint;
  readonly headerLength: number;
}

async function readFields(bytes: DiskBytes): Promise<Fields> {
  const old = await bytes.at(0, V2_LENGTH);
  const version = old.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw invalid(`has version ${version}, which is neither 2 nor 3`);
  const clusterBits = old.readUInt32BE(20);
  // 9 by the specification, 21 by QEMU ("must not be less than 9; larger values than 21 are rejected").
  if (clusterBits < 9 || clusterBits > 21) throw invalid(`has clusters of 2^${clusterBits} bytes`);
  const size = old.readBigUInt64BE(24);
  // Beyond what a number can hold exactly, and any disk.
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(`says that its disk has ${size} bytes`);
  const fields = {
    backingFileOffset: old.readBigUInt64BE(8),
    clusterBits,
    size,
    cryptMethod: old.readUInt32BE(32),
    l1Entries: old.readUInt32BE(36),
    l1Offset: old.readBigUInt64BE(40),
    refcountOffset: old.readBigUInt64BE(48),
    refcountClusters: old.readUInt32BE(56),
    snapshots: old.readUInt32BE(60),
  };
  if (version === 2) return { version, ...fields, incompatible: 0n, headerLength: V2_LENGTH };
  const added = await bytes.at(V2_LENGTH, V3_LENGTH - V2_LENGTH);
  const headerLength = added.readUInt32BE(28);
  if (headerLength < V3_LENGTH || headerLength % 8 !== 0 || headerLength > 2 ** clusterBits) {
    throw invalid(`has a header of ${headerLength} bytes`);
  }
  if (added.readUInt32BE(24) > 6) throw invalid('has reference counts of more than 64 bits');
  return { version, ...fields, incompatible: added.readBigUInt64BE(0), headerLength };
}

function refuseOtherFiles({ backingFileOffset, incompatible }: Fields): void {
  if (backingFileOffset !== 0n) throw external('a backing file');
  if ((incompatible & EXTERNAL_DATA) !== 0n) throw external('an external data file');
}

function refuseFeatures(incompatible: bigint): void {
  if ((incompatible & CORRUPT) !== 0n) throw invalid('is marked as corrupt; repair it with qemu-img check -r all');
  const unknown = incompatible & ~KNOWN;
  if (unknown !== 0n) {
    throw new RackstartError(
      'image.unsupported',
      `The qcow2 needs features (0x${unknown.toString(16)}) not known here.`,
    );
  }
}

/** Each is a type, a length, and data padded to eight bytes; all of them are in the first cluster. */
async function refuseExtensions(bytes: DiskBytes, { headerLength, clusterBits }: Fields): Promise<void> {
  const end = Math.min(2 ** clusterBits, bytes.size);
  let at = headerLength;
  for (let count = 0; at + 8 <= end; count++) {
    if (count === MOST_EXTENSIONS) throw invalid(`has more than ${MOST_EXTENSIONS} header extensions`);
    const head = await bytes.at(at, 8);
    const [type, length] = [head.readUInt32BE(0), head.readUInt32BE(4)];
    if (type === extension.end) return;
    if (at + 8 + length > end) throw invalid('has a header extension that is longer than its cluster');
    if (type === extension.externalData) throw external('an external data file');
    if (type === extension.encryption) throw new RackstartError('image.encrypted', 'The qcow2 is encrypted (LUKS).');
    at += 8 + Math.ceil(length / 8) * 8;
  }
}

function checkTables({ size: fileSize }: DiskBytes, header: Fields): void {
  const cluster = 2n ** BigInt(header.clusterBits);
  // "L2 table entries" are eight bytes, sixteen with extended entries; each L1 entry is for one such table of one cluster.
  const entryBytes = (header.incompatible & EXTENDED_L2) === 0n ? 8n : 16n;
  const perL1Entry = cluster * (cluster / entryBytes);
  if (BigInt(header.l1Entries) * perL1Entry < header.size)
    throw invalid('has a first-level table too short for its disk');
  if (header.l1Entries > MOST_L1_ENTRIES) throw invalid(`has a first-level table of ${header.l1Entries} entries`);
  if (header.l1Offset % cluster !== 0n || header.l1Offset + BigInt(header.l1Entries) * 8n > BigInt(fileSize)) {
    throw invalid('has its first-level table outside of the file');
  }
  const refcountBytes = BigInt(header.refcountClusters) * cluster;
  if (refcountBytes === 0n || refcountBytes > MOST_REFCOUNT_BYTES) {
    throw invalid(`has a table of reference counts of ${refcountBytes} bytes`);
  }
  // The last cluster of a file need not be written to its end.
  const wholeClusters = ((BigInt(fileSize) + cluster - 1n) / cluster) * cluster;
  if (header.refcountOffset % cluster !== 0n || header.refcountOffset + refcountBytes > wholeClusters) {
    throw invalid('has its reference counts outside of the file');
  }
}

const V2_LENGTH = 72;
const V3_LENGTH = 104;
// "Incompatible features": 0 dirty (its reference counts are to be repaired: we only read), 1 corrupt, 2 external data file,
// 3 compression type, 4 extended L2 entries.
const CORRUPT = 1n << 1n;
const EXTERNAL_DATA = 1n << 2n;
const EXTENDED_L2 = 1n << 4n;
const KNOWN = 0b11111n;
const extension = { end: 0, externalData: 0x44415441, encryption: 0x0537be77 } as const;
const MOST_EXTENSIONS = 32;
// QEMU's own limits (block/qcow2.h: QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE).
const MOST_L1_ENTRIES = (32 * 1024 ** 2) / 8;
const MOST_REFCOUNT_BYTES = 8n * 1024n ** 2n;

function external(what: string): RackstartError {
  return new RackstartError(
    'image.external',
    `The qcow2 refers to ${what}: make one file of it with qemu-img convert.`,
  );
}

function invalid(what: string): RackstartError {
  return new RackstartError('image.invalid', `The qcow2 ${what}.`);
}
