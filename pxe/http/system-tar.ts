import { buffer } from 'node:stream/consumers';

import { pack } from 'tar-stream';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { SystemFile } from '../boot-plan.ts';

/**
 * The files of a new system as one tar, owned by root, to unpack at its root. A path that ends in a slash is a
 * directory; other parents are the image's own. Error: `internal` for a path that would leave the root.
 */
export async function systemTar(files: readonly SystemFile[], mtime: Date): Promise<Buffer> {
  const tar = pack();
  const whole = buffer(tar);
  for (const { path, mode, content, linkTo } of files) {
    if (!staysInside(path)) throw new RackstartError('internal', `A system file has the path ${path}.`);
    const owned = { name: path, mtime, uid: 0, gid: 0, uname: 'root', gname: 'root' };
    if (path.endsWith('/')) tar.entry({ ...owned, type: 'directory', mode: mode ?? 0o755 });
    else if (linkTo !== undefined) tar.entry({ ...owned, type: 'symlink', linkname: linkTo, mode: 0o777 });
    else tar.entry({ ...owned, type: 'file', mode: mode ?? 0o644 }, content ?? '');
  }
  tar.finalize();
  return whole;
}

function staysInside(path: string): boolean {
  const names = path.replace(/\/$/, '').split('/');
  return !path.includes('\0') && names.every((name) => name !== '' && name !== '.' && name !== '..');
}
