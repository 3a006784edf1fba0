"""A wire of a chosen length between two network namespaces: two TUN devices and a delay, in user space.

Problem: netem is a kernel module that many kernels lack. Here every packet that enters one device leaves the other one
`delay_us` later, in order. Segmentation offload is on (packets of up to 64 KiB with their virtio header pass as they
are), so that the relay limits no candidate's bandwidth.

Limits: one process per direction; beyond `QUEUE_PACKETS_MAX` packets under way it drops, as a switch would. It asks
for real-time scheduling, because a wire does not wait for a processor; without the permission the delay grows under
load.

    python -m bench.mirror.relay --namespaces /run/netns/a /run/netns/b --device far --delay-us 250

prints `ready` when both devices exist, and ends with its parent.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
import sys
import time
from collections import deque
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
# TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
_OFFLOAD: Final = 0x01 | 0x02 | 0x04
_PACKET_BYTES_MAX: Final = 65536 + 512
QUEUE_PACKETS_MAX: Final = 8192
_BATCH_PACKETS: Final = 64
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_TIMERSLACK: Final = 29

_libc: Final = ctypes.CDLL(None, use_errno=True)


def open_device(namespace: str, device: str) -> int:
    """A TUN device in the namespace of that path. The calling process is in that namespace afterwards."""
    fd = os.open(namespace, os.O_RDONLY)
    try:
        os.setns(fd, os.CLONE_NEWNET)
    finally:
        os.close(fd)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
    fcntl.ioctl(tun, _TUNSETIFF, request)
    fcntl.ioctl(tun, _TUNSETOFFLOAD, _OFFLOAD)
    return tun


def take(source: int, due_s: float, under_way: deque[tuple[float, bytes]]) -> None:
    """Reads what is there, up to one batch; what does not fit the queue is dropped."""
    for _ in range(_BATCH_PACKETS):
        try:
            packet = os.read(source, _PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        if len(under_way) < QUEUE_PACKETS_MAX:
            under_way.append((due_s, packet))


def deliver(sink: int, packet: bytes) -> None:
    try:
        os.write(sink, packet)
    except OSError as error:
        if error.errno != errno.EIO:  # EIO: the device there is down, and the packet is lost
            raise


def carry(source: int, sink: int, delay_s: float) -> None:
    """Forwards packets for ever."""
    under_way: deque[tuple[float, bytes]] = deque()
    while True:
        timeout_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        readable, _, _ = select.select([source], [], [], timeout_s)
        now_s = time.monotonic()
        if readable:
            take(source, now_s + delay_s, under_way)
        while under_way and under_way[0][0] <= now_s:
            deliver(sink, under_way.popleft()[1])


def be_punctual() -> None:
    """Wakes up to the microsecond, and before ordinary processes where that is allowed. Ends with the parent."""
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError as error:
        print(f"relay: no real-time scheduling ({error}); the delay grows under load", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.mirror.relay")
    parser.add_argument("--namespaces", nargs=2, required=True, metavar="PATH")
    parser.add_argument("--device", required=True)
    parser.add_argument("--delay-us", type=int, required=True, help="delay of one direction")
    arguments = parser.parse_args()
    be_punctual()
    one, other = (open_device(namespace, arguments.device) for namespace in arguments.namespaces)
    delay_s = arguments.delay_us / 1_000_000
    print("ready", flush=True)
    if os.fork() == 0:
        be_punctual()
        carry(other, one, delay_s)
    carry(one, other, delay_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
