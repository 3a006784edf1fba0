"""Every change of role that a decision may make, as data: from which role, by which rule, to which role.

`decide` refuses a change that is not listed here, the tests refuse an entry that no state leads to, and the diagram in
docs/automaton.md is generated from it. Rules that are not listed keep the role (they may change the epoch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .model import Role

SERVING_ROLES: Final = (Role.PRIM, Role.ALONE)


@dataclass(frozen=True, slots=True)
class Change:
    rule: str
    sources: tuple[Role, ...]
    targets: tuple[Role, ...]


CHANGES: Final[tuple[Change, ...]] = (
    Change("start", (Role.STOP,), (Role.WAIT,)),
    Change("stopping", (Role.WAIT, Role.SECOND), (Role.STOP,)),
    Change("joining", (Role.WAIT,), (Role.SECOND,)),
    Change("won-primary", (Role.WAIT,), (Role.ALONE,)),
    Change("won-primary", (Role.SECOND,), SERVING_ROLES),
    Change("handed-over", (Role.SECOND,), SERVING_ROLES),
    Change("recorded-without-data", (Role.SECOND,), (Role.WAIT,)),
    Change("forced-by-operator", (Role.SECOND,), (Role.WAIT,)),
    Change("clean-front", (Role.SECOND,), (Role.WAIT,)),
    Change("replica-lost", (Role.SECOND,), (Role.WAIT,)),
    Change("not-in-sync", (Role.SECOND,), (Role.WAIT,)),
    Change("adopt-record", (Role.PRIM,), (Role.ALONE,)),
    Change("adopt-record", (Role.ALONE,), (Role.PRIM,)),
    Change("swap-done", SERVING_ROLES, (Role.SECOND,)),
    Change("stopped-here", SERVING_ROLES, (Role.STOP,)),
    Change("superseded", SERVING_ROLES, (Role.WAIT,)),
    Change("superseded-says-peer", SERVING_ROLES, (Role.WAIT,)),
    Change("promise-expired", SERVING_ROLES, (Role.WAIT,)),
    Change("mirror-failed", SERVING_ROLES, (Role.WAIT,)),
)

EDGES: Final[frozenset[tuple[Role, str, Role]]] = frozenset(
    (source, change.rule, target) for change in CHANGES for source in change.sources for target in change.targets
)
