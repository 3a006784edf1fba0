"""A provider without a fabric: keeps an honest record of what it was asked and of the power of each VM."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from lab.arm import provider as port
from lab.arm.provider import CommandResult, PowerState, ProviderFailure


class NullProvider:
    """Follows the port's rules: idempotent, failing where the real thing would, never two calls for one id at once."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.networks: dict[str, port.Network] = {}
        self.groups: dict[str, port.SecurityGroup] = {}
        self.interfaces: dict[str, port.Interface] = {}
        self.balancers: dict[str, port.LoadBalancer] = {}
        self.disks: dict[str, port.Disk] = {}
        self.vms: dict[str, port.VmDefinition] = {}
        self.power: dict[str, PowerState] = {}
        self.calls: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.extension_exit_code = 0
        self.gate: asyncio.Event | None = None  # set it to hold calls back
        self._busy: dict[str, int] = defaultdict(int)
        self._next = 16

    async def _call(self, name: str, id_text: str) -> None:
        key = id_text.lower()
        assert not self._busy[key], f"{name} for {id_text} overlaps another call for the same resource"
        self._busy[key] += 1
        try:
            self.calls.append((name, id_text))
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self._busy[key] -= 1

    async def allocate_public_address(self, resource_id: str) -> str:
        await self._call("allocate_public_address", resource_id)
        if resource_id not in self.addresses:
            self.addresses[resource_id] = f"198.18.0.{self._next}"
            self._next += 1
        return self.addresses[resource_id]

    async def release_public_address(self, resource_id: str, address: str) -> None:
        await self._call("release_public_address", resource_id)
        self.addresses.pop(resource_id, None)

    async def apply_network(self, network: port.Network, /) -> None:
        await self._call("apply_network", network.id)
        self.networks[network.id] = network

    async def delete_network(self, vnet_id: str, /) -> None:
        await self._call("delete_network", vnet_id)
        self.networks.pop(vnet_id, None)

    async def apply_security_group(self, group: port.SecurityGroup, /) -> None:
        await self._call("apply_security_group", group.id)
        self.groups[group.id] = group

    async def delete_security_group(self, group_id: str, /) -> None:
        await self._call("delete_security_group", group_id)
        self.groups.pop(group_id, None)

    async def apply_interface(self, interface: port.Interface, /) -> None:
        await self._call("apply_interface", interface.nic_id)
        self.interfaces[interface.nic_id] = interface

    async def delete_interface(self, nic_id: str, /) -> None:
        await self._call("delete_interface", nic_id)
        self.interfaces.pop(nic_id, None)

    async def apply_load_balancer(self, balancer: port.LoadBalancer, /) -> None:
        await self._call("apply_load_balancer", balancer.id)
        self.balancers[balancer.id] = balancer

    async def delete_load_balancer(self, balancer_id: str, /) -> None:
        await self._call("delete_load_balancer", balancer_id)
        self.balancers.pop(balancer_id, None)

    async def create_disk(self, disk: port.Disk, /) -> None:
        await self._call("create_disk", disk.id)
        self.disks[disk.id] = disk

    async def delete_disk(self, disk_id: str, /) -> None:
        await self._call("delete_disk", disk_id)
        self.disks.pop(disk_id, None)

    async def create_vm(self, vm: port.VmDefinition, /) -> None:
        await self._call("create_vm", vm.id)
        assert vm.os_disk.id in self.disks
        assert all(attached.disk.id in self.disks for attached in vm.data_disks)
        assert all(nic.nic_id in self.interfaces for nic in vm.nics)
        self.vms[vm.id] = vm
        self.power.setdefault(vm.id, PowerState.RUNNING)

    async def delete_vm(self, vm_id: str, /) -> None:
        await self._call("delete_vm", vm_id)
        self.vms.pop(vm_id, None)
        self.power.pop(vm_id, None)

    async def _set_power(self, name: str, vm_id: str, power: PowerState) -> None:
        await self._call(name, vm_id)
        if vm_id not in self.vms:
            raise ProviderFailure("VMNotFound", f"{vm_id} is not there")
        self.power[vm_id] = power

    async def start_vm(self, vm_id: str, /) -> None:
        await self._set_power("start_vm", vm_id, PowerState.RUNNING)

    async def power_off_vm(self, vm_id: str, /, *, skip_shutdown: bool) -> None:
        await self._set_power("power_off_vm hard" if skip_shutdown else "power_off_vm", vm_id, PowerState.STOPPED)

    async def deallocate_vm(self, vm_id: str, /) -> None:
        await self._set_power("deallocate_vm", vm_id, PowerState.DEALLOCATED)

    async def restart_vm(self, vm_id: str, /) -> None:
        await self._set_power("restart_vm", vm_id, PowerState.RUNNING)

    async def redeploy_vm(self, vm_id: str, /) -> None:
        await self._set_power("redeploy_vm", vm_id, PowerState.RUNNING)

    async def vm_power_state(self, vm_id: str, /) -> PowerState:
        return self.power.get(vm_id, PowerState.UNKNOWN)

    async def run_extension(self, vm_id: str, command: str, /) -> CommandResult:
        await self._call("run_extension", vm_id)
        self.scripts.append(command)
        return CommandResult(self.extension_exit_code, f"ran {len(command)} characters\n", "")

    async def run_command(self, vm_id: str, script: str, /) -> CommandResult:
        await self._call("run_command", vm_id)
        self.scripts.append(script)
        return CommandResult(0, f"ran {len(script)} characters\n", "")

    def named(self, name: str) -> list[str]:
        """Ids for which `name` was called."""
        return [id_text for call, id_text in self.calls if call == name]
