"""What an order would do now, in sentences, before anybody gives it. Pure: nothing is asked and nothing is done here.

The sentences are made of what both nodes say of themselves (`status`, `drill`), so a promise of the core ("it can take
over") is the core's own. What is not known is said: a silent peer cannot tell how much it has that this node lacks.
Limits: a moment later it may be different; the order itself is judged anew by the core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mirror_agent.web.actions import NodeAction
from mirror_agent.web.mirror_control import REPAIR, RESYNC

Document = Mapping[str, Any]
_SERVING: Final = ("PRIM", "ALONE")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Sight:
    """`status` and `drill` as this node answers them; of the peer None when it does not answer."""

    status: Document
    drill: Document
    peer_status: Document | None
    peer_drill: Document | None

    @property
    def me(self) -> str:
        return str(self.status["node"])

    @property
    def peer(self) -> str:
        return str(self.status["peer"]["name"])

    @property
    def serves(self) -> bool:
        return self.status["role"] in _SERVING


def dry_run(word: str, sight: Sight) -> tuple[str, ...]:
    """What would happen, most important first; empty for an order that has no more to say than its name."""
    if sight.status.get("kind") == "farm":
        return _farm(word, sight)
    match word:
        case NodeAction.FORCE:
            return _force(sight)
        case NodeAction.STOP | NodeAction.STOPSTART:
            return _stop(sight)
        case NodeAction.SWAP:
            return (_permission(sight.drill, "swap"),)
        case NodeAction.FAILOVER_OFF:
            return (f"If node {_serving(sight)} dies now, nobody serves until a person acts.",)
        case word if word == RESYNC:
            return _resync(sight)
        case word if word == REPAIR:
            return _repair(sight)
        case _:
            return ()


def _farm(word: str, sight: Sight) -> tuple[str, ...]:
    if word not in (NodeAction.STOP, NodeAction.STOPSTART, NodeAction.RESTART):
        return ()
    others = [other["node"] for other in sight.status["others"] if other["serves"]]
    if not others:
        return ("No other node says that it serves: nobody would.",)
    first = "The load balancer is told to send nobody new before the application stops."
    return (f"{', '.join(f'Node {name}' for name in others)} {'goes' if len(others) == 1 else 'go'} on serving.", first)


def _force(sight: Sight) -> tuple[str, ...]:
    record = sight.status["witness"]
    if sight.serves:
        return (f"Node {sight.me} serves already.",)
    if sight.me in record["inSync"]:
        return (
            f"Node {sight.me} is in the in-sync set: it holds every acknowledged write; nothing would be lost.",
            "It takes over by itself; a forced start is not needed.",
        )
    holders = " and ".join(record["inSync"]) or "nobody"
    return (
        f"The witness record (epoch {record['epoch']}) says that only node {holders} holds every acknowledged write; "
        f"node {sight.me} does not.",
        _behind(sight),
        f"What node {sight.peer} has and node {sight.me} has not is lost to the application. It is kept in node "
        f"{sight.peer}'s quarantine when that node comes back and is made like node {sight.me}.",
    )


def _behind(sight: Sight) -> str:
    peer = sight.peer_status
    if peer is None:
        return f"Node {sight.peer} does not answer: how far node {sight.me} is behind is not known."
    mirror = peer["mirror"]
    files, size = mirror.get("dirtyFiles"), mirror.get("dirtyBytes")
    alone = f" for {_duration(peer['exposedForS'])}" if peer.get("exposedForS") else ""
    if files is None:
        return f"Node {sight.peer} answers, and does not say how much it changed while it was alone{alone}."
    return (
        f"Node {sight.me} is behind: node {sight.peer} has noted changes of {files:,} files ({_size(size or 0)}) since "
        f"its newest checkpoint{f'; it has been alone{alone}' if alone else ''}. These would be lost."
    )


def _stop(sight: Sight) -> tuple[str, ...]:
    if not sight.serves:
        if sight.status["role"] == "SECOND" and sight.status["phase"] == "ready":
            return (f"Node {sight.peer} goes on serving, alone: the data is exposed until node {sight.me} is back.",)
        return (f"Node {sight.me} does not serve, and does not hold a complete copy: clients notice nothing.",)
    if sight.status["role"] == "PRIM" and len(sight.status["inSync"]) == 2:
        words = [f"The application stops here and node {sight.peer}, which holds every acknowledged write, takes over."]
        if sight.peer_drill is not None:
            words.append(f"Node {sight.peer} says: {_permission(sight.peer_drill, 'promote')}")
        return tuple(words)
    return (
        f"Nobody serves any more: node {sight.peer} is not in the recorded in-sync set and must not take over.",
        "No acknowledged write is lost; the application runs again when this node is started.",
    )


def _resync(sight: Sight) -> tuple[str, ...]:
    total = sight.status["mirror"].get("verify") or {}
    amount = f" ({_size(total['totalBytes'])} at the last verify)" if total.get("totalBytes") else ""
    return (
        f"Node {sight.peer} is let go and both copies are compared as a whole{amount}.",
        f"Until that is done node {sight.me} serves alone: one more failure stops the application.",
        f"What differs on node {sight.peer} is kept in its quarantine before it is replaced.",
    )


def _repair(sight: Sight) -> tuple[str, ...]:
    verify = sight.status["mirror"].get("verify") or {}
    found = verify.get("differences", 0)
    known = f"The last verify found {found} that still stand." if found else "None is known now."
    return (
        f"Both copies are compared; what differs on node {sight.peer} is kept in its quarantine, then made like here.",
        known,
    )


def _permission(drill: Document, act: str) -> str:
    """The core's own sentence."""
    for permission in drill["permissions"]:
        if permission["act"] == act:
            return str(permission["sentence"])
    return "nothing is known."


def _serving(sight: Sight) -> str:
    return sight.me if sight.serves else sight.peer


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"
