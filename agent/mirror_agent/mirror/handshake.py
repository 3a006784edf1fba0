"""The first frames of a connection: who is there, for which cluster, with which epoch, and whose copy is it.

The primary opens the data connection and says HELLO; the replica answers WELCOME or REFUSE before a byte is applied.
Then the primary opens the second connection and says ATTACH with the same stream id; from then on frames travel only
on the first and answers only on the second.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Any, Final

from mirror_agent.mirror import limits, wire
from mirror_agent.mirror.resync_choice import RULES, Gap, Held, Kind
from mirror_agent.mirror.state import Point
from mirror_agent.mirror.wire import Frame, Op, WireError

_HANDSHAKE_BYTES: Final = 16 * 1024
_EPOCH_MAX: Final = (1 << 63) - 1

_HELLO_KEYS: Final[dict[str, Any]] = {
    "protocol": int,
    "cluster": str,
    "node": str,
    "epoch": int,
    "stream": str,
    "paths": list,
}
_WELCOME_KEYS: Final[dict[str, Any]] = {
    "protocol": int,
    "node": str,
    "epoch": int,
    "point": (dict, type(None)),
    "inconsistent": bool,
    "checkpoints": list,
}
_CHECKPOINTS_MAX: Final = 8
_PLAN_KEYS: Final[dict[str, Any]] = {"rule": str, "stream": str, "seq": int}


class HandshakeError(Exception):
    """The peer refused, or said something this node cannot work with."""


@dataclass(frozen=True)
class Hello:
    cluster: str
    node: str
    epoch: int
    stream: str
    paths: tuple[str, ...]

    def frame(self) -> bytes:
        document = {
            "protocol": wire.PROTOCOL, "cluster": self.cluster, "node": self.node, "epoch": self.epoch,
            "stream": self.stream, "paths": list(self.paths),
        }  # fmt: skip
        return wire.encode(Op.HELLO, epoch=self.epoch, data=wire.json_payload(document))


@dataclass(frozen=True)
class Welcome:
    node: str
    epoch: int
    point: Point | None
    inconsistent: bool
    checkpoints: tuple[Held, ...] = ()

    def frame(self) -> bytes:
        point = None if self.point is None else {"stream": self.point.stream, "seq": self.point.seq}
        document = {
            "protocol": wire.PROTOCOL, "node": self.node, "epoch": self.epoch, "point": point,
            "inconsistent": self.inconsistent,
            "checkpoints": [[one.stream, one.seq, one.gap.value, one.served, one.exact] for one in self.checkpoints],
        }  # fmt: skip
        return wire.encode(Op.WELCOME, epoch=self.epoch, data=wire.json_payload(document))


def parse_hello(frame: Frame) -> Hello:
    document = wire.parse_json(frame.payload, _HELLO_KEYS)
    if document["protocol"] != wire.PROTOCOL:
        raise WireError(f"protocol {document['protocol']}, this node speaks {wire.PROTOCOL}")
    paths = document["paths"]
    if not all(isinstance(path, str) for path in paths) or not 0 <= document["epoch"] <= _EPOCH_MAX:
        raise WireError("HELLO is not valid")
    return Hello(document["cluster"], document["node"], document["epoch"], document["stream"], tuple(paths))


def parse_welcome(frame: Frame) -> Welcome:
    document = wire.parse_json(frame.payload, _WELCOME_KEYS)
    if document["protocol"] != wire.PROTOCOL or not 0 <= document["epoch"] <= _EPOCH_MAX:
        raise WireError("WELCOME is not valid")
    point = document["point"]
    if point is not None:
        if set(point) != {"stream", "seq"} or not isinstance(point["stream"], str) or not isinstance(point["seq"], int):
            raise WireError("WELCOME carries no valid point")
        point = Point(point["stream"], point["seq"])
    checkpoints = tuple(_held(entry) for entry in document["checkpoints"][:_CHECKPOINTS_MAX])
    return Welcome(document["node"], document["epoch"], point, document["inconsistent"], checkpoints)


def _held(entry: object) -> Held:
    match entry:
        case [str(stream), int(seq), str(gap), bool(served), bool(exact)]:
            try:
                return Held(stream, seq, Gap(gap), served, exact)
            except ValueError:
                raise WireError(f"WELCOME names the unknown gap {gap!r}") from None
        case _:
            raise WireError("WELCOME carries no valid checkpoint")


@dataclass(frozen=True)
class PlanMessage:
    """RESYNC: which kind of resync follows, by its rule, and from which checkpoint on."""

    rule: str
    base: tuple[str, int] | None

    def payload(self) -> bytes:
        stream, seq = self.base or ("", 0)
        return wire.json_payload({"rule": self.rule, "stream": stream, "seq": seq})


def parse_plan(payload: memoryview) -> PlanMessage:
    document = wire.parse_json(payload, _PLAN_KEYS)
    if document["rule"] not in RULES:
        raise WireError(f"RESYNC names the unknown rule {document['rule']!r}")
    base = (document["stream"], document["seq"]) if document["stream"] else None
    if (base is None) != (RULES[document["rule"]].kind is Kind.FULL):
        raise WireError(f"RESYNC by the rule {document['rule']} with the base {base}")
    return PlanMessage(document["rule"], base)


def read_frame(connection: ssl.SSLSocket) -> Frame:
    """One small frame within the handshake's time. Raises OSError, `WireError`."""
    deadline = time.monotonic() + limits.HANDSHAKE_TIMEOUT_S
    buffer = bytearray()
    while True:
        missing = wire.HEADER_BYTES - len(buffer)
        if missing <= 0:
            (length, _) = wire.PREFIX.unpack_from(buffer, 0)
            if length > _HANDSHAKE_BYTES:
                raise WireError(f"handshake of {length} bytes")
            frame = wire.decode(memoryview(bytes(buffer)), 0, len(buffer))
            if frame is not None:
                return frame
            missing = length - len(buffer)
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer did not finish its handshake")
        connection.settimeout(left)
        # Never more than the frame: what follows belongs to the stream.
        data = connection.recv(missing)
        if not data:
            raise ConnectionResetError("the peer closed the connection during the handshake")
        buffer += data
