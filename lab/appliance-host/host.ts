import { join } from 'node:path';

import { onAbruptEnd } from '../process/abrupt-end.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import type { RunningProcess } from '../process/start.ts';
import { until } from '../process/until.ts';
import { addNamespace, namespaceName, removeNamespace, removeOrphans } from '../rack/namespace.ts';
import type { RootImage } from './root-image.ts';
import { MACS, MANAGEMENT_ADDRESS } from './root-image.ts';

/** A machine with systemd as PID 1 that Rackstart is installed on, and the two networks it is on. */
export interface ApplianceHost {
  /** Everything its serial console printed. */
  readonly serialLog: string;
  /** What its API listens on, seen from here: a unix socket. */
  readonly apiSocket: string;
  /** Runs a shell command on it as root, through its management network; resolves to what it wrote. */
  readonly root: (command: string, options?: { input?: string; withinMs?: number }) => Promise<string>;
  /**
   * The command line that runs `argv` as a neighbour: on the bridge `rack0` of the provisioning network (10.77.0.9) and on
   * `management`.
   */
  readonly neighbour: (argv: readonly string[]) => string[];
  close(): Promise<void>;
}

/** Boots it, the release's disk at /dev/vdb; resolves when it is up. Nothing is left behind when it rejects. */
export async function openApplianceHost(
  image: RootImage,
  releaseDisk: string,
  directory: string,
): Promise<ApplianceHost> {
  removeOrphans();
  const netns = namespaceName('host');
  const cancel = onAbruptEnd(() => removeNamespace(netns));
  const serialLog = join(directory, 'serial.log');
  const neighbour = (argv: readonly string[]) => ['ip', 'netns', 'exec', netns, ...argv];
  let machine: RunningProcess | undefined;

  const root: ApplianceHost['root'] = (command, { input = '', withinMs = 60_000 } = {}) =>
    run(neighbour([...ssh(image, directory), command]), { input, withinMs });
  const close = async () => {
    await machine?.stop();
    removeNamespace(netns);
    cancel();
  };

  try {
    await addNamespace(netns, WIRING);
    machine = await startProcess({
      argv: neighbour(qemu(image, releaseDisk, serialLog)),
      logFile: join(directory, 'qemu.log'),
    });
    await until('SSH on the appliance host', BOOT_MS, () =>
      root('true').then(
        () => true,
        () => false,
      ),
    );
    const apiSocket = join(directory, 'api.sock');
    const forward = ['-O', 'forward', '-L', `${apiSocket}:127.0.0.1:7770`];
    await run(neighbour([...ssh(image, directory), ...forward]));
    return { serialLog, apiSocket, root, neighbour, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const BOOT_MS = 120_000;

// A fixed address, because a bridge otherwise takes on that of a new port.
const WIRING = [
  'link set lo up',
  'link add rack0 address 52:54:00:78:ff:fe type bridge stp_state 0 forward_delay 0',
  'tuntap add dev provisioning mode tap',
  'link set provisioning master rack0 up',
  'address add 10.77.0.9/24 dev rack0',
  'link set rack0 up',
  'tuntap add dev management mode tap',
  'address add 10.79.0.1/24 dev management',
  'link set management up',
];

function qemu({ disk, kernel, initrd }: RootImage, releaseDisk: string, serialLog: string): string[] {
  const drive = (id: string, file: string, access: string) => [
    ...['-drive', `file=${file},if=none,id=${id},format=raw,aio=threads,${access}`],
    ...['-device', `virtio-blk-pci,drive=${id}`],
  ];
  const nic = (name: keyof typeof MACS) => [
    ...['-netdev', `tap,id=${name},ifname=${name},script=no,downscript=no`],
    ...['-device', `virtio-net-pci,netdev=${name},mac=${MACS[name]},romfile=`],
  ];
  // TCG always: /dev/kvm may open and then die in the guest. One CPU: under TCG a second one makes the boot slower.
  return [
    ...['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-machine', 'q35,graphics=off,smm=off,hpet=off,vmport=off', '-accel', 'tcg,thread=multi', '-cpu', 'Nehalem'],
    ...['-smp', '1', '-m', '1536', '-kernel', kernel, '-initrd', initrd],
    ...['-append', 'root=/dev/vda ro console=ttyS0,115200 quiet mitigations=off'],
    // What it writes goes to a file that ends with it.
    ...drive('root', disk, 'snapshot=on,cache=unsafe'),
    ...drive('release', releaseDisk, 'readonly=on'),
    ...nic('provisioning'),
    ...nic('management'),
    ...['-object', 'rng-random,filename=/dev/urandom,id=rng', '-device', 'virtio-rng-pci,rng=rng'],
    ...['-serial', `file:${serialLog}`],
  ];
}

// One connection for all commands: another would cost the emulated machine a second.
function ssh({ sshKey, knownHosts }: RootImage, directory: string): string[] {
  const options = [
    ...['BatchMode=yes', 'ConnectTimeout=2', 'StrictHostKeyChecking=yes', `UserKnownHostsFile=${knownHosts}`],
    ...['ControlMaster=auto', 'ControlPersist=yes', `ControlPath=${join(directory, 'ssh')}`],
  ];
  return ['ssh', '-i', sshKey, ...options.flatMap((each) => ['-o', each]), `root@${MANAGEMENT_ADDRESS}`];
}
