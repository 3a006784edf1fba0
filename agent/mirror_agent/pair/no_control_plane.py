"""In place of the line to a control plane, on a node that has none: nothing is sent, nothing is ever ordered."""

from __future__ import annotations

import asyncio

from mirror_agent.contract import CommandResult
from mirror_agent.eventlog import Event


class NoControlPlane:
    """What the agent tells its control plane ends here; what it knows is in its own history and console."""

    def poke(self) -> None:
        """Nobody is told."""

    def hear(self, event: Event) -> None:
        """What people order here is in the node's own history."""

    def report(self, result: CommandResult) -> None:
        """Commands come from a control plane only."""
        raise AssertionError(f"command {result.id} has a result, and there is no control plane that gave it")

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.Event().wait()
