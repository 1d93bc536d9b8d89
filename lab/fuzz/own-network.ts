import { spawnSync } from 'node:child_process';

/**
 * A program, run in a network namespace that nobody else sees and that ends with it. Its loopback has every address of
 * 10.77.0.0/16: ports 67 and 69 are free, broadcasts come back, and a peer may have any address.
 */
export function inOwnNetwork(argv: readonly string[]): string[] {
  const script = 'ip link set lo up && ip address add 10.77.0.1/16 dev lo && exec "$@"';
  return [...unshare(), 'sh', '-c', script, 'sh', ...argv];
}

/** Why there can be no such network here, in one line; undefined when there can. */
export function networkMissing(): string | undefined {
  const [program = '', ...args] = inOwnNetwork(['true']);
  const tried = spawnSync(program, args, { encoding: 'utf8' });
  return tried.status === 0 ? undefined : 'needs root, or user namespaces, for a network of its own';
}

function unshare(): string[] {
  const asRoot = process.getuid?.() === 0;
  return ['unshare', '--net', ...(asRoot ? [] : ['--user', '--map-root-user'])];
}
