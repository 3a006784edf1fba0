"""One virtual network: a namespace that routes between its VMs, the Internet and the load balancer.

Each VM hangs on a link of its own; there is no shared segment, as on Azure: every packet crosses this router, and the
subnet's first address answers as the gateway. The link lives for one boot of the VM: pulled before a hard power-off, so
that the dying sockets tell nobody (a machine without power sends no RST), and made anew with an empty namespace.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from lab.arm.provider import Interface, Network, SecurityGroup
from lab.fabric import namespaces
from lab.fabric.commands import ip_batch, nft, run
from lab.fabric.internet import fabric_namespace
from lab.fabric.namespaces import short_hash
from lab.fabric.ruleset import EXTERNAL, METADATA, PROBE_SOURCE, TRANSPARENT_MARK, Cut, Frontend, View, render

TRANSPARENT_TABLE: Final = 100
SYSCTLS: Final = {"ip_forward": 1, "conf/all/rp_filter": 0, "conf/default/rp_filter": 0, "ip_nonlocal_bind": 1}
_link_numbers = itertools.count(1)


class Router:
    """Holds the wish for one network and makes it true; all methods may be repeated."""

    def __init__(self, lab_id: str, network: Network, address: str) -> None:
        self.namespace = namespaces.name_for(lab_id, "net", network.id)
        self._lab_id = lab_id
        self._network = network
        self._address = address
        self._interfaces: dict[str, Interface] = {}
        self._groups: dict[str, SecurityGroup] = {}
        self._frontends: dict[str, tuple[Frontend, ...]] = {}
        self._cuts: set[Cut] = set()
        self._isolated: set[str] = set()
        self._silent: set[str] = set()
        self._links: dict[str, str] = {}  # private address → link name
        self._external_addresses: set[str] = set()
        self._local_addresses: set[str] = set()
        self._prefix_routes: set[str] = set()
        self._lock = asyncio.Lock()

    # --- life ------------------------------------------------------------------------------------------------------
    async def build(self) -> None:
        lab = self._lab_id
        await namespaces.create(self.namespace)
        port = f"r{short_hash(self._network.id)}"
        lines = [f"link add {EXTERNAL} type veth peer name {port} netns {fabric_namespace(lab)}"]
        lines += [f"link set {EXTERNAL} up", f"address add {self._address}/24 dev {EXTERNAL}"]
        lines += [f"address add {local}/32 dev lo" for local in (METADATA, PROBE_SOURCE)]
        lines += [f"route add default via 198.18.{lab}.1"]
        lines += [f"rule add fwmark {TRANSPARENT_MARK} lookup {TRANSPARENT_TABLE}"]
        lines += [f"route add local default dev lo table {TRANSPARENT_TABLE}"]
        await ip_batch(self.namespace, lines)
        await ip_batch(fabric_namespace(lab), [f"link set {port} master internet up"])
        settings = " ".join(f"echo {value} > /proc/sys/net/ipv4/{name};" for name, value in SYSCTLS.items())
        await run(["ip", "netns", "exec", self.namespace, "sh", "-c", settings])
        await self._announce([self._address])
        await self.refresh()

    async def remove(self) -> None:
        # The link first: with the namespace it would go too, but later, and another network could not take its name.
        port = f"r{short_hash(self._network.id)}"
        links = await run(["ip", "-n", fabric_namespace(self._lab_id), "-o", "link", "show"])
        if f" {port}@" in links:
            await run(["ip", "-n", fabric_namespace(self._lab_id), "link", "delete", port])
        await namespaces.delete(self.namespace)

    # --- wishes ----------------------------------------------------------------------------------------------------
    def set_network(self, network: Network) -> None:
        self._network = network

    def set_interface(self, interface: Interface) -> None:
        self._interfaces[interface.nic_id.lower()] = interface

    def drop_interface(self, nic_id: str) -> None:
        self._interfaces.pop(nic_id.lower(), None)

    def set_groups(self, groups: Iterable[SecurityGroup]) -> None:
        self._groups = {group.id.lower(): group for group in groups}

    def set_frontends(self, balancer_id: str, frontends: tuple[Frontend, ...]) -> None:
        self._frontends[balancer_id.lower()] = frontends

    def drop_frontends(self, balancer_id: str) -> None:
        self._frontends.pop(balancer_id.lower(), None)

    def cut(self, cuts: Iterable[Cut]) -> None:
        self._cuts |= set(cuts)

    def isolate(self, address: str, isolated: bool) -> None:
        (self._isolated.add if isolated else self._isolated.discard)(address)

    def silence(self, address: str, silent: bool) -> None:
        """Of a machine that stands still: until it goes on, or boots anew; no partition, so `heal` does not end it."""
        (self._silent.add if silent else self._silent.discard)(address)

    def heal(self) -> None:
        self._cuts.clear()
        self._isolated.clear()

    # --- effect ----------------------------------------------------------------------------------------------------
    async def refresh(self) -> None:
        """Addresses, then rules. Raises `RuleUnsupported`, `CommandFailed`."""
        async with self._lock:
            view = self._view()
            await self._apply_addresses(view)
            await nft(self.namespace, render(view))

    def _view(self) -> View:
        return View(
            address=self._address,
            prefixes=self._network.address_prefixes,
            subnets=self._network.subnets,
            interfaces=tuple(self._interfaces.values()),
            groups=dict(self._groups),
            frontends=tuple(itertools.chain.from_iterable(self._frontends.values())),
            cuts=tuple(sorted(self._cuts, key=dataclasses.astuple)),
            isolated=frozenset(self._isolated | self._silent),
        )

    async def _apply_addresses(self, view: View) -> None:
        inside = [ip_network(prefix) for prefix in view.prefixes]
        fronts = {frontend.address for frontend in view.frontends}
        private_fronts = {a for a in fronts if any(ip_network(a).subnet_of(net) for net in inside)}  # type: ignore[arg-type]
        external = {item.public_address for item in view.interfaces if item.public_address}
        external |= {address for subnet in view.subnets for address in subnet.nat_addresses}
        external |= fronts - private_fronts
        local = {gateway_of(subnet.address_prefix) for subnet in view.subnets} | private_fronts
        lines = [f"address add {a}/32 dev {EXTERNAL}" for a in sorted(external - self._external_addresses)]
        lines += [f"address delete {a}/32 dev {EXTERNAL}" for a in sorted(self._external_addresses - external)]
        lines += [f"address add {a}/32 dev lo" for a in sorted(local - self._local_addresses)]
        lines += [f"address delete {a}/32 dev lo" for a in sorted(self._local_addresses - local)]
        # Packets for a VM that is off vanish here instead of taking the default route.
        wanted = set(view.prefixes)
        lines += [f"route add blackhole {prefix}" for prefix in sorted(wanted - self._prefix_routes)]
        lines += [f"route delete blackhole {prefix}" for prefix in sorted(self._prefix_routes - wanted)]
        await ip_batch(self.namespace, lines)
        await self._announce(sorted(external - self._external_addresses))
        self._external_addresses, self._local_addresses, self._prefix_routes = external, local, wanted

    async def _announce(self, addresses: list[str]) -> None:
        """Addresses are used again by the next network: whoever knew one at the router before has to be told."""
        if addresses:
            await asyncio.to_thread(namespaces.announce, self.namespace, EXTERNAL, addresses)

    # --- links of VMs ----------------------------------------------------------------------------------------------
    async def plug(self, interface: Interface, namespace: str, device: str) -> None:
        """Join a VM's namespace, with its address and the gateway as only neighbour."""
        await self.unplug(interface)
        link = f"v{next(_link_numbers)}-{short_hash(interface.nic_id, 4)}"
        address, gateway = interface.private_address, gateway_of(interface.subnet_prefix)
        length = ip_network(interface.subnet_prefix).prefixlen
        await ip_batch(
            self.namespace,
            [
                f"link add {link} type veth peer name {device} address {interface.mac} netns {namespace}",
                f"link set {link} up",
                f"route add {address}/32 dev {link}",
            ],
        )
        self._links[address] = link
        lines = [f"address add {address}/{length} dev {device} noprefixroute", f"link set {device} up"]
        lines += [f"route add {gateway}/32 dev {device} scope link src {address}"]
        if interface.primary:
            lines += [f"route add default via {gateway} dev {device} src {address}"]
        await ip_batch(namespace, lines)
        if address in self._silent:
            self._silent.discard(address)
            await self.refresh()

    async def unplug(self, interface: Interface) -> None:
        """Pull the cable at once; does nothing when it is not plugged."""
        link = self._links.pop(interface.private_address, None)
        if link is not None:
            await run(["ip", "-n", self.namespace, "link", "delete", link])


def gateway_of(prefix: str) -> str:
    """Azure: the first address of a subnet is the gateway."""
    return str(ip_network(prefix)[1])
