"""The whole fleet at a glance, kept in this process for a few seconds.

The verdicts are the audit's, posted whole at its end (`shared.store.board`): a page of a fleet of 10,000 costs no
storage operation while the reading is fresh, and nobody waits for a reading that is under way unless there is nothing
to show yet. What is shown is up to `FRESH_S` (under load a little more) older than what is posted, and says when it was
read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime

from shared.console.lines import Line, PostedLine
from shared.health.verdict import Health
from shared.model.document import ApiModel

FRESH_S: Final = 2.0
STALE_S: Final = 60.0


class NodeBrief(ApiModel):
    state: Health
    sentence: str


class ClusterBrief(ApiModel):
    """`serving`: the one node of a mirror; `up`: all of a farm that serve."""

    cluster: str
    state: Health
    rule: str
    sentence: str
    since: AwareDatetime | None = None
    serving: NodeName | None = None
    up: tuple[NodeName, ...] = ()
    nodes: dict[NodeName, NodeBrief]
    paused_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """`posted`: digest and changes of the text that was read, if one was; the same is not taken apart twice."""

    briefs: tuple[Line | PostedLine, ...]
    counts: Mapping[Health, int]
    read_at: datetime
    audited_at: datetime | None
    storm: bool
    storm_sentence: str
    posted: tuple[str, Mapping[str, bool]] | None = None


@dataclass
class Board:
    """One per process. `age_s` since the last reading is measured on a clock that does not jump."""

    monotonic_s: Callable[[], float] = time.monotonic
    _reading: Reading | None = None
    _read_s: float = 0.0
    _under_way: asyncio.Task[Reading] | None = field(default=None, repr=False)

    @property
    def last(self) -> Reading | None:
        return self._reading

    async def look(self, read: Callable[[], Awaitable[Reading]]) -> Reading:
        """Raises what `read` raises, but only when there is nothing fit to show instead."""
        age_s = self.monotonic_s() - self._read_s
        if self._reading is not None and age_s < FRESH_S:
            return self._reading
        task = self._under_way
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._under_way = asyncio.ensure_future(self._refresh(read))
            task.add_done_callback(_seen)
        if self._reading is not None and age_s < STALE_S:
            return self._reading
        return await asyncio.shield(task)

    async def _refresh(self, read: Callable[[], Awaitable[Reading]]) -> Reading:
        reading = await read()
        self._reading, self._read_s = reading, self.monotonic_s()
        return reading


def _seen(task: asyncio.Task[Reading]) -> None:
    """A failed reading is told to those who wait for it; nobody waiting is no error of its own."""
    if not task.cancelled():
        task.exception()


def brief(line: Line) -> ClusterBrief:
    nodes = {node: NodeBrief(state=state, sentence=sentence) for node, (state, sentence) in line.nodes.items()}
    return ClusterBrief(
        cluster=line.cluster,
        state=line.state,
        rule=line.rule,
        sentence=line.sentence,
        since=line.since,
        serving=line.serving,
        up=line.up,
        nodes=nodes,
        paused_by=line.paused_by,
    )
