"""What the audit remembers between looks: what each subject was called, what was last seen, how often it changed.

Everything is kept as moments, never as counters of audits: an audit that is skipped or doubled changes nothing, and a
row is written only when something about its cluster changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mirror_agent.contract import NodeName

from shared.health.limits import KEPT_CHANGES
from shared.health.verdict import Health


@dataclass(frozen=True, slots=True)
class Track:
    """`state` and `rule` are what was concluded (since `since`); `seen` is what the looks showed since `seen_since`.
    `changes`: the last times at which a node went from well to not well or back."""

    state: Health
    rule: str
    sentence: str
    since: datetime
    seen: Health
    seen_since: datetime
    changes: tuple[datetime, ...] = ()

    def __post_init__(self) -> None:
        if len(self.changes) > KEPT_CHANGES:
            raise ValueError(f"{len(self.changes)} changes; {KEPT_CHANGES} are kept")


@dataclass(frozen=True, slots=True)
class History:
    """`watching_since`: begin of the unbroken series of audits; None at the very first look."""

    watching_since: datetime | None
    silent_after_s: float
    cluster: Track | None = None
    nodes: Mapping[NodeName, Track] = field(default_factory=dict)
