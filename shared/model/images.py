"""Operating-system images a node can be made of.

An image is offered only if the agent runs on its distribution Python (>= 3.11, see agent/pyproject.toml) and the
bootstrap (cloud-init, apt, systemd) is known there. Windows is a known word without an image: the request is refused
with a reason instead of ending in two VMs on which nothing starts.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class OperatingSystem(StrEnum):
    LINUX = "linux"
    WINDOWS = "windows"


@dataclass(frozen=True)
class Image:
    """A marketplace image reference, as `storageProfile.imageReference` of a VM wants it."""

    name: str
    os: OperatingSystem
    publisher: str
    offer: str
    sku: str
    version: str = "latest"


IMAGES: Final[dict[str, Image]] = {
    image.name: image
    for image in (
        Image("debian-12", OperatingSystem.LINUX, "Debian", "debian-12", "12-gen2"),  # Python 3.11
        Image("debian-13", OperatingSystem.LINUX, "Debian", "debian-13", "13-gen2"),  # Python 3.13
        Image("ubuntu-24.04", OperatingSystem.LINUX, "Canonical", "ubuntu-24_04-lts", "server"),  # Python 3.12
    )
}


def nearest(word: str, valid: list[str]) -> str:
    """` Did you mean 'x'?` or nothing: the tail of an error message that lists `valid`."""
    close = difflib.get_close_matches(word.lower(), valid, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def find_image(os: OperatingSystem, name: str) -> Image:
    """The image of that name. Raises ValueError that lists the valid ones."""
    valid = sorted(image.name for image in IMAGES.values() if image.os is os)
    if not valid:
        offered = sorted({image.os.value for image in IMAGES.values()})
        raise ValueError(f"no image of {os.value!r} is supported; supported operating systems: {', '.join(offered)}")
    image = IMAGES.get(name)
    if image is None or image.os is not os:
        raise ValueError(
            f"{name!r} is no supported {os.value} image; supported: {', '.join(valid)}.{nearest(name, valid)}"
        )
    return image
