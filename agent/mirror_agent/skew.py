"""Which releases may work together: node with node, node with control plane. Pure.

Rule: the same major version, and minor versions at most one apart; the patch level does not matter. A rolling upgrade
needs that much (for a while each node runs another release) and a release is tested with no more. Whoever meets an
agent outside of it refuses with `refusal`, which names both versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MINORS_APART_MAX: Final = 1
_VERSION: Final = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[.+a-z-].*)?")


@dataclass(frozen=True, slots=True, order=True)
class Release:
    major: int
    minor: int
    patch: int


def release_of(version: str) -> Release | None:
    """None for what is no version of this product, `0.1.0` for instance is one."""
    found = _VERSION.fullmatch(version)
    return None if found is None else Release(*(int(number) for number in found.groups()))


def refusal(who: str, version: str, whom: str, other_version: str) -> str:
    """Why the two cannot work together, as a sentence; "" if they can. `who`, `whom`: "node a", "the control plane"."""
    one, other = release_of(version), release_of(other_version)
    for name, text, release in ((who, version, one), (whom, other_version, other)):
        if release is None:
            return f"{name} names the version {text!r}, which is none; versions are like 1.2.3"
    assert one is not None
    assert other is not None
    if one.major == other.major and abs(one.minor - other.minor) <= MINORS_APART_MAX:
        return ""
    return (
        f"{who} has version {version}, {whom} has version {other_version}: they work together within one major "
        f"version and {MINORS_APART_MAX} minor version apart; upgrade one minor version at a time"
    )
