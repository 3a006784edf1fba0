"""The compute part of a cluster's spec: what its VMs are made of and how far apart they stand.

Apart, in falling order of what it survives: two zones (the default), an availability set (racks of one data centre),
nothing. A proximity placement group is the opposite wish and lives in one place, so it excludes zones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from mirror_agent.contract import ALL_NODES, MAX_FARM_NODES, NodeName
from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from shared.model.brought import check_gallery_image_id, proximity_group_id
from shared.model.document import ApiModel, FieldError, is_stored
from shared.provisioning.images import ImageError, supported_image

OWN_PROXIMITY_GROUP: Final = "own"
MAX_WINDOWS_USER_CHARS: Final = 20  # Microsoft.Compute, osProfile.adminUsername; 64 on Linux
# Refused by Azure as administrator names (Microsoft.Compute, osProfile.adminUsername).
_RESERVED_USERS: Final = frozenset(
    (
        *("administrator", "admin", "admin1", "admin2", "adm", "user", "user1", "user2", "user3", "user4", "user5"),
        *("test", "test1", "test2", "test3", "actuser", "aspnet", "backup", "console", "david", "guest", "john"),
        *("owner", "root", "server", "sql", "support", "support_388945a0", "sys", "a", "daemon", "bin", "nobody"),
    )
)
_KEY = re.compile(r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{40,}={0,3}( [^\r\n]*)?$")


class DataDiskSku(StrEnum):
    """Of the data disks. ZRS disks are written to three zones, LRS disks to one place."""

    PREMIUM = "Premium_LRS"
    PREMIUM_V2 = "PremiumV2_LRS"
    PREMIUM_ZONE_REDUNDANT = "Premium_ZRS"
    STANDARD = "StandardSSD_LRS"
    STANDARD_ZONE_REDUNDANT = "StandardSSD_ZRS"

    @property
    def zone_redundant(self) -> bool:
        return self.value.endswith("_ZRS")


def zone_of(zones: Sequence[str], node: NodeName) -> str | None:
    """The nodes take turns in the zones of their cluster; None in a region without zones."""
    return zones[ALL_NODES.index(node) % len(zones)] if zones else None


class Compute(ApiModel):
    """The VMs: two of a mirror, two to four of a farm."""

    os: Literal["linux", "windows"] = "linux"
    image: Annotated[str, StringConstraints(max_length=64)] = "debian-12"
    vm_size: Annotated[str, StringConstraints(pattern=r"^(Standard|Basic)_[A-Za-z0-9_-]{1,60}$")] = "Standard_D2s_v5"
    nodes: Annotated[int, Field(ge=2, le=MAX_FARM_NODES)] = 2
    zones: Annotated[tuple[Literal["1", "2", "3"], ...], Field(max_length=3)] = ("1", "2")
    """With two zones and three nodes, a and c share one: see `zone_of`."""
    data_disk_gb: Annotated[int, Field(ge=4, le=32767)] = 32
    data_disk_sku: DataDiskSku = DataDiskSku.PREMIUM
    availability_set: bool = False
    proximity_placement_group: Annotated[str, StringConstraints(max_length=512)] | None = None
    """'own': one is made for the cluster; or the id of an existing one."""
    image_id: Annotated[str, StringConstraints(max_length=512)] | None = None
    """An image of a compute gallery in place of the published one; `image` then says which system it is made from."""
    admin_username: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "azureuser"
    ssh_public_key: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """Of Linux nodes; Windows nodes have an administrator whose password nobody keeps (docs/windows.md)."""

    @field_validator("admin_username")
    @classmethod
    def _allowed_user(cls, value: str) -> str:
        if value in _RESERVED_USERS:
            raise ValueError(f"Azure refuses {value!r} as administrator name; choose another, e.g. 'azureuser'")
        return value

    @field_validator("ssh_public_key")
    @classmethod
    def _one_key(cls, value: str | None) -> str | None:
        value = None if value is None else value.strip()
        if value is not None and not _KEY.fullmatch(value):
            raise ValueError("no OpenSSH public key on one line; give the content of e.g. ~/.ssh/id_ed25519.pub")
        return value

    @field_validator("proximity_placement_group")
    @classmethod
    def _a_proximity_group(cls, value: str | None) -> str | None:
        return value if value is None or value == OWN_PROXIMITY_GROUP else proximity_group_id(value).id

    @field_validator("image_id")
    @classmethod
    def _an_image(cls, value: str | None) -> str | None:
        return None if value is None else check_gallery_image_id(value)

    @model_validator(mode="after")
    def _possible(self, info: ValidationInfo) -> Self:
        if is_stored(info):
            return self  # an image that is no longer offered must not make a living cluster unreadable
        try:
            supported_image(self.image, self.os)
        except ImageError as error:
            raise FieldError("image", str(error), error.code) from None
        self._a_way_in()
        if len(self.zones) == 1 or len(self.zones) > self.nodes or len(set(self.zones)) != len(self.zones):
            some = "two different zones, one per node" if self.nodes == 2 else "two or three different zones"
            raise FieldError("zones", f"zones {list(self.zones)}: give {some}, or [] in a region without zones")
        self._one_place_or_several()
        return self

    def _a_way_in(self) -> None:
        """The administrator by the rules of osProfile: a key on Linux, a shorter name on Windows."""
        if self.os == "linux" and self.ssh_public_key is None:
            raise FieldError(
                "sshPublicKey", "Linux nodes need the administrator's public key, e.g. ~/.ssh/id_ed25519.pub"
            )
        if self.os == "windows" and self.ssh_public_key is not None:
            raise FieldError("sshPublicKey", "Windows nodes take no SSH key; leave it out")
        if self.os == "windows" and len(self.admin_username) > MAX_WINDOWS_USER_CHARS:
            chars = len(self.admin_username)
            reason = f"{self.admin_username!r} has {chars} characters; at most {MAX_WINDOWS_USER_CHARS} on Windows"
            raise FieldError("adminUsername", reason)

    def _one_place_or_several(self) -> None:
        for field, wanted in (
            ("availabilitySet", self.availability_set),
            ("proximityPlacementGroup", self.proximity_placement_group is not None),
        ):
            if wanted and self.zones:
                raise FieldError(field, f"{field} and zones {list(self.zones)} exclude each other; set zones to []")
        if self.data_disk_sku is DataDiskSku.PREMIUM_V2 and not self.zones:
            raise FieldError("dataDiskSku", "PremiumV2_LRS disks need zones; give two zones or take Premium_LRS")
        if self.data_disk_sku.zone_redundant and self.availability_set:
            raise FieldError("dataDiskSku", f"{self.data_disk_sku.value} needs VMs outside of an availability set")
