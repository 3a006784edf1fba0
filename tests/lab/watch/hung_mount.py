"""A file system whose server never answers, for a process that cannot be killed.

Runs inside a VM with the system's Python: `python3 hung_mount.py DIRECTORY`. A request that the server has read and not
answered holds its caller in the kernel, whatever signal it gets (fuse: "request is already in userspace, wait it out").
"""

import ctypes
import os
import struct
import sys

FUSE_INIT = 26
HEADER = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding


def main(directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hung", os.fsencode(directory), b"fuse", ctypes.c_ulong(0), options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount at {directory}")
    while True:
        request = os.read(device, 1 << 17)
        _, opcode, unique, *_ = HEADER.unpack_from(request)
        if opcode == FUSE_INIT:
            answer = struct.pack("<IIII", 7, 31, 0, 0) + struct.pack("<HHIIHHI", 1, 1, 1 << 16, 1, 1, 0, 0) + bytes(28)
            os.write(device, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)


if __name__ == "__main__":
    main(sys.argv[1])
