"""The application of a node: started and stopped by its restart scripts, and killed for certain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mirror_agent.app.outcomes import KillOutcome, PrepareOutcome, StartOutcome, StopOutcome
from mirror_agent.contract import Application, ApplicationState
from mirror_agent.eventlog import RecordEvent
from mirror_agent.paths import Paths


class ApplicationRunner:
    """One application on one node. All methods belong to one event loop."""

    def __init__(
        self,
        application: Application,
        module_dir: Path,
        node: Literal["a", "b"],
        log: RecordEvent,
        *,
        paths: Paths = Paths(),
    ) -> None:
        raise NotImplementedError

    @property
    def state(self) -> ApplicationState:
        raise NotImplementedError

    async def prepare(self) -> PrepareOutcome:
        """Write the module files and run `prepare` once per content; call it on both nodes before the first start."""
        raise NotImplementedError

    async def start(self, *, epoch: int, role: str) -> StartOutcome:
        raise NotImplementedError

    async def stop(self, *, force: bool) -> StopOutcome:
        raise NotImplementedError

    async def kill_now(self, *, deadline_s: float = 1.0) -> KillOutcome:
        raise NotImplementedError

    def processes(self) -> list[int]:
        raise NotImplementedError

    async def close(self) -> None:
        """Kill whatever is left and end the runner child."""
        raise NotImplementedError
