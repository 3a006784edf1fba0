"""What an operator may ask of a node, whoever brings it: words, roles, and what a request must say.

The control plane brings the subset in `contract.CommandAction`; the Unix socket and the node's console offer all.
Standard library only, because `mirrorctl` imports it and must answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Final, Literal, Protocol

# Of the Unix socket: bytes a line, events of one `history`.
MAX_LINE_BYTES: Final = 64 * 1024
MAX_HISTORY: Final = 1000


class NodeAction(StrEnum):
    """`force` is the only one that may cost data, so it wants a reason and the cluster's name."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SWAP = "swap"
    STOPSTART = "stopstart"
    FORCE = "force"
    FAILOVER_ON = "failover-on"
    FAILOVER_OFF = "failover-off"
    CHECKERS_ON = "checkers-on"
    CHECKERS_OFF = "checkers-off"


# The principal of orders the control plane brings: it has written them down itself.
CONTROL_PLANE: Final = "control-plane"
ACTIONS: Final = tuple(action.value for action in NodeAction)


@dataclass(frozen=True)
class NodeRequest:
    """`why` goes into the history beside `who`; `confirm` must be the cluster's name for `force`. `principal`: who it
    is in a form that does not change, `certificate:<serial>`, `local:<caller>` or `CONTROL_PLANE`."""

    action: NodeAction
    who: str
    why: str = ""
    confirm: str = ""
    principal: str = ""


@dataclass(frozen=True)
class RequestOutcome:
    """`refused`: the node's state does not allow it now; `accepted`: it goes on after this answer."""

    status: Literal["accepted", "succeeded", "failed", "refused"]
    message: str


class NodeControl(Protocol):
    """What the supervisor offers to the node's own interfaces (Unix socket and console)."""

    def status(self) -> dict[str, object]: ...

    def why(self) -> dict[str, object]:
        """The rule, the sentence and the inputs of the last decision."""
        ...

    def drill(self) -> dict[str, object]:
        """What this node might do now and why not; nothing is done."""
        ...

    def history(self, limit: int) -> list[dict[str, object]]:
        """The newest `limit` events, oldest first."""
        ...

    async def request(self, request: NodeRequest) -> RequestOutcome: ...


def nearest(word: str, words: tuple[str, ...]) -> str:
    """The second half of "X is no Y; …"."""
    near = get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(words)}"
