"""Operating-system images a cluster may name: word of the API → ARM image reference.

All are generation 2 (the VMs use Trusted Launch). The agent needs Python 3.11 or newer from the distribution itself,
which is why Ubuntu 22.04 (3.10) is not in the list; a Windows node brings its own. Whether Windows may be provisioned
is decided by the control plane's settings, not here: see `shared.provisioning.windows_artifacts`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mirror_agent.contract import OperatingSystem


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    os: OperatingSystem
    publisher: str
    offer: str
    sku: str
    packages: tuple[str, ...] = ()
    """Distribution packages the bootstrap needs (a virtual environment, CA certificates, mkfs)."""
    version: str = "latest"


_DEBIAN_PACKAGES: Final = ("python3-venv", "ca-certificates", "e2fsprogs")
_WINDOWS_SERVER: Final = ("MicrosoftWindowsServer", "WindowsServer")  # publisher, offer

IMAGES: Final = MappingProxyType(
    {
        image.name: image
        for image in (
            Image("debian-12", "linux", "Debian", "debian-12", "12-gen2", _DEBIAN_PACKAGES),
            Image("debian-13", "linux", "Debian", "debian-13", "13-gen2", _DEBIAN_PACKAGES),
            Image("ubuntu-24.04", "linux", "Canonical", "ubuntu-24_04-lts", "server", _DEBIAN_PACKAGES),
            Image("windows-2022", "windows", *_WINDOWS_SERVER, "2022-datacenter-azure-edition"),
            Image("windows-2025", "windows", *_WINDOWS_SERVER, "2025-datacenter-azure-edition"),
        )
    }
)


class ImageError(ValueError):
    """A named image cannot be used; `code` is the API's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def supported_image(name: str, os: str) -> Image:
    """The image called `name`, if it exists and is an `os` image.

    Raises ImageError with code `UnknownImage` or `ImageOperatingSystemMismatch`.
    """
    image = IMAGES.get(name)
    if image is None:
        near = difflib.get_close_matches(name, IMAGES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ImageError("UnknownImage", f"{name!r} is no image; use one of {', '.join(sorted(IMAGES))}{hint}")
    if image.os != os:
        fitting = ", ".join(sorted(found.name for found in IMAGES.values() if found.os == os))
        raise ImageError(
            "ImageOperatingSystemMismatch",
            f"image {name!r} is {image.os}, but compute.os is {os!r}; use one of {fitting}",
        )
    return image
