"""Carries the state over to the provider: which calls a change of a resource causes, in which order.

Calls for one physical thing never overlap (a lock per id), and each call is made from the state as it is at that
moment, so that concurrent operations on an interface and its load balancer end with the newest picture, and a
thing that was deleted while its turn was awaited stays deleted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from lab.arm import definitions
from lab.arm.graph import referrers
from lab.arm.ids import parse_resource_id, same
from lab.arm.kinds.balancer import drop_pools
from lab.arm.kinds.disk import disk_made_by_vm
from lab.arm.kinds.extension import VmExtension
from lab.arm.kinds.interface import pools_of
from lab.arm.provider import Provider
from lab.arm.state import Resource, State


class Physical:
    def __init__(self, state: State, provider: Provider) -> None:
        self._state = state
        self._provider = provider
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # --- making ----------------------------------------------------------------------------------------------------
    async def apply(self, resource: Resource, before: Resource | None, now: str) -> None:
        """Make a created or changed resource real. `before` = a copy from before the change."""
        match resource.rid.type.split("/")[1].lower():
            case "publicipaddresses":
                if "ipAddress" not in resource.assigned:
                    resource.assigned["ipAddress"] = await self._provider.allocate_public_address(resource.id)
            case "networksecuritygroups":
                async with self._lock(resource):
                    await self._provider.apply_security_group(definitions.security_group(resource, self._state))
            case "natgateways":
                await self._networks({parse_resource_id(u.owner).key for u in referrers(self._state, resource.id)})
            case "virtualnetworks":
                await self._networks([resource.id])
            case "networkinterfaces":
                await self._interfaces([resource.id])
                await self._balancers(pools_of(resource.wish) | (pools_of(before.wish) if before else set()))
            case "loadbalancers":
                await self._balancers([resource.id])
            case "disks":
                async with self._lock(resource):
                    await self._provider.create_disk(definitions.disk(resource))
            case "virtualmachines":
                await self._machine(resource, now)

    async def _machine(self, vm: Resource, now: str) -> None:
        for disk in self._own_disks(vm, now):
            async with self._lock(disk):
                await self._provider.create_disk(definitions.disk(disk))
        nics = [nic["id"] for nic in vm.properties["networkProfile"]["networkInterfaces"]]
        await self._interfaces(nics)
        async with self._lock(vm):
            await self._provider.create_vm(definitions.machine(vm, self._state))
        await self._balancers_of(nics)

    def _own_disks(self, vm: Resource, now: str) -> list[Resource]:
        """The disk resources a VM's create brings along; named in its body from now on."""
        rid, storage = vm.rid, vm.properties["storageProfile"]
        made = []
        wanted = [(storage["osDisk"], storage["imageReference"])]
        wanted += [(data, None) for data in storage["dataDisks"] if data["createOption"] == "Empty"]
        for entry, image in wanted:
            managed = entry.setdefault("managedDisk", {})
            sku = managed.setdefault("storageAccountType", "Premium_LRS")
            base = f"/subscriptions/{rid.subscription}/resourceGroups/{rid.group}/providers/Microsoft.Compute"
            disk_rid = parse_resource_id(managed.get("id") or f"{base}/disks/{entry['name']}")
            disk = self._state.find(str(disk_rid))
            if disk is None:
                disk = disk_made_by_vm(disk_rid, vm, entry["diskSizeGB"], sku, image, now)
                if image is not None:
                    disk.assigned["image"] = definitions.image_urn(vm)
                self._state.resources[disk_rid.key] = disk
            managed["id"] = disk.id
            made.append(disk)
        return made

    # --- removing --------------------------------------------------------------------------------------------------
    async def remove(self, resource: Resource) -> None:
        """Take a resource out of the physical world and out of the state (first out there, then here)."""
        match resource.rid.type.split("/", 1)[1].lower():
            case "publicipaddresses":
                address = resource.assigned.get("ipAddress")
                if address is not None:
                    await self._provider.release_public_address(resource.id, address)
                self._forget(resource)
            case "networksecuritygroups":
                async with self._lock(resource):
                    await self._provider.delete_security_group(resource.id)
                self._forget(resource)
            case "virtualnetworks":
                async with self._lock(resource):
                    await self._provider.delete_network(resource.id)
                self._forget(resource)
            case "networkinterfaces":
                async with self._lock(resource):
                    await self._provider.delete_interface(resource.id)
                self._forget(resource)
                await self._balancers(pools_of(resource.wish))
            case "loadbalancers":
                async with self._lock(resource):
                    await self._provider.delete_load_balancer(resource.id)
                drop_pools(self._state, resource.id)
                self._forget(resource)
            case "disks":
                async with self._lock(resource):
                    await self._provider.delete_disk(resource.id)
                self._forget(resource)
            case "virtualmachines":
                await self._remove_machine(resource)
            case _:  # a NAT gateway is only a property of the networks that name it
                self._forget(resource)

    async def _remove_machine(self, vm: Resource) -> None:
        async with self._lock(vm):
            await self._provider.delete_vm(vm.id)
        self._forget(vm)
        for extension in [one for one in self._state.of_type(VmExtension.type) if same(str(one.rid.parent), vm.id)]:
            self._forget(extension)
        nics = vm.properties["networkProfile"]["networkInterfaces"]
        await self._interfaces([nic["id"] for nic in nics])
        await self._balancers_of([nic["id"] for nic in nics])
        going = [nic["id"] for nic in nics if nic["properties"]["deleteOption"] == "Delete"]
        storage = vm.properties["storageProfile"]
        for entry in (storage["osDisk"], *storage["dataDisks"]):
            if entry["deleteOption"] == "Delete" and "id" in entry.get("managedDisk", {}):
                going.append(entry["managedDisk"]["id"])
        for id_text in going:
            found = self._state.find(id_text)
            if found is not None:
                await self.remove(found)

    def _forget(self, resource: Resource) -> None:
        self._state.resources.pop(resource.id.lower(), None)

    # --- shared steps ----------------------------------------------------------------------------------------------
    async def reapply_all(self) -> None:
        """After a restart of the lab: everything but VMs, which the provider brought back or not on its own."""
        for resource in list(self._state.resources.values()):
            match resource.rid.type.split("/")[1].lower():
                case "networksecuritygroups":
                    await self._provider.apply_security_group(definitions.security_group(resource, self._state))
                case "virtualnetworks":
                    await self._networks([resource.id])
        await self._interfaces([r.id for r in self._state.of_type(definitions.NIC_TYPE)])
        await self._balancers([r.id for r in self._state.of_type("Microsoft.Network/loadBalancers")])

    def _lock(self, resource: Resource) -> asyncio.Lock:
        return self._locks[resource.id.lower()]

    async def _networks(self, ids: Iterable[str]) -> None:
        for network in self._present(ids):
            async with self._lock(network):
                if self._state.find(network.id) is not network:
                    continue
                await self._provider.apply_network(definitions.network(network, self._state))

    async def _interfaces(self, ids: Iterable[str]) -> None:
        for nic in self._present(ids):
            async with self._lock(nic):
                if self._state.find(nic.id) is not nic:
                    continue
                await self._provider.apply_interface(definitions.interface(nic, self._state))

    async def _balancers(self, ids: Iterable[str]) -> None:
        for balancer in self._present(ids):
            async with self._lock(balancer):
                if self._state.find(balancer.id) is not balancer:
                    continue
                await self._provider.apply_load_balancer(definitions.load_balancer(balancer, self._state))

    async def _balancers_of(self, nic_ids: Iterable[str]) -> None:
        wanted: set[str] = set()
        for nic in self._present(nic_ids):
            wanted |= pools_of(nic.wish)
        await self._balancers(wanted)

    def _present(self, ids: Iterable[str]) -> list[Resource]:
        found = (self._state.find(id_text) for id_text in sorted(ids))
        return [resource for resource in found if resource is not None]
