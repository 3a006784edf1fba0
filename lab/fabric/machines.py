"""VM definitions of ARM made into machines: disks as directories, cloud-init as a plan, power as processes."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.arm.provider import CommandResult, Disk, PowerState, ProviderFailure, VmDefinition
from lab.fabric import namespaces
from lab.fabric.cabling import VmCabling
from lab.fabric.cgroups import Group, ProcessesRemain
from lab.fabric.namespaces import short_hash
from lab.fabric.router import Router
from lab.vm import windows
from lab.vm.cloudinit import CloudInitError, Plan, missing_packages, parse
from lab.vm.machine import BootFailed, Machine, MachineSpec, NotRunning
from lab.vm.rootfs import GUEST_DIRECTORY, Identity, ImageUnusable
from shared.provisioning.plan import TAG_CLUSTER_ID

RUN_COMMAND_TIMEOUT_S = 90 * 60.0  # Azure's run command


@dataclass
class Node:
    """A VM with what ARM said about it."""

    definition: VmDefinition
    machine: Machine
    cabling: VmCabling
    plan: Plan
    deallocated: bool = False


class Machines:
    """All VMs of one lab, by lower-case resource id."""

    def __init__(self, *, lab_id: str, directory: Path, group: Group, ca_pem: str, wheelhouse: Path) -> None:
        self._lab_id = lab_id
        self._directory = directory
        self._group = group
        self._ca_pem = ca_pem
        self._wheelhouse = wheelhouse
        self._nodes: dict[str, Node] = {}

    # --- disks -------------------------------------------------------------------------------------------------------
    def disk_directory(self, disk_id: str) -> Path:
        return self._directory / "disks" / f"{disk_id.rpartition('/')[2].lower()}-{short_hash(disk_id, 4)}"

    def create_disk(self, disk: Disk) -> None:
        self.disk_directory(disk.id).mkdir(parents=True, exist_ok=True)

    def delete_disk(self, disk_id: str) -> None:
        shutil.rmtree(self.disk_directory(disk_id), ignore_errors=True)

    # --- look-up -----------------------------------------------------------------------------------------------------
    def all(self) -> list[Node]:
        return list(self._nodes.values())

    def find(self, vm_id: str) -> Node | None:
        return self._nodes.get(vm_id.lower())

    def get(self, vm_id: str) -> Node:
        node = self.find(vm_id)
        if node is None:
            raise ProviderFailure("ResourceNotFound", f"the lab has no machine for {vm_id}")
        return node

    # --- life --------------------------------------------------------------------------------------------------------
    async def create(self, vm: VmDefinition, router: Router) -> None:
        node = self.find(vm.id)
        if node is not None and (self.directory_of(vm.id) / "booted-once").exists():
            node.definition = vm
            node.cabling.set_interfaces(vm.nics)
            return
        plan = await asyncio.to_thread(_plan, vm)
        cabling = VmCabling(namespaces.name_for(self._lab_id, "vm", vm.id), router, vm.nics)
        directory = self.directory_of(vm.id)
        directory.mkdir(parents=True, exist_ok=True)
        disks = {f"lun{item.lun}": self.disk_directory(item.disk.id) for item in vm.data_disks}
        for path in disks.values():
            path.mkdir(parents=True, exist_ok=True)
        spec = MachineSpec(
            name=vm.name,
            namespace=cabling.namespace,
            directory=directory,
            os_disk=self.disk_directory(vm.os_disk.id),
            data_disks=disks,
            identity=Identity(
                hostname=vm.computer_name,
                machine_id=vm.uuid.replace("-", "").lower(),
                addresses=tuple(nic.private_address for nic in vm.nics),
                lab_ca_pem=self._ca_pem,
            ),
            instance_id=vm.uuid,
            wheelhouse=self._wheelhouse,
        )
        machine = Machine(spec, self._group.below(f"vm-{vm.name.lower()}-{short_hash(vm.id, 4)}"), cabling)
        self._nodes[vm.id.lower()] = Node(vm, machine, cabling, plan)
        await self._boot(self._nodes[vm.id.lower()])
        (directory / "booted-once").touch()

    def directory_of(self, vm_id: str) -> Path:
        return self._directory / "vms" / f"{vm_id.rpartition('/')[2].lower()}-{short_hash(vm_id, 4)}"

    async def delete(self, vm_id: str) -> None:
        node = self._nodes.pop(vm_id.lower(), None)
        if node is not None:
            await _off(node, skip_shutdown=True)
            await asyncio.to_thread(node.machine.group.remove)
        await asyncio.to_thread(shutil.rmtree, self.directory_of(vm_id), ignore_errors=True)

    async def start(self, vm_id: str) -> None:
        node = self.get(vm_id)
        await self._boot(node)

    async def power_off(self, vm_id: str, *, skip_shutdown: bool) -> None:
        await _off(self.get(vm_id), skip_shutdown=skip_shutdown)

    async def deallocate(self, vm_id: str) -> None:
        node = self.get(vm_id)
        await _off(node, skip_shutdown=False)
        node.deallocated = True

    async def restart(self, vm_id: str) -> None:
        node = self.get(vm_id)
        await _off(node, skip_shutdown=False)
        await self._boot(node)

    async def _boot(self, node: Node) -> None:
        try:
            await node.machine.boot(node.plan)
        except (BootFailed, ImageUnusable, ProcessesRemain) as error:
            raise ProviderFailure("OSProvisioningInternalError", str(error)) from error
        node.deallocated = False

    def power_state(self, vm_id: str) -> PowerState:
        node = self.find(vm_id)
        if node is None:
            return PowerState.UNKNOWN
        if node.machine.running:
            return PowerState.RUNNING
        return PowerState.DEALLOCATED if node.deallocated else PowerState.STOPPED

    async def run_extension(self, vm_id: str, command: str) -> CommandResult:
        """In place of the PowerShell script in the VM's custom data, what `lab.vm.windows` makes of its settings."""
        node = self.get(vm_id)
        try:
            settings = windows.settings_of(command, node.definition.custom_data.decode())
            plan = windows.stand_in(settings, str(node.definition.tags.get(TAG_CLUSTER_ID, "")))
        except (windows.NotWindowsEnough, UnicodeDecodeError, CloudInitError) as error:
            return CommandResult(1, "", str(error))
        told = {
            "banner": windows.BANNER.format(image=node.definition.image),
            "downloads": windows.downloads(settings),
            "plan": plan.as_json(),
        }
        argv = ["/usr/bin/python3", "-I", f"/{GUEST_DIRECTORY}", "windows"]
        return await self._run(node, argv, json.dumps(told).encode())

    async def run_command(self, vm_id: str, script: str) -> CommandResult:
        node = self.get(vm_id)
        try:
            shell = windows.shell_of(script) if node.definition.os_type == "Windows" else script
        except windows.NotWindowsEnough as error:
            raise ProviderFailure("NotModelledByTheLab", str(error)) from None
        return await self._run(node, ["sh", "-s"], shell.encode())

    async def _run(self, node: Node, argv: list[str], stdin: bytes) -> CommandResult:
        try:
            done = await node.machine.run(argv, stdin=stdin, timeout_s=RUN_COMMAND_TIMEOUT_S)
        except NotRunning as error:
            raise ProviderFailure("OperationNotAllowed", f"run command needs a running VM: {error}") from None
        except TimeoutError:
            raise ProviderFailure(
                "VMExtensionProvisioningTimeout", "the script did not end within 90 minutes"
            ) from None
        return CommandResult(done.exit_code, done.stdout, done.stderr)

    async def close(self) -> None:
        """Kill every VM at once."""
        await asyncio.gather(*(_off(node, skip_shutdown=True) for node in self._nodes.values()))


def _plan(vm: VmDefinition) -> Plan:
    """Before anything is made: what cloud-init could not do here fails the VM, as a provisioning error of the guest."""
    if vm.os_type == "Windows":
        if missing := windows.missing_programs():
            raise ProviderFailure(
                "OSProvisioningClientError",
                f"VM {vm.name!r}: {', '.join(missing)} not on this machine; what stands in for Windows runs its "
                "scripts by Wine: apt-get install wine wine64",
            )
        return Plan()  # nothing runs before the extension says what
    try:
        plan = parse(vm.custom_data)
        absent = missing_packages(plan.packages)
    except CloudInitError as error:
        raise ProviderFailure("OSProvisioningClientError", f"VM {vm.name!r}: {error}") from error
    if absent:
        raise ProviderFailure(
            "OSProvisioningClientError",
            f"VM {vm.name!r}: packages {', '.join(absent)} are not installed on this machine, whose root file "
            f"system is the lab's image; run: apt-get install {' '.join(absent)}",
        )
    return plan


async def _off(node: Node, *, skip_shutdown: bool) -> None:
    try:
        await node.machine.power_off(skip_shutdown=skip_shutdown)
    except ProcessesRemain as error:
        raise ProviderFailure("InternalExecutionError", str(error)) from error
