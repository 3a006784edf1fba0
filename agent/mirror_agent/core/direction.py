"""Whose copy is the truth when a node starts: the table of resync directions, row by row with the rule's name.

A pair that comes back must know in which direction to copy before anything serves (DRBD decides it by generation
identifiers in `drbd_uuid_compare`; the order of the rows and the idea that a crashed side may hold more than its peer
are from there). Here the witness record is the generation: it names who is primary and whose data is complete. The
first row whose facts hold decides; the last one has no condition, so the table is closed. What follows from a row is
the same for all of them: MINE asks the witness for the role, PEERS becomes a replica, OPERATOR waits for a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Source(StrEnum):
    """The copy that the other one is made equal to."""

    MINE = "mine"
    PEERS = "the peer's"
    OPERATOR = "an operator decides"


@dataclass(frozen=True, slots=True)
class Row:
    """`needs` hold and `lacks` do not: then `rule` is the decision."""

    rule: str
    source: Source
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def applies(self, known: frozenset[str]) -> bool:
        return known.issuperset(self.needs) and known.isdisjoint(self.lacks)


FACTS: Final[dict[str, str]] = {
    "unclaimed": "the record names nobody: there has never been a primary",
    "named": "the record names this node as primary",
    "listed": "the record lists this node as in sync",
    "complete": "this node's data is complete for the epoch of the record",
    "trusted": "this node has not restarted without an orderly stop",
    "peer listed": "the record lists the peer as in sync",
    "peer heard": "the peer sends heartbeats",
    "peer serves": "the peer is heard and serves",
    "peer waits": "the peer is heard and waits as well",
    "peer trusted": "the peer is heard and has not restarted without an orderly stop",
    "patience over": "the peer has been idle, or silent, for as long as a promise and its margin last",
    "failover": "failover is switched on",
}

ROWS: Final[tuple[Row, ...]] = (
    # Nobody has ever been primary: the control plane has listed the node that begins (`defaultPrimary`).
    Row("first-start", Source.MINE, ("unclaimed", "listed")),
    Row("first-start-elsewhere", Source.PEERS, ("unclaimed",)),
    # The record names this node.
    Row("recorded-without-data", Source.OPERATOR, ("named",), ("complete",)),
    Row("both-lost-power", Source.MINE, ("named", "peer listed", "peer waits"), ("trusted", "peer trusted")),
    Row("untrusted-defers", Source.PEERS, ("named", "peer listed"), ("trusted",)),
    Row("resume-as-primary", Source.MINE, ("named",)),
    # The record names the peer.
    Row("not-in-sync", Source.PEERS, (), ("listed",)),
    Row("not-in-sync", Source.PEERS, (), ("complete",)),
    Row("primary-alive", Source.PEERS, ("peer serves",)),
    # Also a peer that this node has just handed the role to needs its time, heard or not (found by the simulator).
    Row("peer-starting", Source.PEERS, ("peer heard",), ("patience over",)),
    # Also to a peer that is stopped: it may have flushed what this node lost (found by the simulator).
    Row("untrusted-defers", Source.PEERS, ("peer heard",), ("trusted",)),
    Row("observing", Source.PEERS, (), ("patience over",)),
    Row("untrusted-refused", Source.PEERS, (), ("trusted",)),
    Row("failover-off", Source.PEERS, (), ("failover",)),
    Row("takeover-at-start", Source.MINE),
)


def direction(known: frozenset[str]) -> Row:
    """The first row that applies to the facts that hold."""
    return next(row for row in ROWS if row.applies(known))
