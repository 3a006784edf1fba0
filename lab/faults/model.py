"""What a case is, and what was observed of it: plain values between injector, observers and judge.

All times are seconds of this machine's CLOCK_MONOTONIC unless they say `wall`; lab, VMs and client share one kernel, so
times of different observers may be compared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lab.faults.scene import Scene

NODES: Final = ("a", "b")


class Service(StrEnum):
    """What a client must see of the service during the accident."""

    UNBROKEN = "unbroken"  # no longer gap than a busy machine makes
    UNPLANNED = "unplanned"  # an outage that counts for the percentiles of the time budget
    PLANNED = "planned"  # an orderly swap
    OPEN = "open"  # an outage as long as the accident by design: no complete copy or no arbiter can be reached


class Primary(StrEnum):
    """Who must be primary afterwards."""

    STAYS = "stays"
    CHANGES = "changes"
    EITHER = "either"


@dataclass(frozen=True)
class Case:
    """One accident. `fault` injects it and returns when it is over; what it did is undone by the scene afterwards."""

    name: str
    kind: str
    must: str  # one sentence: what must happen
    fault: Callable[[Scene], Awaitable[None]]
    service: Service = Service.UNPLANNED
    primary: Primary = Primary.EITHER
    pause_s: float = 0.02  # between two writes of a client
    # Longest gap between acknowledged writes that is accepted; None: measured only.
    limit_s: float | None = None


@dataclass(frozen=True)
class Ack:
    """An acknowledged write: the node that answered, when the request left, when the answer was here."""

    id: int
    node: str
    sent_at: float
    received_at: float
    through: str  # which client of the virtual IP, or the node whose application was asked directly


@dataclass(frozen=True)
class Sample:
    """One answer of a node's probe (`/health` on 9010, the same function the load balancer's probe asks), or none."""

    node: str
    sent_at: float
    received_at: float
    answered: bool
    serving: bool = False
    role: str = ""
    phase: str = ""
    epoch: int = 0


@dataclass(frozen=True)
class Alive:
    """The application of a node answered a GET that touches no file; `epoch` is the one it was started in."""

    node: str
    sent_at: float
    received_at: float
    epoch: int


@dataclass(frozen=True)
class RecordSeen:
    """The witness record as read directly from storage."""

    sent_at: float
    received_at: float
    epoch: int
    primary: str
    in_sync: tuple[str, ...]
    rule: str


@dataclass(frozen=True)
class Observed:
    """Everything the judge may look at; nothing of it comes from a verdict of the product."""

    began_at: float
    ended_at: float
    values: dict[int, str]  # id -> the value the client sent, acknowledged or not
    acks: tuple[Ack, ...]
    rows: dict[int, str]  # what the application holds at the end, of this case's ids
    earlier_rows_lost: int
    samples: tuple[Sample, ...]
    alive: tuple[Alive, ...]
    records: tuple[RecordSeen, ...]
    # (epoch, node, rule) of every conditional write the nodes' event logs call won, in the order of their clocks
    won: tuple[tuple[int, str, str], ...]
    trees: tuple[dict[str, str], dict[str, str]]


@dataclass(frozen=True)
class Verdict:
    """The judge's words on one case; no finding, no complaint."""

    findings: tuple[str, ...]
    lost_writes: int
    outage_s: float
    stale_s: float  # how long an application of an older epoch answered beside a newer one (reads only)
    changes: int  # of the primary
    blind_s: float  # the longest time between two questions to the same node's probe


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    name: str
    kind: str
    service: str
    run: int
    ok: bool
    findings: tuple[str, ...]
    lost_writes: int
    acknowledged_writes: int
    outage_s: float
    stale_s: float
    primary_changes: int
    blind_s: float
    duration_s: float
