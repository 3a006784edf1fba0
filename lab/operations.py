"""What one can do to the machines of a lab from outside, as an accident or an operator would.

A node is named `demo/a` or by its VM, `demo-a`. None of this goes through ARM: a power failure or a cut cable is not an
operation of the customer. Partition targets:

- `demo/a`: the node hears nobody and nobody hears it;
- `demo/link`: the two nodes do not hear each other;
- `demo/witness`, `demo/a:witness`: both nodes, or one, cannot reach storage;
- `demo/control-plane`, `demo/a:control-plane`: likewise the Functions host;
- `demo/a:probe`: the load balancer's probes do not reach the node.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.arm.provider import ProviderFailure
from lab.control import CommandRefused
from lab.fabric.machines import Node
from lab.fabric.provider import FabricProvider
from lab.fabric.ruleset import PROBE_SOURCE, Cut
from lab.vm.machine import NotRunning


@dataclass(frozen=True, slots=True)
class ServicePorts:
    """Where on the service address a partition cuts."""

    address: str
    storage: tuple[int, ...]
    control_plane: int | None


class Operations:
    def __init__(self, provider: FabricProvider, ports: ServicePorts) -> None:
        self._provider = provider
        self._ports = ports

    def commands(self) -> Mapping[str, Any]:
        return {
            "nodes": self.nodes,
            "balancers": self.balancers,
            "kill": self.kill,
            "start": self.start,
            "partition": self.partition,
            "heal": self.heal,
            "freeze": self.freeze,
            "thaw": self.thaw,
        }

    # --- facts -------------------------------------------------------------------------------------------------------
    async def nodes(self) -> list[dict[str, Any]]:
        return [self._describe(node) for node in self._provider.machines.all()]

    def _describe(self, node: Node) -> dict[str, Any]:
        vm, machine = node.definition, node.machine
        return {
            "name": vm.name,
            "vmId": vm.id,
            "standsFor": vm.image if vm.os_type == "Windows" else None,
            "power": self._provider.machines.power_state(vm.id).value,
            "privateAddress": vm.nics[0].private_address,
            "publicAddress": vm.nics[0].public_address,
            "namespace": machine.spec.namespace,
            "directory": str(machine.spec.directory),
            "osDisk": str(machine.spec.os_disk),
            "cgroup": str(machine.group.path),
        }

    async def balancers(self) -> list[dict[str, Any]]:
        found = []
        for balancer in self._provider.balancers():
            health = await self._provider.probe_health(balancer.id)
            found.append(
                {
                    "name": balancer.name,
                    "addresses": [frontend.address for frontend in balancer.frontends],
                    "ports": [rule.frontend_port for rule in balancer.rules],
                    "members": [{"name": h.member, "up": h.up, "sinceS": h.since_s, "probe": h.probe} for h in health],
                }
            )
        return found

    # --- power -------------------------------------------------------------------------------------------------------
    async def kill(self, node: str) -> dict[str, Any]:
        """Hard power-off: every process of the VM is gone when this returns."""
        found = self._find(node)
        await self._provider.machines.power_off(found.definition.id, skip_shutdown=True)
        return self._describe(found)

    async def start(self, node: str) -> dict[str, Any]:
        found = self._find(node)
        try:
            await self._provider.machines.start(found.definition.id)
        except ProviderFailure as error:
            raise CommandRefused(str(error)) from error
        return self._describe(found)

    async def restart(self, node: str) -> dict[str, Any]:
        """In order: the guest shuts down, then boots."""
        found = self._find(node)
        await self._provider.machines.restart(found.definition.id)
        return self._describe(found)

    async def shut_down(self, node: str) -> dict[str, Any]:
        found = self._find(node)
        await self._provider.machines.power_off(found.definition.id, skip_shutdown=False)
        return self._describe(found)

    async def vm_id(self, node: str) -> tuple[str, str]:
        definition = self._find(node).definition
        return definition.id, definition.name

    async def freeze(self, node: str) -> dict[str, Any]:
        """The VM stops where it is and is not heard, as during a pause of its host."""
        return await self._frozen(node, True)

    async def thaw(self, node: str) -> dict[str, Any]:
        return await self._frozen(node, False)

    async def _frozen(self, node: str, frozen: bool) -> dict[str, Any]:
        found = self._find(node)
        router = self._provider.router_of(found.definition)
        try:
            found.machine.freeze(frozen)
        except NotRunning as error:
            raise CommandRefused(str(error)) from None
        for nic in found.definition.nics:
            router.silence(nic.private_address, frozen)
        await router.refresh()
        return self._describe(found)

    # --- partitions --------------------------------------------------------------------------------------------------
    async def partition(self, target: str) -> list[str]:
        """Sentences on what is cut now."""
        nodes, what = self._target(target)
        router = self._provider.router_of(nodes[0].definition)
        addresses = [nic.private_address for node in nodes for nic in node.definition.nics]
        match what:
            case "all":
                for address in addresses:
                    router.isolate(address, True)
                said = [f"{address} is cut off from everyone" for address in addresses]
            case "link":
                pairs = [Cut(one, other) for one in addresses for other in addresses if one < other]
                router.cut(pairs)
                said = [f"{cut.one} and {cut.other} do not hear each other" for cut in pairs]
            case "witness":
                said = self._cut_service(router.cut, addresses, self._ports.storage, "storage")
            case "control-plane":
                if self._ports.control_plane is None:
                    raise CommandRefused("this lab runs without the Functions host")
                said = self._cut_service(router.cut, addresses, (self._ports.control_plane,), "the Functions host")
            case "probe":
                router.cut(Cut(address, PROBE_SOURCE) for address in addresses)
                said = [f"probes do not reach {address}" for address in addresses]
            case other:
                words = ("link", "witness", "control-plane", "probe")
                near = difflib.get_close_matches(other, words, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise CommandRefused(f"unknown partition {other!r} in {target!r}; there are {', '.join(words)}{hint}")
        await router.refresh()
        return said

    def _cut_service(self, cut: Any, addresses: Iterable[str], ports: Iterable[int], name: str) -> list[str]:
        places = list(addresses)
        cut([Cut(address, self._ports.address, port) for address in places for port in ports])
        return [f"{address} cannot reach {name}" for address in places]

    async def heal(self, cluster: str = "") -> list[str]:
        """All partitions go, or those of one cluster; frozen VMs stay frozen and unheard."""
        routers = list(self._provider.routers())
        if cluster:
            nodes, _ = self._target(f"{cluster}/link")
            routers = [self._provider.router_of(nodes[0].definition)]
        for router in routers:
            router.heal()
            await router.refresh()
        return [f"all partitions{' of ' if cluster else ''}{cluster} are healed"]

    # --- names -------------------------------------------------------------------------------------------------------
    def _find(self, name: str) -> Node:
        wanted = name.replace("/", "-").lower()
        nodes = self._provider.machines.all()
        for node in nodes:
            if node.definition.name.lower() == wanted:
                return node
        known = ", ".join(sorted(node.definition.name for node in nodes)) or "none yet"
        raise CommandRefused(f"no VM {wanted!r} in this lab; there are: {known}")

    def _target(self, target: str) -> tuple[list[Node], str]:
        place, colon, what = target.partition(":")
        if colon:
            return [self._find(place)], what
        cluster, slash, word = place.partition("/")
        if slash and word not in {"a", "b", "c", "d"}:
            members = [n for n in self._provider.machines.all() if n.definition.name.lower().startswith(f"{cluster}-")]
            if not members:
                raise CommandRefused(f"no VM of a cluster {cluster!r} in this lab")
            return members, word
        return [self._find(place)], "all"
