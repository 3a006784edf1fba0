"""The port behind the lab's ARM endpoint: what makes resources physical.

`lab.arm` knows resources, ids, operations and errors; it opens no socket and starts no process. Whoever implements
`Provider` (the fabric: namespaces, bridges, HAProxy) turns them into things one can ping. All values arrive resolved
and validated: ids are spelt as ARM returns them, references between resources exist, defaults are filled in.

Rules for implementations:
- **Desired state, idempotent.** Every `apply_*`/`create_*` carries the complete wish and may come again, the same or
  changed (a PUT after a failure, a restart of the lab). Every `delete_*`/`release_*` of a thing that is not there
  succeeds: the resource may have been removed out of band.
- **Done means done.** A call returns when the effect can be observed: after `power_off_vm` no process of the VM is
  left, after `create_vm` and `start_vm` the VM's PID 1 runs (cloud-init may still be working, as on Azure).
- **Failure** is `ProviderFailure`; code and message reach the client as the failed ARM operation's error, unchanged.
- Calls for one resource never overlap. Calls for different resources do.
- A call may be cancelled (shutdown of the lab); it must leave something its own repetition can repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

ArmBody = Mapping[str, Any]
"""A resource as ARM returns it (JSON object with id, name, type, location, properties…); read-only by convention."""


class ProviderFailure(Exception):
    """The physical side refused or broke; becomes the error of the ARM operation.

    `code` is an ARM error code ("AllocationFailed", "OSProvisioningTimedOut"…), `message` a sentence for the reader.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class PowerState(StrEnum):
    """Power of a VM as the machine knows it; ARM reports `PowerState/<value>`. The -ing states are ARM's own."""

    RUNNING = "running"
    STOPPED = "stopped"  # powered off, still allocated
    DEALLOCATED = "deallocated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Subnet:
    id: str
    name: str
    address_prefix: str  # CIDR; gateway = first address; Azure keeps the first four and the last for itself
    security_group_id: str | None
    nat_gateway_id: str | None
    nat_addresses: tuple[str, ...]  # public addresses of the NAT gateway: source of outbound traffic
    default_outbound_access: bool


@dataclass(frozen=True, slots=True)
class Network:
    id: str
    name: str
    location: str
    address_prefixes: tuple[str, ...]
    subnets: tuple[Subnet, ...]
    body: ArmBody


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """One rule, singular and plural spellings merged. A prefix is a CIDR, an address, "*" or a service tag."""

    name: str
    priority: int
    direction: str  # Inbound | Outbound
    access: str  # Allow | Deny
    protocol: str  # Tcp | Udp | Icmp | *
    source_prefixes: tuple[str, ...]
    source_ports: tuple[str, ...]  # "*", "80" or "80-90"
    destination_prefixes: tuple[str, ...]
    destination_ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """Rules sorted by direction and priority, Azure's default rules (65000 and up) included at the end of each."""

    id: str
    name: str
    rules: tuple[SecurityRule, ...]
    body: ArmBody


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface with its addresses; `security_group_ids` holds the subnet's group first, then its own."""

    nic_id: str
    name: str
    private_address: str
    mac: str  # "aa:bb:cc:dd:ee:ff"
    subnet_id: str
    subnet_prefix: str
    vnet_id: str
    security_group_ids: tuple[str, ...]
    public_address: str | None
    vm_id: str | None
    primary: bool = True


@dataclass(frozen=True, slots=True)
class LbFrontend:
    id: str
    name: str
    address: str
    public: bool
    subnet_id: str | None  # of an internal frontend


@dataclass(frozen=True, slots=True)
class LbBackend:
    """A member of a pool. `vm_id` is None while the interface belongs to no VM (nothing to send flows to)."""

    nic_id: str
    vm_id: str | None
    private_address: str


@dataclass(frozen=True, slots=True)
class LbPool:
    id: str
    name: str
    backends: tuple[LbBackend, ...]


@dataclass(frozen=True, slots=True)
class LbProbe:
    """`threshold` = consecutive answers to flip, both ways (`probeThreshold`). HTTP: exactly 200 is healthy."""

    id: str
    name: str
    protocol: str  # Http | Https | Tcp
    port: int
    path: str | None
    interval_s: int
    threshold: int


@dataclass(frozen=True, slots=True)
class LbRule:
    name: str
    protocol: str  # Tcp | Udp | All
    frontend_id: str
    frontend_port: int
    backend_port: int
    pool_ids: tuple[str, ...]
    probe_id: str | None
    floating_ip: bool
    idle_timeout_min: int
    tcp_reset: bool
    distribution: str  # Default (5-tuple) | SourceIP | SourceIPProtocol


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    id: str
    name: str
    location: str
    vnet_id: str | None  # where the backends (or the internal frontend) live; None while there is neither
    frontends: tuple[LbFrontend, ...]
    pools: tuple[LbPool, ...]
    probes: tuple[LbProbe, ...]
    rules: tuple[LbRule, ...]
    body: ArmBody


@dataclass(frozen=True, slots=True)
class Disk:
    """A managed disk: a directory in the lab. `os_image` is set for an OS disk (made from the image), None for data."""

    id: str
    name: str
    size_gb: int
    zone: str | None
    os_image: str | None = None


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    lun: int
    disk: Disk


@dataclass(frozen=True, slots=True)
class VmDefinition:
    id: str
    uuid: str  # `vmId`: what the guest sees in its instance metadata
    name: str
    computer_name: str
    resource_group: str
    subscription_id: str
    location: str
    zone: str | None
    size: str
    image: str  # "publisher:offer:sku:version"
    os_type: str  # Linux | Windows
    admin_user: str
    ssh_public_keys: tuple[str, ...]
    custom_data: bytes = field(repr=False)  # decoded; carries an enrolment token, keep it out of logs
    os_disk: Disk
    data_disks: tuple[AttachedDisk, ...]
    nics: tuple[Interface, ...]  # the primary one first
    tags: Mapping[str, str]
    body: ArmBody = field(repr=False)  # as ARM returns it: without customData


@dataclass(frozen=True, slots=True)
class CommandResult:
    exit_code: int
    stdout: str
    stderr: str


class Provider(Protocol):
    """Everything physical, in the words of the ARM service. See the module's rules."""

    # --- addresses -------------------------------------------------------------------------------------------------
    async def allocate_public_address(self, resource_id: str) -> str:
        """The address of a publicIPAddresses resource: the same again for the same id until it is released."""
        ...

    async def release_public_address(self, resource_id: str, address: str) -> None: ...

    # --- network ---------------------------------------------------------------------------------------------------
    async def apply_network(self, network: Network, /) -> None:
        """Also called when a NAT gateway or security group that a subnet names has changed."""
        ...

    async def delete_network(self, vnet_id: str, /) -> None: ...

    async def apply_security_group(self, group: SecurityGroup, /) -> None: ...

    async def delete_security_group(self, group_id: str, /) -> None: ...

    async def apply_interface(self, interface: Interface, /) -> None:
        """Interface made or changed (public address, groups, VM). With `vm_id` None there is nothing to plug yet."""
        ...

    async def delete_interface(self, nic_id: str, /) -> None: ...

    async def apply_load_balancer(self, balancer: LoadBalancer, /) -> None:
        """Called for changes of the balancer and of its backends (interface joins or leaves, VM made or deleted)."""
        ...

    async def delete_load_balancer(self, balancer_id: str, /) -> None: ...

    # --- disks -----------------------------------------------------------------------------------------------------
    async def create_disk(self, disk: Disk, /) -> None:
        """OS disks (before `create_vm`) and data disks. An existing disk keeps its content; it may grow."""
        ...

    async def delete_disk(self, disk_id: str, /) -> None: ...

    # --- virtual machines: `vm_id` is the resource id, VmDefinition.id -----------------------------------------------
    async def create_vm(self, vm: VmDefinition, /) -> None:
        """Make and boot it; its disks and interfaces exist. Completes a half-made VM.

        For a VM that exists: take over changed tags, leave its power as it is.
        """
        ...

    async def delete_vm(self, vm_id: str, /) -> None:
        """Kill and forget it. Disks stay: `delete_disk` follows where the delete option says so."""
        ...

    async def start_vm(self, vm_id: str, /) -> None:
        """From stopped or deallocated; a running VM stays as it is."""
        ...

    async def power_off_vm(self, vm_id: str, /, *, skip_shutdown: bool) -> None:
        """With `skip_shutdown` every process dies at once; else the guest is asked first, then killed."""
        ...

    async def deallocate_vm(self, vm_id: str, /) -> None:
        """Shut down and give the host back."""
        ...

    async def restart_vm(self, vm_id: str, /) -> None:
        """Reboot in place: guest shutdown, new boot id, same disks."""
        ...

    async def redeploy_vm(self, vm_id: str, /) -> None:
        """Power off, move to another host, boot: OS and data disks stay, the temporary disk is lost."""
        ...

    async def vm_power_state(self, vm_id: str, /) -> PowerState:
        """Asked at each instance view, so it must be quick and read the real thing, not what was ordered."""
        ...

    async def run_extension(self, vm_id: str, command: str, /) -> CommandResult:
        """The command of a Custom Script extension, as the handler in a Windows VM would run it. May overlap others."""
        ...

    async def run_command(self, vm_id: str, script: str, /) -> CommandResult:
        """RunShellScript as root, or RunPowerShellScript as SYSTEM, whichever the VM has. A VM that does not run raises
        `ProviderFailure`, so does a script that a VM which stands for Windows cannot run."""
        ...
