"""The body of PUT /api/clusters/{name}: what a caller wants a cluster to be.

Every rule that can be checked without Azure is checked here, before anything is stored, with a message that names
the value and the remedy. What an existing cluster cannot change any more is `refused_changes` (Azure fixes zone,
image, administrator and address range of a VM at its creation).
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from mirror_agent.contract import (
    CONSOLE_PORT,
    HEARTBEAT_PORT,
    MIRROR_PORT,
    PROBE_PORT,
    Application,
    NodeName,
    Port,
    Timing,
)
from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from shared.model.document import ApiModel, FieldError, is_stored
from shared.model.remediation_policy import ManagementPolicy, RemediationPolicy
from shared.provisioning.images import ImageError, supported_image

# `<name>-a` is a host name and a Linux VM name (64), `mirrorplane-<name>` a resource group (90), `<name>-vip` a DNS
# label of at most 63; 24 leaves room in all of them and stays readable.
NAME_PATTERN: Final = r"^[a-z](?:[a-z0-9-]{0,22}[a-z0-9])$"
MAX_NAME_CHARS: Final = 24
MAX_RULES: Final = 32
MAX_ADMIN_RANGES: Final = 16
MAX_TAGS: Final = 40  # Azure allows 50 per resource; ours need some
SMALLEST_SUBNET_PREFIX: Final = 29  # Azure keeps five addresses of a subnet; /29 leaves three
RESERVED_PORTS: Final = {
    PROBE_PORT: "load-balancer probe",
    CONSOLE_PORT: "node console",
    HEARTBEAT_PORT: "heartbeats between the nodes",
    MIRROR_PORT: "replication between the nodes",
}
CONSOLE_RULE: Final = "console"
OWNED_TAG_PREFIX: Final = "mirrorplane-"
# Refused by Azure as administrator names (Microsoft.Compute, osProfile.adminUsername).
_RESERVED_USERS: Final = frozenset(
    (
        *("administrator", "admin", "admin1", "admin2", "adm", "user", "user1", "user2", "user3", "user4", "user5"),
        *("test", "test1", "test2", "test3", "actuser", "aspnet", "backup", "console", "david", "guest", "john"),
        *("owner", "root", "server", "sql", "support", "support_388945a0", "sys", "a", "daemon", "bin", "nobody"),
    )
)
# Address ranges Azure does not allow in a virtual network.
_FORBIDDEN_RANGES: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in ("224.0.0.0/4", "255.255.255.255/32", "127.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "0.0.0.0/8")
)
_KEY = re.compile(r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{40,}={0,3}( [^\r\n]*)?$")


def check_name(name: str) -> str:
    """The cluster name, if it is one. Raises ValueError with the rule."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            f"{name!r} is no cluster name: 2 to {MAX_NAME_CHARS} characters, lower-case letters, digits and '-', "
            "beginning with a letter, not ending with '-'"
        )
    return name


def parse_range(text: str) -> ipaddress.IPv4Network:
    """An IPv4 range in CIDR form. Raises ValueError that shows the corrected form where there is one."""
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length; write for example '10.0.0.0/16', or /32 for one address")
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        pass
    try:
        loose = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 address range; write for example '10.0.0.0/16'") from None
    raise ValueError(f"{text!r} has host bits set; did you mean {str(loose)!r}?")


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"


class Rule(ApiModel):
    """A port of the virtual IP that is forwarded to the node where the application runs."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    protocol: Protocol = Protocol.TCP
    frontend_port: Port
    backend_port: Port

    @model_validator(mode="after")
    def _not_ours(self) -> Self:
        if self.name == CONSOLE_RULE:
            raise FieldError(
                "name", f"the rule name {CONSOLE_RULE!r} is taken by the node console; choose another name"
            )
        for field, port in (("frontendPort", self.frontend_port), ("backendPort", self.backend_port)):
            if port in RESERVED_PORTS:
                reserved = ", ".join(str(number) for number in sorted(RESERVED_PORTS))
                raise FieldError(
                    field,
                    f"rule {self.name!r}: port {port} is reserved for the {RESERVED_PORTS[port]} "
                    f"(reserved: {reserved}); choose another port",
                )
        return self


class Compute(ApiModel):
    """The two VMs."""

    os: Literal["linux", "windows"] = "linux"
    image: Annotated[str, StringConstraints(max_length=64)] = "debian-12"
    vm_size: Annotated[str, StringConstraints(pattern=r"^(Standard|Basic)_[A-Za-z0-9_-]{1,60}$")] = "Standard_D2s_v5"
    zones: Annotated[tuple[Literal["1", "2", "3"], ...], Field(max_length=2)] = ("1", "2")
    data_disk_gb: Annotated[int, Field(ge=4, le=32767)] = 32
    admin_username: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "azureuser"
    ssh_public_key: Annotated[str, StringConstraints(max_length=4096)]

    @field_validator("admin_username")
    @classmethod
    def _allowed_user(cls, value: str) -> str:
        if value in _RESERVED_USERS:
            raise ValueError(f"Azure refuses {value!r} as administrator name; choose another, e.g. 'azureuser'")
        return value

    @field_validator("ssh_public_key")
    @classmethod
    def _one_key(cls, value: str) -> str:
        value = value.strip()
        if not _KEY.fullmatch(value):
            raise ValueError("no OpenSSH public key on one line; give the content of e.g. ~/.ssh/id_ed25519.pub")
        return value

    @model_validator(mode="after")
    def _possible(self, info: ValidationInfo) -> Self:
        if is_stored(info):
            return self  # an image that is no longer offered must not make a living cluster unreadable
        try:
            supported_image(self.image, self.os)
        except ImageError as error:
            target = "os" if error.code == "UnsupportedOperatingSystem" else "image"
            raise FieldError(target, str(error), error.code) from None
        if len(self.zones) == 1 or len(set(self.zones)) != len(self.zones):
            raise FieldError(
                "zones",
                f"zones {list(self.zones)}: give two different zones, one per node, or [] in a region without zones",
            )
        return self


class Frontend(StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"


class Network(ApiModel):
    """The virtual network, the virtual IP and who may reach what."""

    address_space: str = "10.0.0.0/16"
    subnet: str = "10.0.0.0/24"
    frontend: Frontend = Frontend.PUBLIC
    admin_addresses: Annotated[tuple[str, ...], Field(max_length=MAX_ADMIN_RANGES)] = ()
    dns_label: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,61}[a-z0-9]$")] | None = None
    rules: Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES)] = ()

    @field_validator("address_space", "subnet")
    @classmethod
    def _allowed_range(cls, value: str) -> str:
        network = parse_range(value)
        for forbidden in _FORBIDDEN_RANGES:
            if network.overlaps(forbidden):
                raise ValueError(f"{value!r} overlaps {forbidden}, which Azure does not allow; use a private range")
        return str(network)

    @field_validator("admin_addresses")
    @classmethod
    def _bounded(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if parse_range(value).prefixlen == 0:
                raise ValueError(f"{value!r} opens administration to the whole Internet; name your own ranges")
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        space, subnet = parse_range(self.address_space), parse_range(self.subnet)
        if not subnet.subnet_of(space):
            raise FieldError("subnet", f"subnet {subnet} lies outside addressSpace {space}; choose a part of it")
        if subnet.prefixlen > SMALLEST_SUBNET_PREFIX:
            raise FieldError("subnet", f"subnet {subnet} is too small; Azure needs /{SMALLEST_SUBNET_PREFIX} or larger")
        if space.prefixlen < 8:
            raise FieldError("addressSpace", f"addressSpace {space} is too large; /8 is the largest")
        if self.dns_label is not None and self.frontend is Frontend.PRIVATE:
            raise FieldError("dnsLabel", "dnsLabel needs a public frontend; remove it or set frontend to 'public'")
        self._no_duplicates()
        return self

    def _no_duplicates(self) -> None:
        names: set[str] = set()
        frontends: dict[tuple[Protocol, int], str] = {}
        backends: dict[tuple[Protocol, int], str] = {}
        for rule in self.rules:
            if rule.name in names:
                raise FieldError("rules", f"two rules are named {rule.name!r}; rule names must differ")
            names.add(rule.name)
            for word, port, seen in (
                ("frontendPort", rule.frontend_port, frontends),
                ("backendPort", rule.backend_port, backends),  # the load balancer refuses a pool port used twice
            ):
                other = seen.setdefault((rule.protocol, port), rule.name)
                if other != rule.name:
                    raise FieldError(
                        "rules",
                        f"rules {other!r} and {rule.name!r} both use {word} {port}/{rule.protocol.value}; "
                        "a port can have one rule",
                    )


class ClusterSpec(ApiModel):
    """A mirror cluster as a caller asks for it."""

    location: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{2,29}$")]
    kind: Literal["mirror"] = "mirror"
    tags: dict[
        Annotated[str, StringConstraints(pattern=r"^[^<>%&\\?/\x00-\x1f]{1,128}$")],
        Annotated[str, StringConstraints(max_length=256)],
    ] = Field(default_factory=dict, max_length=MAX_TAGS)
    compute: Compute
    network: Network = Network()
    application: Application
    timing: Timing = Timing()
    failover: bool = True
    default_primary: NodeName | None = None
    remediation: RemediationPolicy = RemediationPolicy()
    management_policy: ManagementPolicy = ManagementPolicy.FULL

    @field_validator("tags")
    @classmethod
    def _not_ours(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if key.lower().startswith(OWNED_TAG_PREFIX):
                raise ValueError(f"tag {key!r}: tags beginning with {OWNED_TAG_PREFIX!r} mark our ownership; rename it")
        return value


def node_private_address(spec: ClusterSpec, node: NodeName) -> str:
    """The static address of a node: .4 of the subnet for a, .5 for b (Azure keeps .0 to .3 and the last one)."""
    return str(parse_range(spec.network.subnet).network_address + (4 if node == "a" else 5))


_FIXED: Final = (
    ("location", "a VM cannot move to another region"),
    ("compute.os", "the operating system of a VM is fixed at its creation"),
    ("compute.image", "the image of a VM is fixed at its creation"),
    ("compute.vm_size", "a resize restarts the serving node; rolling changes are not offered yet"),
    ("compute.data_disk_gb", "growing a disk needs a step inside the node that is not offered yet"),
    ("compute.zones", "a VM cannot move to another zone"),
    ("compute.admin_username", "the administrator of a VM is fixed at its creation"),
    ("compute.ssh_public_key", "the first key of a VM is fixed at its creation"),
    ("network.address_space", "nodes hold static addresses in it"),
    ("network.subnet", "nodes hold static addresses in it"),
    ("network.frontend", "the frontend of a load balancer cannot change its kind"),
)


def refused_changes(old: ClusterSpec, new: ClusterSpec) -> list[tuple[str, str]]:
    """(target, reason) for every field that differs and cannot be changed on an existing cluster."""
    refused: list[tuple[str, str]] = []
    for path, reason in _FIXED:
        before: object = old
        after: object = new
        for part in path.split("."):
            before, after = getattr(before, part), getattr(after, part)
        if before != after:
            words = [re.sub(r"_([a-z])", lambda match: match.group(1).upper(), part) for part in path.split(".")]
            refused.append((".".join(words), reason))
    return refused
