"""Resource ids: `/subscriptions/S/resourceGroups/G/providers/Namespace/type/name[/child/name]`.

ARM keeps the spelling of names but compares without case, and clients spell `resourceGroups` both ways. So every id is
parsed once here; `key` is what to compare and to index by, `str(id)` what to show.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.arm.errors import ArmError


@dataclass(frozen=True, slots=True)
class ResourceId:
    """Id of a resource or of a child element of one (`…/virtualNetworks/v/subnets/s`)."""

    subscription: str
    group: str
    namespace: str  # "Microsoft.Network"
    path: tuple[tuple[str, str], ...]  # (type, name) pairs, one or two

    def __str__(self) -> str:
        tail = "/".join(f"{kind}/{name}" for kind, name in self.path)
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/providers/{self.namespace}/{tail}"

    @property
    def key(self) -> str:
        return str(self).lower()

    @property
    def type(self) -> str:
        """Full type name, e.g. "Microsoft.Network/virtualNetworks/subnets"."""
        return "/".join((self.namespace, *(kind for kind, _ in self.path)))

    @property
    def name(self) -> str:
        return self.path[-1][1]

    @property
    def parent(self) -> ResourceId:
        """The top-level resource of a child element; of a top-level resource: itself."""
        return ResourceId(self.subscription, self.group, self.namespace, self.path[:1])


def parse_resource_id(text: str, *, target: str = "id") -> ResourceId:
    """Raises `ArmError` LinkedInvalidPropertyId (as ARM does for a reference it cannot read)."""
    parts = text.split("/")
    well_formed = (
        len(parts) in (9, 11)
        and parts[0] == ""
        and parts[1].lower() == "subscriptions"
        and parts[3].lower() == "resourcegroups"
        and parts[5].lower() == "providers"
        and all(parts[1:])
    )
    if not well_formed:
        raise ArmError(
            400,
            "LinkedInvalidPropertyId",
            f"Property id '{text}' at path '{target}' is invalid. Expect fully qualified resource Id that start with "
            "'/subscriptions/{subscriptionId}' or '/providers/{resourceProviderNamespace}/'.",
        )
    pairs = tuple(zip(parts[7::2], parts[8::2], strict=True))
    return ResourceId(parts[2], parts[4], parts[6], pairs)


def same(left: str, right: str) -> bool:
    """Ids (and names) are equal without case."""
    return left.lower() == right.lower()
