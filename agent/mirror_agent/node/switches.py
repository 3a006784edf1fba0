"""Two settings an operator changes while the node runs: `failover` of the whole cluster, `checkers` of this node.

Problem: a switch that only one node knows, or that a restart forgets, is worse than none.
Guarantee: each setting carries a serial, who set it and why. `failover` travels in every heartbeat, both ways, and the
newer setting holds on both nodes, whichever of them it was given to. Both are on the disk before an operator reads
"done", and are found there after a restart. A changed configuration counts as the newest word on `failover`.
Limits: two operators who set it on both nodes within one heartbeat get one of the two settings, the same one on both.
Neither switch touches safety: `failover off` only ever stops a takeover, never permits one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mirror_agent.eventlog import EventLog
from mirror_agent.net.peer_wire import MAX_WHO_CHARS, MAX_WHY_CHARS, Switch
from mirror_agent.paths import SECRET_FILE_MODE, replace_file

CONFIGURATION: Final = "configuration"


class _Stored(BaseModel):
    """`configured_failover`: what the configuration said when `failover` was last written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failover: Switch
    configured_failover: bool
    checkers: Switch = Switch(on=True)


class Switches:
    """All methods belong to one event loop; the disk is written in a thread."""

    def __init__(self, path: Path, *, configured_failover: bool, log: EventLog) -> None:
        """Reads what an earlier life stored; a configuration that changed meanwhile has the last word."""
        self._path = path
        self._log = log
        fresh = _Stored(failover=Switch(on=configured_failover), configured_failover=configured_failover)
        self._stored = _load(path, log) or fresh
        self._peer: Switch | None = None
        self._changed: list[Callable[[], None]] = []
        self._saving = asyncio.Lock()
        self._tasks: set[asyncio.Task[bool]] = set()
        if self._stored.configured_failover != configured_failover:
            self._stored = self._with_configured(configured_failover, "changed while the agent was away")

    @property
    def failover(self) -> Switch:
        return self._stored.failover

    @property
    def checkers(self) -> Switch:
        return self._stored.checkers

    @property
    def agreed(self) -> bool:
        """The peer has said in its last message that it holds the same setting of `failover`."""
        return self._peer == self.failover

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """`on_change` is called when a setting changed here or at the peer; the answer ends that."""
        self._changed.append(on_change)
        return lambda: self._changed.remove(on_change)

    async def set_failover(self, on: bool, *, who: str, why: str) -> bool:
        """Here, and told to the peer from now on; False when the disk refuses (then a restart forgets it)."""
        self._take_failover(_next(self.failover, on, who, why))
        return await self._save()

    async def set_checkers(self, on: bool, *, who: str, why: str) -> bool:
        self._stored = self._stored.model_copy(update={"checkers": _next(self.checkers, on, who, why)})
        self._log.record_decision("checkers.switched", on=on, who=who, why=why)
        self._tell()
        return await self._save()

    def learn_failover(self, peer: Switch) -> None:
        """What the peer holds, with each of its messages."""
        if peer == self._peer and not peer.is_newer_than(self.failover):
            return
        self._peer = peer
        if peer.is_newer_than(self.failover):
            self._take_failover(peer)
            self._save_soon()
        else:
            self._tell()

    def configured(self, failover: bool) -> None:
        """A new configuration has arrived; only a change of its word counts."""
        if failover != self._stored.configured_failover:
            self._stored = self._with_configured(failover, "the configuration was changed")
            self._tell()
            self._save_soon()

    def _with_configured(self, failover: bool, why: str) -> _Stored:
        switch = _next(self.failover, failover, CONFIGURATION, why)
        self._log.record_decision("failover.switched", **asdict(switch))
        return self._stored.model_copy(update={"failover": switch, "configured_failover": failover})

    def _take_failover(self, switch: Switch) -> None:
        self._stored = self._stored.model_copy(update={"failover": switch})
        self._log.record_decision("failover.switched", **asdict(switch))
        self._tell()

    def _tell(self) -> None:
        for callback in tuple(self._changed):
            callback()

    def _save_soon(self) -> None:
        task = asyncio.create_task(self._save(), name="switches")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _save(self) -> bool:
        async with self._saving:
            content = self._stored.model_dump_json().encode()
            try:
                await asyncio.to_thread(replace_file, self._path, content, SECRET_FILE_MODE)
            except OSError as error:
                self._log.record("switches.not-written", path=str(self._path), error=error.strerror or str(error))
                return False
            return True


def _next(before: Switch, on: bool, who: str, why: str) -> Switch:
    return replace(before, on=on, serial=before.serial + 1, who=who[:MAX_WHO_CHARS], why=why[:MAX_WHY_CHARS])


def _load(path: Path, log: EventLog) -> _Stored | None:
    """None without a usable file: then the configuration's word holds, and a damaged file is kept for inspection."""
    try:
        return _Stored.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        log.record_decision("switches.damaged", path=str(aside), errors=error.error_count())
        return None
