import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** `uefi` boots by PXE and TFTP, `uefi-http` by UEFI's HTTP boot; both are EDK2. */
export type Firmware = 'bios' | 'uefi' | 'uefi-http';

export interface DiskSpec {
  gib: number;
  /** `virtio` (a plain disk, /dev/vda) when left out. */
  bus?: 'virtio' | 'nvme';
  /** Whether it fails every write, while it reads as well as ever: nothing that looks at it beforehand can tell. */
  failsWrites?: boolean;
}

/** One machine of a rack, as a caller of `openRack` describes it. */
export interface MachineSpec {
  /** Letters, digits and hyphens; unique in its rack. */
  name: string;
  firmware: Firmware;
  /** 1,024 when left out. */
  memoryMib?: number;
  /** Size of its only disk, 4 when left out; for other disks say `disks`. */
  diskGib?: number;
  disks?: readonly DiskSpec[];
}

/** A file that is a disk; it stays when the machine is switched off, as real ones do. */
export interface Disk {
  path: string;
  bytes: number;
  bus: 'virtio' | 'nvme';
  serial: string;
  failsWrites: boolean;
}

/** What a machine is made of, before anything runs. */
export interface Hardware {
  name: string;
  firmware: Firmware;
  memoryMib: number;
  /** Lower case, with colons. */
  mac: string;
  /** SMBIOS UUID, lower case. */
  uuid: string;
  /** SMBIOS serial number. */
  serial: string;
  disks: readonly Disk[];
  /** Everything of this machine: disks, firmware variables, logs, process id. */
  directory: string;
  /** Everything its serial console ever printed. */
  serialLog: string;
}

/** Derives a machine's identity from the names of rack and machine, so that no two machines of two racks share one. */
export function describeMachine(rack: string, directory: string, spec: MachineSpec, number: number): Hardware {
  const own = join(directory, spec.name);
  const digest = createHash('sha256').update(`${rack}/${spec.name}`).digest('hex');
  const rackByte = createHash('sha256').update(rack).digest('hex').slice(0, 2);
  const serial = `RS${digest.slice(0, 8).toUpperCase()}`;
  const disks = spec.disks ?? [{ gib: spec.diskGib ?? 4 }];
  return {
    name: spec.name,
    firmware: spec.firmware,
    memoryMib: spec.memoryMib ?? 1_024,
    mac: `52:54:00:77:${rackByte}:${number.toString(16).padStart(2, '0')}`,
    uuid: digest.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/, '$1-$2-4$3-8$4-$5'), // version 4, RFC 9562 §5.4
    serial,
    disks: disks.map(({ gib, bus = 'virtio', failsWrites = false }, index) => ({
      path: join(own, `disk${index}.raw`),
      bytes: gib * 2 ** 30,
      bus,
      failsWrites,
      serial: `${serial}D${index}`,
    })),
    directory: own,
    serialLog: join(own, 'serial.log'),
  };
}

/** Makes a machine's files: empty disks, firmware variables of its own, and the command line `chassis-control` starts. */
export async function buildMachine(hardware: Hardware, tap: string, serialTcpPort: number): Promise<void> {
  await mkdir(hardware.directory, { recursive: true });
  await writeFile(hardware.serialLog, '');
  for (const { path, bytes } of hardware.disks) {
    await writeFile(path, '');
    await truncate(path, bytes); // sparse: costs nothing until written
  }
  if (hardware.firmware !== 'bios') {
    await copyFile('/usr/share/OVMF/OVMF_VARS_4M.fd', variables(hardware), constants.COPYFILE_FICLONE);
  }
  await writeFile(join(hardware.directory, 'qemu'), qemu(hardware, tap, serialTcpPort).join('\n') + '\n');
}

function qemu(machine: Hardware, tap: string, serialTcpPort: number): string[] {
  const { directory, uuid, serial } = machine;
  const identity = `type=1,manufacturer=Rackstart,product=Lab,serial=${serial},uuid=${uuid}`;
  // TCG always: /dev/kvm may open and then die in the guest. One CPU: under TCG a second one makes the boot slower.
  return [
    ...['qemu-system-x86_64', '-name', machine.name, '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-machine', 'q35,graphics=off,smm=off,hpet=off,vmport=off', '-accel', 'tcg,thread=multi', '-cpu', 'Nehalem'],
    ...['-smp', '1', '-m', String(machine.memoryMib), '-uuid', uuid, '-smbios', identity],
    ...(machine.firmware === 'bios' ? [] : uefi(machine)),
    ...network(machine, tap),
    ...machine.disks.flatMap(disk),
    ...['-object', 'rng-random,filename=/dev/urandom,id=rng', '-device', 'virtio-rng-pci,rng=rng'],
    ...serialConsole(machine, serialTcpPort),
    ...['-qmp', `unix:${join(directory, 'qmp')},server=on,wait=off`],
    ...['-pidfile', join(directory, 'pid'), '-daemonize'],
  ];
}

function uefi(machine: Hardware): string[] {
  const code = 'if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd';
  const drives = ['-drive', code, '-drive', `if=pflash,format=raw,unit=1,file=${variables(machine)}`];
  // A NIC that comes first in the boot order is tried by PXE before HTTP, and EDK2's PXE takes a minute to give up.
  const pxeOff = [4, 6].flatMap((ip) => ['-fw_cfg', `name=opt/org.tianocore/IPv${ip}PXESupport,string=no`]);
  return machine.firmware === 'uefi-http' ? [...drives, ...pxeOff] : drives;
}

// BIOS machines get the iPXE ROM that QEMU ships for the card; an empty romfile leaves UEFI ones to EDK2's own PXE client.
function network({ mac, firmware }: Hardware, tap: string): string[] {
  const rom = firmware === 'bios' ? '' : ',romfile=';
  const device = `virtio-net-pci,id=network,netdev=tap,mac=${mac},bootindex=@network@${rom}`;
  return ['-netdev', `tap,id=tap,ifname=${tap},script=no,downscript=no`, '-device', device];
}

// cache=unsafe: the host may crash, the guest's data need not outlive that; it saves most of the time of an image write.
function disk({ path, bus, serial, failsWrites }: Disk, index: number): string[] {
  const file = failsWrites ? failingWrites(path) : `file=${path}`;
  const drive = `${file},if=none,id=disk${index},format=raw,cache=unsafe,discard=unmap,aio=threads`;
  const model = bus === 'nvme' ? 'nvme' : 'virtio-blk-pci';
  return ['-drive', drive, '-device', `${model},drive=disk${index},serial=${serial},bootindex=${index + 1}`];
}

/** By QEMU's blkdebug: EIO, as of a device. */
function failingWrites(path: string): string {
  const rule = { event: 'none', iotype: 'write', errno: '5' };
  const rules = Object.entries(rule).map(([name, value]) => `file.inject-error.0.${name}=${value}`);
  return ['file.driver=blkdebug', 'file.image.driver=file', `file.image.filename=${path}`, ...rules].join();
}

function serialConsole({ serialLog }: Hardware, tcpPort: number): string[] {
  const socket = `socket,id=serial,host=127.0.0.1,port=${tcpPort},server=on,wait=off`;
  return ['-chardev', `${socket},logfile=${serialLog},logappend=on`, '-serial', 'chardev:serial'];
}

function variables({ directory }: Hardware): string {
  return join(directory, 'variables.fd');
}
