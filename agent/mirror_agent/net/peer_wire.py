"""The messages between the two nodes: JSON lines, small, strict, and with an order over several paths.

Guarantee: a message of another cluster, node, protocol or size is refused, and one of a release that is too far from
this one (`skew`), with a sentence that names both. Several paths may deliver in any order;
`Freshness` tells whether a message is newer than everything heard before, so that news never goes back. The order is
the sender's own clock (CLOCK_BOOTTIME) within one boot; the receiver's clock plays no part.
Limits: MAX_LINE_BYTES a message.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import asdict, dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from mirror_agent import __version__
from mirror_agent.core.events import Beat
from mirror_agent.skew import refusal

PROTOCOL: Final = 1
MAX_LINE_BYTES: Final = 4096
MAX_WHO_CHARS: Final = 128
MAX_WHY_CHARS: Final = 200
_BOOTS_REMEMBERED: Final = 8
# Every character may become six in JSON (\\uXXXX); the beat and the frame around it need the rest.
assert (MAX_WHO_CHARS + MAX_WHY_CHARS) * 6 < MAX_LINE_BYTES - 1024

_BEAT: Final = TypeAdapter(Beat)


class ProtocolError(Exception):
    """The other side does not speak this protocol, or is not who it should be."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a message was made: the boot of the sender's machine and seconds since then."""

    boot: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Switch:
    """A setting both nodes share; the greater `serial` holds, of equal ones the greater `who`."""

    on: bool
    serial: int = 0
    who: str = ""
    why: str = ""

    def is_newer_than(self, other: Switch) -> bool:
        return (self.serial, self.who, self.on) > (other.serial, other.who, other.on)


@dataclass(frozen=True, slots=True)
class Message:
    """A heartbeat, or the answer to one: then `promise_s` counts from the heartbeat it answers."""

    sequence: int
    beat: Beat
    stamp: Stamp
    failover: Switch
    promise_s: float = 0.0


_STAMP: Final = TypeAdapter(Stamp)
_SWITCH: Final = TypeAdapter(Switch)


def encode(cluster_id: str, message: Message) -> bytes:
    body: dict[str, object] = {
        "v": PROTOCOL,
        "agent": __version__,
        "cluster": cluster_id,
        "seq": message.sequence,
        "beat": asdict(message.beat) | {"record_in_sync": sorted(message.beat.record_in_sync)},
        "stamp": asdict(message.stamp),
        "failover": asdict(message.failover),
        "promise_s": message.promise_s,
    }
    line = json.dumps(body, separators=(",", ":")).encode() + b"\n"
    assert len(line) <= MAX_LINE_BYTES, "a heartbeat grew over its limit"
    return line


def decode(line: bytes, cluster_id: str, node: str) -> Message:
    """Raises `ProtocolError`; `node` is who must have sent it."""
    try:
        body = json.loads(line)
        if body["v"] != PROTOCOL or body["cluster"] != cluster_id:
            raise ProtocolError(f"heartbeat of cluster {body['cluster']!r}, protocol {body['v']!r}")
        # Releases before this one did not say theirs; the protocol is what they had in common.
        if "agent" in body and (reason := refusal(f"node {node}", str(body["agent"]), "this node", __version__)):
            raise ProtocolError(reason)
        beat = _BEAT.validate_python(body["beat"])
        message = Message(
            sequence=int(body["seq"]),
            beat=beat,
            stamp=_STAMP.validate_python(body["stamp"]),
            failover=_SWITCH.validate_python(body["failover"]),
            promise_s=float(body["promise_s"]),
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ProtocolError(f"malformed heartbeat: {type(error).__name__}") from error
    if beat.node != node:
        raise ProtocolError(f"heartbeat of node {beat.node!r}, expected {node!r}")
    if not (0 <= message.promise_s < math.inf and math.isfinite(message.stamp.at_s)):
        raise ProtocolError("malformed heartbeat: a time that is no number")
    return message


class Freshness:
    """Remembers the newest message of the peer over all paths."""

    def __init__(self) -> None:
        self._newest: Stamp | None = None
        self._earlier_boots: deque[str] = deque(maxlen=_BOOTS_REMEMBERED)

    def is_news(self, stamp: Stamp) -> bool:
        """True for a message made after every one heard so far; it is the newest from now on."""
        newest = self._newest
        if newest is not None and stamp.boot == newest.boot and stamp.at_s <= newest.at_s:
            return False
        if stamp.boot in self._earlier_boots:
            return False
        if newest is not None and stamp.boot != newest.boot:
            self._earlier_boots.append(newest.boot)
        self._newest = stamp
        return True
