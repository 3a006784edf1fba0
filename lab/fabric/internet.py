"""The lab's Internet: one bridge in a namespace, 198.18.<n>.0/24 (RFC 2544, reserved for benchmarks).

The machine's root namespace joins it as 198.18.<n>.1, the service address at which storage, Functions host and ARM
endpoint listen. Routers of virtual networks get .2–.15, public addresses are .16–.250. `<n>` is the lab id: making the
namespace `mp-<n>-fabric` claims it, so that several labs coexist.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from lab.fabric.commands import CommandFailed, ip_batch, run_now
from lab.fabric.namespaces import DIRECTORY, delete, lab_prefix

FIRST_LAB, LAST_LAB = 1, 199
ROUTER_HOSTS: Final = range(2, 16)
PUBLIC_HOSTS: Final = range(16, 251)


class NoAddressLeft(RuntimeError):
    """The pool is used up; delete public addresses or start another lab."""


class NoLabLeft(RuntimeError):
    """All 198.18.n.0/24 are taken."""


@dataclass
class AddressPool:
    """Host numbers of the lab's /24, handed out lowest first and remembered by owner."""

    lab: int
    hosts: range
    _owned: dict[str, IPv4Address] = field(default_factory=dict)

    def allocate(self, owner: str) -> str:
        """The owner's address: the same again until released. Raises `NoAddressLeft`."""
        key = owner.lower()
        if key not in self._owned:
            taken = set(self._owned.values())
            for host in self.hosts:
                candidate = IPv4Address(f"198.18.{self.lab}.{host}")
                if candidate not in taken:
                    self._owned[key] = candidate
                    break
            else:
                raise NoAddressLeft(f"all {len(self.hosts)} addresses 198.18.{self.lab}.{self.hosts} are in use")
        return str(self._owned[key])

    def release(self, owner: str) -> None:
        self._owned.pop(owner.lower(), None)


def service_address(lab_id: str) -> str:
    return f"198.18.{lab_id}.1"


def fabric_namespace(lab_id: str) -> str:
    return f"{lab_prefix(lab_id)}fabric"


def service_link(lab_id: str) -> str:
    """Name of the veth end in the machine's root namespace."""
    return f"mp{lab_id}-service"


def claim_lab_id() -> str:
    """Make the namespace of the first free lab id and return the id. Blocking; raises `NoLabLeft`."""
    taken = run_now(["ip", "-4", "-o", "address", "show"]) + run_now(["ip", "-4", "route", "show"])
    for number in range(FIRST_LAB, LAST_LAB + 1):
        name = fabric_namespace(str(number))
        if f"198.18.{number}." in taken or (DIRECTORY / name).exists():
            continue
        try:
            run_now(["ip", "netns", "add", name])
        except CommandFailed:
            if (DIRECTORY / name).exists():
                continue  # another lab was faster
            raise
        return str(number)
    raise NoLabLeft(f"198.18.{FIRST_LAB}.0/24 to 198.18.{LAST_LAB}.0/24 are all in use; stop a lab: python -m lab down")


async def build(lab_id: str) -> None:
    """Bridge and service link of a claimed lab id."""
    namespace, link = fabric_namespace(lab_id), service_link(lab_id)
    await ip_batch(namespace, ["link set lo up", "link add internet type bridge", "link set internet up"])
    await ip_batch(None, [f"link add {link} type veth peer name service netns {namespace}"])
    await ip_batch(namespace, ["link set service master internet up"])
    await ip_batch(None, [f"address add {service_address(lab_id)}/24 dev {link}", f"link set {link} up"])


async def remove(lab_id: str) -> None:
    await asyncio.to_thread(remove_service_link, lab_id)
    await delete(fabric_namespace(lab_id))


def remove_service_link(lab_id: str) -> None:
    """Blocking; the link may outlive its namespace for a moment. Does nothing when it is not there."""
    if not Path(f"/sys/class/net/{service_link(lab_id)}").exists():
        return
    try:
        run_now(["ip", "link", "delete", service_link(lab_id)])
    except CommandFailed:
        if Path(f"/sys/class/net/{service_link(lab_id)}").exists():
            raise
