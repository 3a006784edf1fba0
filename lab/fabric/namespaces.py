"""Named network namespaces of a lab, and sockets inside them.

All names begin with `mp-<lab id>-`, so that what a dead lab left can be found by name. A socket keeps the namespace it
was made in: a thread enters the namespace, makes the socket, and ends; the caller serves it from where it is.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from lab.fabric.commands import CommandFailed, run, run_now

DIRECTORY: Final = Path("/run/netns")
LISTEN_BACKLOG: Final = 128
ETHERTYPE_ARP: Final = 0x0806


def lab_prefix(lab_id: str) -> str:
    return f"mp-{lab_id}-"


def short_hash(text: str, length: int = 8) -> str:
    return hashlib.sha256(text.lower().encode()).hexdigest()[:length]


def name_for(lab_id: str, kind: str, resource_id: str) -> str:
    """Readable and unique: the resource's last segment and a hash of its whole id."""
    return f"{lab_prefix(lab_id)}{kind}-{resource_id.rpartition('/')[2].lower()}-{short_hash(resource_id, 4)}"


async def create(name: str) -> None:
    """A namespace with its loopback up; one that is there is made anew."""
    await delete(name)
    await run(["ip", "netns", "add", name])
    await run(["ip", "-n", name, "link", "set", "lo", "up"])


async def delete(name: str) -> None:
    """Does nothing when it is not there."""
    if (DIRECTORY / name).exists():
        await run(["ip", "netns", "delete", name])


def of_lab(lab_id: str) -> list[str]:
    if not DIRECTORY.is_dir():
        return []
    return sorted(entry.name for entry in DIRECTORY.iterdir() if entry.name.startswith(lab_prefix(lab_id)))


def delete_all_of(lab_id: str) -> list[str]:
    """Blocking, for cleaning up after a dead lab; the names that were removed."""
    removed = of_lab(lab_id)
    for name in removed:
        try:
            run_now(["ip", "netns", "delete", name])
        except CommandFailed:
            if (DIRECTORY / name).exists():
                raise
    return removed


def enter(name: str) -> None:
    """Move the calling thread into the namespace."""
    with (DIRECTORY / name).open() as file:
        os.setns(file.fileno(), os.CLONE_NEWNET)


def _made_in(name: str, make: Callable[[], socket.socket]) -> socket.socket:
    """The socket that `make` returns when a thread inside the namespace calls it. Raises its OSError."""
    result: list[socket.socket] = []
    failure: list[OSError] = []

    def inside() -> None:
        try:
            enter(name)
            result.append(make())
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=inside, name=f"inside {name}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def listen_in(name: str, host: str, port: int) -> socket.socket:
    """A listening TCP socket inside the namespace, to be served from outside. Raises OSError."""

    def make() -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(LISTEN_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener

    return _made_in(name, make)


def announce(name: str, device: str, addresses: Iterable[str]) -> None:
    """Tell the device's segment by gratuitous ARP (RFC 5227, 3) that the IPv4 addresses are here now. Raises OSError.

    A neighbour that knew an address at another device goes on sending there: measured up to a minute, because Linux
    doubts such an entry after 15 to 45 s, asks for 8 s, and a confirmation in between counts for the old device.
    """

    def make() -> socket.socket:
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            link.bind((device, 0))
        except OSError:
            link.close()
            raise
        return link

    with _made_in(name, make) as link:
        mac: bytes = link.getsockname()[4]
        for address in addresses:
            link.send(gratuitous_arp(mac, address))


def gratuitous_arp(mac: bytes, address: str) -> bytes:
    """An Ethernet frame: the ARP request of `address` for itself, to everyone."""
    here = socket.inet_aton(address)
    ethernet = struct.pack("!6s6sH", b"\xff" * 6, mac, ETHERTYPE_ARP)
    return ethernet + struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, here, bytes(6), here)
