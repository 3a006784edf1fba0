"""What the name of a VM size tells: how many cores, and which quota they count against.

Source: Microsoft's "VM sizes naming conventions": family, [sub-family], vCPUs, [constrained vCPUs], additive features,
[accelerator], [version]. Cores of a constrained size count in full. A name that does not follow them (old sizes such
as Standard_A1) tells nothing, and the caller says so instead of guessing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_SIZE: Final = re.compile(
    r"(?:Standard|Basic)_(?P<family>[A-Z]{1,2})(?P<cores>\d{1,3})(?:-\d{1,3})?(?P<features>[a-z]*)(?:_v(?P<version>\d))?"
)
# Names of quotas that are not put together like the others.
_IRREGULAR: Final = MappingProxyType({"standardBMSFamily": "standardBSFamily", "standardBFamily": "standardBSFamily"})


@dataclass(frozen=True, slots=True)
class SizeFacts:
    cores: int
    quota: str
    """Name of the quota as `az vm list-usage` shows it, such as `standardDSv5Family`."""


def size_facts(size: str) -> SizeFacts | None:
    found = _SIZE.fullmatch(size)
    if found is None or (found["version"] is None and found["family"] != "B"):
        return None
    version = f"v{found['version']}" if found["version"] else ""
    quota = f"standard{found['family']}{found['features'].upper()}{version}Family"
    return SizeFacts(int(found["cores"]), _IRREGULAR.get(quota, quota))
