/** A file or, without content, a directory of a cpio archive. */
export interface ArchiveEntry {
  /** Relative, no leading slash. */
  readonly path: string;
  readonly mode: number;
  readonly content?: Buffer;
}

/**
 * A cpio archive in the "newc" format, as the kernel unpacks it over its root (kernel
 * Documentation/driver-api/early-userspace/buffer-format.rst): parents before children, everything owned by root.
 */
export function newcArchive(entries: readonly ArchiveEntry[]): Buffer {
  const members = entries.map(({ path, mode, content }, index) =>
    member(path, content === undefined ? DIRECTORY | mode : REGULAR_FILE | mode, index + 1, content ?? NOTHING),
  );
  return Buffer.concat([...members, member('TRAILER!!!', 0, 0, NOTHING)]);
}

/** `archives` one after another, each where the kernel looks for it: at a multiple of 4, with zeros before it. */
export function concatenateArchives(archives: readonly Buffer[]): Buffer {
  return Buffer.concat(archives.flatMap((archive) => [archive, padding(archive.length)]));
}

const REGULAR_FILE = 0o100000;
const DIRECTORY = 0o040000;
const NOTHING = Buffer.alloc(0);

function member(path: string, mode: number, inode: number, content: Buffer): Buffer {
  const name = Buffer.from(`${path}\0`);
  const links = content.length === 0 ? 2 : 1;
  // inode, mode, uid, gid, links, time, size, device (major, minor), its own device (major, minor), name size, checksum
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`;
  const head = Buffer.concat([Buffer.from(header), name]);
  return Buffer.concat([head, padding(head.length), content, padding(content.length)]);
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
