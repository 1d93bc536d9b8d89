import koffi from 'koffi';

import { RackstartError } from './errors.ts';
import { checked, closedOnFailure, libc, setOption } from './native-socket.ts';

/** One instruction of a classic BPF program: struct sock_filter of <linux/filter.h>. */
export interface BpfInstruction {
  readonly code: number;
  /** Instructions to skip when a jump's condition holds, and when not. */
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

export interface PacketSocket {
  /** Sends a whole Ethernet frame, our own MAC in it; nothing on this host hears it. */
  send(frame: Uint8Array): void;
  /** The next frame that was received, from its destination MAC on; undefined when none waits. Never blocks. */
  receive(): Buffer | undefined;
  close(): void;
}

/**
 * Hears the Ethernet frames of others on one interface (packet(7)), as far as a BPF program lets them through: the one
 * place where the sender's MAC is seen. What this host sends is not heard. Node cannot watch such a descriptor: the owner
 * polls `receive`.
 *
 * Throws `config.invalid` when there is no such device, `host.missing` without CAP_NET_RAW or the family AF_PACKET.
 */
export function openPacketSocket(device: string, filter: readonly BpfInstruction[]): PacketSocket {
  const flags = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
  // Protocol 0 hears nothing until bind(): no frame comes in before the filter is there.
  const fd = checked(libc.socket(AF_PACKET, flags, 0), `open a packet socket for device ${device}`);
  const name = Buffer.alloc(SOCKADDR_LL_LENGTH);
  closedOnFailure(fd, () => {
    const index = libc.if_nametoindex(device);
    if (index === 0) throw new RackstartError('config.invalid', `there is no device ${device}`);
    const program = { len: filter.length, filter };
    const attached = attachFilter(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, koffi.sizeof(programType));
    checked(attached, `filter the frames of device ${device}`);
    setOption(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1, `hear others alone on device ${device}`);
    name.writeUInt16LE(AF_PACKET, 0);
    name.writeUInt16BE(ETH_P_IP, 2);
    name.writeInt32LE(index, 4);
    checked(libc.bind(fd, name, name.length), `hear the frames of device ${device}`);
  });
  const buffer = Buffer.alloc(LONGEST_FRAME);
  const sender = Buffer.alloc(SOCKADDR_LL_LENGTH);

  return {
    send(frame) {
      const sent = libc.sendto(fd, frame, frame.length, 0, name, name.length);
      checked(sent, `send a frame on device ${device}`);
    },

    receive() {
      const length = libc.recvfrom(fd, buffer, buffer.length, 0, sender, Buffer.from([sender.length, 0, 0, 0]));
      // The device's going down is reported here too; the next call gives what really waits.
      return length < 0 ? undefined : Buffer.from(buffer.subarray(0, length));
    },

    close: () => void libc.close(fd),
  };
}

// <bits/socket.h>, <linux/if_packet.h>: the values of Linux on x86-64 and arm64.
const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SOL_PACKET = 263;
// Linux 4.20.
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_IP = 0x0800;
const SOCKADDR_LL_LENGTH = 20;
const LONGEST_FRAME = 2048;

const instructionType = koffi.struct({ code: 'uint16', jt: 'uint8', jf: 'uint8', k: 'uint32' });
const programType = koffi.struct({ len: 'uint16', filter: koffi.pointer(instructionType) });
const attachFilter = koffi
  .load(null)
  .func('setsockopt', 'int', ['int', 'int', 'int', koffi.pointer(programType), 'uint32_t']) as (
  fd: number,
  level: number,
  option: number,
  program: { len: number; filter: readonly BpfInstruction[] },
  length: number,
) => number;
