"""The releases of the agent that this control plane can give to its nodes: the wheels beside the configured one.

`MIRRORPLANE_AGENT_WHEEL` names the wheel that new nodes are booted with; it is also the target of an upgrade that names
none. Other versions (to go back to, or a step on the way) lie in the same directory under their usual file names.
Limits: the version is the one in the file's name (PEP 427); the node compares it with what the agent itself says.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror_agent.contract import AgentRelease

_WHEEL: Final = re.compile(r"mirror_agent-([0-9][A-Za-z0-9.+]*)-[^/]+\.whl")
MAX_RELEASES: Final = 50


class NoSuchRelease(ValueError):
    """The sentence names what there is."""


@dataclass(frozen=True, slots=True)
class Offered:
    release: AgentRelease
    path: Path


def offered(configured: Path | None) -> tuple[Offered, ...]:
    """Everything that can be read, the configured one first if it is there. Reads files."""
    if configured is None:
        return ()
    others = sorted(configured.parent.glob("mirror_agent-*.whl"))[:MAX_RELEASES]
    found = []
    for path in dict.fromkeys((configured, *others)):
        match = _WHEEL.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(Offered(AgentRelease(version=match.group(1), wheel_name=path.name, sha256=sha256), path))
    return tuple(found)


def chosen(configured: Path | None, version: str | None) -> AgentRelease:
    """The release of that version, or the configured one. Raises NoSuchRelease."""
    there = offered(configured)
    if not there:
        raise NoSuchRelease("no agent wheel is installed here; set MIRRORPLANE_AGENT_WHEEL to its path")
    if version is None:
        # Never another one by chance: that could take the nodes back to an older agent.
        for one in there:
            if one.path == configured:
                return one.release
        raise NoSuchRelease(f"MIRRORPLANE_AGENT_WHEEL names {configured}, which is no agent wheel that can be read")
    for one in there:
        if one.release.version == version:
            return one.release
    names = ", ".join(one.release.version for one in there)
    raise NoSuchRelease(f"there is no agent of version {version!r} here; there are: {names}")
