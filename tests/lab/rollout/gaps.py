"""The longest gap of a case, and what the two nodes did in it: a figure without its reasons mends nothing. Pure but for
reading the journal's file."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.faults.client import THROUGH_VIRTUAL_IP

BEFORE_S: Final = 1.5  # what led to it
KINDS: Final = frozenset({"decision", "witness.write", "probe.ok", "probe.not-ok", "agent.start", "agent.stop"})
PREFIXES: Final = ("application.", "relay.", "rollout.", "order.", "mirror.")


@dataclass(frozen=True)
class Gap:
    """On the monotonic clock of this process."""

    through: str
    began_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        return self.ended_at - self.began_at


def acknowledged(journal: Path, first_id: int) -> list[tuple[str, float]]:
    """(client, time) of every acknowledgement since this id, in the order of the file."""
    found = []
    with journal.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if "at" in entry and entry["id"] >= first_id:
                found.append((str(entry["through"]), float(entry["at"])))
    return found


def longest(acks: Iterable[tuple[str, float]]) -> Gap | None:
    """Of the clients of the virtual IP, each for itself."""
    times: dict[str, list[float]] = {through: [] for through in THROUGH_VIRTUAL_IP}
    for through, at in acks:
        if through in times:
            times[through].append(at)
    gaps = [Gap(through, *pair) for through, of in times.items() for pair in itertools.pairwise(sorted(of))]
    return max(gaps, key=lambda gap: gap.seconds, default=None)


def story(gap: Gap, events: Sequence[dict[str, Any]]) -> list[str]:
    """What the nodes wrote down from a little before the gap until its end; seconds since its beginning."""
    wall = time.time() - time.monotonic()
    told = []
    for event in sorted(events, key=lambda event: event["at"]):
        at_s = event["at"] - wall - gap.began_at
        kind = str(event["kind"])
        if -BEFORE_S <= at_s <= gap.seconds and (kind in KINDS or kind.startswith(PREFIXES)):
            words = event.get("rule") or event.get("reason") or event.get("how") or event.get("action") or ""
            told.append(f"{at_s:+.2f} s {event['node']} {kind} {words}".rstrip()[:120])
    return told
