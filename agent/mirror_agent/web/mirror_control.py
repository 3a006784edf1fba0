"""What an operator may ask about the two copies: status, verify, resync, quarantine, metrics.

The words of the Unix socket and the outcome of each. Standard library only, because `mirrorctl` imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from mirror_agent.web.actions import RequestOutcome

STATUS: Final = "mirror"
VERIFIED: Final = "mirror-verified"
QUARANTINE: Final = "mirror-quarantine"
METRICS: Final = "metrics"
VERIFY: Final = "mirror-verify"
REPAIR: Final = "mirror-repair"
VERIFY_STOP: Final = "mirror-verify-stop"
RESYNC: Final = "mirror-resync"
RESTORE: Final = "mirror-restore"

MIRROR_QUERIES: Final = (STATUS, VERIFIED, QUARANTINE, METRICS)
MIRROR_ACTIONS: Final = (VERIFY, REPAIR, VERIFY_STOP, RESYNC, RESTORE)


class NoCopies(LookupError):
    """This node has no mirror; the message says why."""


@dataclass(frozen=True)
class MirrorRequest:
    """`rate_bytes_per_s` (verify, 0: the usual one); `kept` and `target` (restore); `principal` as of `NodeRequest`."""

    op: str
    who: str
    why: str = ""
    rate_bytes_per_s: float = 0.0
    kept: str = ""
    target: str = ""
    principal: str = ""


class MirrorControl(Protocol):
    """What the supervisor offers; every action is recorded with who and why."""

    def mirror(self) -> dict[str, object]:
        """The engine's report, and the last verify."""
        ...

    async def verified(self) -> dict[str, object]:
        """The record of the last verify with its differences; empty before the first."""
        ...

    async def quarantine(self) -> list[dict[str, object]]:
        """What was kept, oldest first; of very many the newest."""
        ...

    def metrics(self) -> str:
        """Prometheus text, version 0.0.4."""
        ...

    async def operate(self, request: MirrorRequest) -> RequestOutcome: ...
