/**
 * The smallest disk that a BIOS would start and that has a root: boot code, one partition with MBR, and of its ext4 what readers
 * look at. Filled with `filling`, so that two are not the same.
 */
export function tinyDisk(bytes = 64 * 1024, filling: string | Buffer = 'disk'): Buffer {
  const disk = Buffer.alloc(bytes, filling);
  disk.fill(0, 446, 510);
  const first = 8;
  disk.writeUInt8(0x80, 446);
  disk.writeUInt8(0x83, 450);
  disk.writeUInt32LE(first, 454);
  disk.writeUInt32LE(bytes / 512 - first, 458);
  disk.writeUInt16LE(0xaa55, 510);
  const block = disk.subarray(first * 512 + 1024, first * 512 + 2048);
  block.fill(0);
  block.writeUInt32LE(16, 0); // inodes
  block.writeUInt32LE(Math.floor(bytes / 1024) - 4, 4); // blocks of 1 KiB
  block.writeUInt32LE(16, 0x28); // inodes in a group
  block.writeUInt16LE(0xef53, 0x38);
  block.writeUInt32LE(0x40, 0x60); // it has extents
  return disk;
}
