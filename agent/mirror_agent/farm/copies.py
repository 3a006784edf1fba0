"""The mirror's part of a node's interfaces, on a node that has no mirror: every question is answered with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from mirror_agent.web.actions import RequestOutcome
from mirror_agent.web.mirror_control import MirrorRequest, NoCopies

NO_COPIES: Final = "this node belongs to a farm: its nodes replicate nothing, so there are no two copies to look at"


class FarmCopies:
    """Implements `MirrorControl`."""

    def __init__(self, metrics: Callable[[], str]) -> None:
        self._metrics = metrics

    def mirror(self) -> dict[str, object]:
        _refuse()

    async def verified(self) -> dict[str, object]:
        _refuse()

    async def quarantine(self) -> list[dict[str, object]]:
        _refuse()

    def metrics(self) -> str:
        return self._metrics()

    async def operate(self, request: MirrorRequest) -> RequestOutcome:
        return RequestOutcome("refused", NO_COPIES)


def _refuse() -> NoReturn:
    raise NoCopies(NO_COPIES)
