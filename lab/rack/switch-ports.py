"""switch-ports NAME DEVICE...: says by LLDP, twice a second, that each device is a port of the switch NAME.

A bridge of Linux says nothing of itself, and keeps what others say to it: these frames go to whom hangs on the device, alone.
"""

import socket
import struct
import sys
import time


def field(kind, value):
    return struct.pack(">H", kind << 9 | len(value)) + value


def frame(name, device):
    ids = field(1, b"\x07" + name) + field(2, b"\x05" + device) + field(3, struct.pack(">H", 120))
    header = bytes.fromhex("0180c200000e" "02000077ffff" "88cc")
    return (header + ids + field(5, name) + field(0, b"")).ljust(60, b"\0")


name, *devices = sys.argv[1:]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
print("speaking", flush=True)
while True:
    for device in devices:
        try:
            wire.sendto(frame(name.encode(), device.encode()), (device, 0x88CC))
        except OSError:
            pass  # nobody hangs on it: that machine is off
    time.sleep(0.5)
