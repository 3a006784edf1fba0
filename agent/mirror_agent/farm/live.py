"""A new configuration while a farm node runs: stored, and taken at once where that is possible.

Guarantee: what is in force is a whole configuration: the one the agent was started with, or a later one that differs
from it in fields a running agent takes (`configuration_change`, and how many others must serve). What is stored is what
the next start uses.
Limits: the disk is written in a thread, since a stalled disk must not silence probe and heartbeats; one that refuses
leaves the new configuration in force until the next start, and that is told (`refused`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import Configuration, FarmConfiguration
from mirror_agent.eventlog import EventLog
from mirror_agent.net.identity import NotEnrolled, store_configuration
from mirror_agent.node.configuration_change import needs_new_beginning
from mirror_agent.paths import Paths


class LiveFarmConfiguration:
    """All methods belong to one event loop."""

    def __init__(
        self,
        running: FarmConfiguration,
        *,
        paths: Paths,
        checkers: NodeCheckers,
        changed: Callable[[], None],
        log: EventLog,
    ) -> None:
        """`changed`: what is in force or stored is another version now."""
        self.running = running
        self.stored = running.version
        self.refused = ""
        self._paths = paths
        self._checkers = checkers
        self._changed = changed
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_use(self) -> int:
        return self.running.version

    def take(self, configuration: Configuration) -> None:
        """What the control plane sent. A configuration that does not fit leaves everything as it is."""
        if not isinstance(configuration, FarmConfiguration):
            reason = "it is of a mirror, this is a node of a farm"
            self.refused = f"configuration {configuration.version} is refused: {reason}"
            self._log.record_decision("configuration.refused", version=configuration.version, reason=reason)
            return
        waiting = _waiting(self.running, configuration)
        if not waiting:
            if configuration.application.checkers != self.running.application.checkers:
                self._checkers.change(configuration.application)
            self.running = configuration
        self._log.record_decision("configuration.taken", version=configuration.version, waits_for_start=waiting)
        task = asyncio.create_task(self._keep(configuration), name="configuration")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, configuration: FarmConfiguration) -> None:
        """One after another, so that the newest is what stays."""
        async with self._one_at_a_time:
            version = configuration.version
            try:
                await asyncio.to_thread(store_configuration, self._paths, configuration)
            except (OSError, NotEnrolled) as error:
                self.refused = f"configuration {version} could not be stored: {error}"
                self._log.record_decision("configuration.not-stored", version=version, error=str(error))
            else:
                self.stored, self.refused = version, ""
                self._log.record_decision("configuration.stored", version=version)
        self._changed()


def _waiting(running: FarmConfiguration, new: FarmConfiguration) -> tuple[str, ...]:
    """The changed fields that wait for the next start."""
    return needs_new_beginning(running.model_copy(update={"minimum_healthy": new.minimum_healthy}), new)
