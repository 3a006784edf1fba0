"""The fabric behind the lab's ARM endpoint: implements `lab.arm.provider.Provider`.

State lives in this process and in the kernel; it ends with the lab. Every `apply_*` keeps the wish, then makes the
router or HAProxy follow it, so a repetition repairs what a failure left half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.arm.provider import (
    CommandResult,
    Disk,
    Interface,
    LoadBalancer,
    Network,
    PowerState,
    ProviderFailure,
    SecurityGroup,
    VmDefinition,
)
from lab.fabric import internet
from lab.fabric.cgroups import Group
from lab.fabric.commands import CommandFailed
from lab.fabric.internet import PUBLIC_HOSTS, ROUTER_HOSTS, AddressPool, NoAddressLeft
from lab.fabric.machines import Machines
from lab.fabric.namespaces import short_hash
from lab.fabric.router import Router
from lab.fabric.ruleset import RuleUnsupported
from lab.lb.balancer import Balancer, BalancerFailed, MemberHealth
from lab.lb.config import BalancerUnsupported, frontends_of

Stop = Callable[[], Awaitable[None]]
MetadataService = Callable[[str, str], Awaitable[Stop]]
"""Called with a router's namespace and its network's id; answers 169.254.169.254 there until stopped."""


@dataclass
class _Balanced:
    wish: LoadBalancer
    process: Balancer | None = None


class FabricProvider:
    def __init__(
        self,
        *,
        lab_id: str,
        directory: Path,
        runtime: Path,
        group: Group,
        ca_pem: str,
        wheelhouse: Path,
        metadata: MetadataService | None = None,
    ) -> None:
        """`directory` holds disks and consoles; `runtime`, a short path, holds sockets."""
        self.lab_id = lab_id
        self.machines = Machines(lab_id=lab_id, directory=directory, group=group, ca_pem=ca_pem, wheelhouse=wheelhouse)
        self._runtime = runtime
        self._group = group
        self._metadata = metadata
        self._public = AddressPool(int(lab_id), PUBLIC_HOSTS)
        self._routing = AddressPool(int(lab_id), ROUTER_HOSTS)
        self._routers: dict[str, Router] = {}
        self._metadata_stops: dict[str, Stop] = {}
        self._groups: dict[str, SecurityGroup] = {}
        self._balancers: dict[str, _Balanced] = {}
        self._interface_network: dict[str, str] = {}
        self._lock = asyncio.Lock()  # routers and balancers are made one at a time

    # --- addresses ---------------------------------------------------------------------------------------------------
    async def allocate_public_address(self, resource_id: str) -> str:
        try:
            return self._public.allocate(resource_id)
        except NoAddressLeft as error:
            raise ProviderFailure("PublicIPCountLimitReached", str(error)) from None

    async def release_public_address(self, resource_id: str, address: str) -> None:
        self._public.release(resource_id)

    # --- network -----------------------------------------------------------------------------------------------------
    async def apply_network(self, network: Network, /) -> None:
        key = network.id.lower()
        async with self._lock:
            router = self._routers.get(key)
            if router is None:
                try:
                    router = Router(self.lab_id, network, self._routing.allocate(key))
                    await router.build()
                except (NoAddressLeft, CommandFailed) as error:
                    raise ProviderFailure("InternalServerError", f"network {network.name!r}: {error}") from error
                router.set_groups(self._groups.values())
                self._routers[key] = router
                if self._metadata is not None:
                    self._metadata_stops[key] = await self._metadata(router.namespace, network.id)
        router.set_network(network)
        await self._refresh([router])

    async def delete_network(self, vnet_id: str, /) -> None:
        key = vnet_id.lower()
        async with self._lock:
            stop = self._metadata_stops.pop(key, None)
            if stop is not None:
                await stop()
            router = self._routers.pop(key, None)
            if router is not None:
                await router.remove()
            self._routing.release(key)

    async def apply_security_group(self, group: SecurityGroup, /) -> None:
        self._groups[group.id.lower()] = group
        await self._groups_changed()

    async def delete_security_group(self, group_id: str, /) -> None:
        self._groups.pop(group_id.lower(), None)
        await self._groups_changed()

    async def _groups_changed(self) -> None:
        for router in self._routers.values():
            router.set_groups(self._groups.values())
        await self._refresh(self._routers.values())

    async def apply_interface(self, interface: Interface, /) -> None:
        router = self._router(interface.vnet_id)
        self._interface_network[interface.nic_id.lower()] = interface.vnet_id
        router.set_interface(interface)
        await self._refresh([router])

    async def delete_interface(self, nic_id: str, /) -> None:
        vnet_id = self._interface_network.pop(nic_id.lower(), None)
        router = None if vnet_id is None else self._routers.get(vnet_id.lower())
        if router is not None:
            router.drop_interface(nic_id)
            await self._refresh([router])

    def _router(self, vnet_id: str) -> Router:
        router = self._routers.get(vnet_id.lower())
        if router is None:
            raise ProviderFailure("NetworkNotFound", f"the lab has no network {vnet_id}")
        return router

    async def _refresh(self, routers: Iterable[Router]) -> None:
        for router in list(routers):
            try:
                await router.refresh()
            except RuleUnsupported as error:
                raise ProviderFailure("SecurityRuleNotSupportedInLab", str(error)) from error
            except CommandFailed as error:
                raise ProviderFailure("InternalServerError", str(error)) from error

    # --- load balancer -----------------------------------------------------------------------------------------------
    async def apply_load_balancer(self, balancer: LoadBalancer, /) -> None:
        key = balancer.id.lower()
        known = self._balancers.setdefault(key, _Balanced(balancer))
        before, known.wish = known.wish, balancer
        if before.vnet_id is not None and (balancer.vnet_id or "").lower() != before.vnet_id.lower():
            await self._unbalance(key, before)
        if balancer.vnet_id is None or not balancer.rules:
            await self._unbalance(key, balancer)
            return
        router = self._router(balancer.vnet_id)
        try:
            router.set_frontends(key, frontends_of(balancer))
            await self._refresh([router])
            if known.process is None:
                known.process = Balancer(self._runtime / f"lb-{short_hash(key)}", router.namespace, self._group)
            await known.process.apply(balancer)
        except BalancerUnsupported as error:
            raise ProviderFailure("LoadBalancerNotSupportedInLab", str(error)) from error
        except BalancerFailed as error:
            raise ProviderFailure("InternalServerError", str(error)) from error

    async def _unbalance(self, key: str, wish: LoadBalancer) -> None:
        known = self._balancers[key]
        process, known.process = known.process, None
        if process is not None:
            await process.stop()
        router = None if wish.vnet_id is None else self._routers.get(wish.vnet_id.lower())
        if router is not None:
            router.drop_frontends(key)
            await self._refresh([router])

    async def delete_load_balancer(self, balancer_id: str, /) -> None:
        key = balancer_id.lower()
        if key in self._balancers:
            await self._unbalance(key, self._balancers[key].wish)
            del self._balancers[key]

    async def probe_health(self, balancer_id: str) -> tuple[MemberHealth, ...]:
        """What the balancer's probes say now, for metrics and for the display."""
        known = self._balancers.get(balancer_id.lower())
        return () if known is None or known.process is None else await known.process.health()

    def balancers(self) -> list[LoadBalancer]:
        return [known.wish for known in self._balancers.values()]

    # --- disks -------------------------------------------------------------------------------------------------------
    async def create_disk(self, disk: Disk, /) -> None:
        self.machines.create_disk(disk)

    async def delete_disk(self, disk_id: str, /) -> None:
        await asyncio.to_thread(self.machines.delete_disk, disk_id)

    # --- virtual machines --------------------------------------------------------------------------------------------
    async def create_vm(self, vm: VmDefinition, /) -> None:
        await self.machines.create(vm, self._router(vm.nics[0].vnet_id))

    async def delete_vm(self, vm_id: str, /) -> None:
        await self.machines.delete(vm_id)

    async def start_vm(self, vm_id: str, /) -> None:
        await self.machines.start(vm_id)

    async def power_off_vm(self, vm_id: str, /, *, skip_shutdown: bool) -> None:
        await self.machines.power_off(vm_id, skip_shutdown=skip_shutdown)

    async def deallocate_vm(self, vm_id: str, /) -> None:
        await self.machines.deallocate(vm_id)

    async def restart_vm(self, vm_id: str, /) -> None:
        await self.machines.restart(vm_id)

    async def redeploy_vm(self, vm_id: str, /) -> None:
        """As a restart here: the lab has one host, and no temporary disk of its own."""
        await self.machines.restart(vm_id)

    async def vm_power_state(self, vm_id: str, /) -> PowerState:
        return self.machines.power_state(vm_id)

    async def run_extension(self, vm_id: str, command: str, /) -> CommandResult:
        return await self.machines.run_extension(vm_id, command)

    async def run_command(self, vm_id: str, script: str, /) -> CommandResult:
        return await self.machines.run_command(vm_id, script)

    # --- the lab's own -----------------------------------------------------------------------------------------------
    def router_of(self, vm: VmDefinition) -> Router:
        return self._router(vm.nics[0].vnet_id)

    def routers(self) -> list[Router]:
        return list(self._routers.values())

    async def open(self) -> None:
        """Build the Internet; the lab id has been claimed."""
        await internet.build(self.lab_id)

    async def close(self) -> None:
        """Everything goes: VMs at once, then balancers, routers, the Internet."""
        await self.machines.close()
        for known in self._balancers.values():
            if known.process is not None:
                await known.process.stop()
        for vnet_id in list(self._routers):
            await self.delete_network(vnet_id)
        await internet.remove(self.lab_id)
