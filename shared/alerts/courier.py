"""Who carries notices out: named channels behind one interface, and what a channel may answer.

A channel never raises: whatever happens is an outcome with a reason. `Refused` means that the very same notice will
never be taken (a wrong address, a wrong key); everything else is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shared.model.alert import RANK, Notice, Severity


@dataclass(frozen=True, slots=True)
class Sent:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    reason: str


Outcome = Sent | Failed | Refused


class Channel(Protocol):
    async def send(self, notice: Notice) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Line:
    """A channel and the least severity it is told of. Notices of the watchdog go to channels of every severity."""

    channel: Channel
    minimum: Severity = Severity.INFO


@dataclass(frozen=True)
class Courier:
    """`lines` by the name of the channel, as the app settings call it."""

    lines: Mapping[str, Line] = field(default_factory=dict)

    def channels_for(self, notice: Notice) -> tuple[str, ...]:
        wanted = (
            name for name, line in self.lines.items() if RANK[notice.severity] >= RANK[line.minimum] or _always(notice)
        )
        return tuple(sorted(wanted))

    async def send(self, channel: str, notice: Notice) -> Outcome:
        line = self.lines.get(channel)
        if line is None:
            return Refused(
                f"no channel is called {channel!r} any more; known: {', '.join(sorted(self.lines)) or 'none'}"
            )
        return await line.channel.send(notice)


def _always(notice: Notice) -> bool:
    return any(alert.rule == "watchdog" for alert in notice.alerts)
