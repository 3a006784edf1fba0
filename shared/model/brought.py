"""Resources of the caller's own that a cluster uses: their ARM ids, taken apart and checked as texts.

Whether they exist, lie in the right region and have room is Azure's to say: `shared.provisioning.specs.brought` asks.
Nothing that is named here is ever written or deleted by this system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_GROUP: Final = r"/subscriptions/(?P<subscription>[0-9a-f-]{36})/resourceGroups/(?P<group>[-\w.()]{1,90})"
_NAME: Final = r"[A-Za-z0-9](?:[\w.-]{0,78}\w)?"
_SUBNET: Final = re.compile(
    rf"{_GROUP}/providers/Microsoft\.Network/virtualNetworks/(?P<network>{_NAME})/subnets/(?P<name>{_NAME})", re.I
)
_PROXIMITY: Final = re.compile(
    rf"{_GROUP}/providers/Microsoft\.Compute/proximityPlacementGroups/(?P<name>{_NAME})", re.I
)
_GALLERY_IMAGE: Final = re.compile(
    rf"{_GROUP}/providers/Microsoft\.Compute/galleries/{_NAME}/images/{_NAME}(?:/versions/(?:latest|\d+\.\d+\.\d+))?",
    re.I,
)


@dataclass(frozen=True, slots=True)
class BroughtId:
    """`network` only of a subnet: the virtual network it is a part of."""

    id: str
    subscription: str
    group: str
    name: str
    network: str = ""


def subnet_id(text: str) -> BroughtId:
    """Raises ValueError with the form that is wanted."""
    found = _SUBNET.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no id of a subnet; give /subscriptions/…/resourceGroups/…/providers/Microsoft.Network/"
            "virtualNetworks/NETWORK/subnets/SUBNET"
        )
    return BroughtId(text, found["subscription"].lower(), found["group"], found["name"], found["network"])


def proximity_group_id(text: str) -> BroughtId:
    """Raises ValueError with the form that is wanted."""
    found = _PROXIMITY.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no id of a proximity placement group; give 'own' to have one made, or /subscriptions/…/"
            "resourceGroups/…/providers/Microsoft.Compute/proximityPlacementGroups/NAME"
        )
    return BroughtId(text, found["subscription"].lower(), found["group"], found["name"])


def check_gallery_image_id(text: str) -> str:
    """The id. A managed image is refused: VMs of one cannot use Trusted Launch. Raises ValueError."""
    if _GALLERY_IMAGE.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} is no image of a compute gallery; give /subscriptions/…/resourceGroups/…/providers/"
            "Microsoft.Compute/galleries/GALLERY/images/IMAGE, with /versions/1.2.3 to pin one"
        )
    return text
