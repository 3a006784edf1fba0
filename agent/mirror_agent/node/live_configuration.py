"""A new configuration while the agent runs: stored, and taken at once where that is possible.

Guarantee: what is stored was checked (durations that work together) and is what the next start of the agent uses. What
is in force is a whole configuration, the one the agent was started with or a later one that differs from it in fields a
running agent takes (`configuration_change`): `in_use` is its version, told in every heartbeat. The witness's signature
and `failover` are taken at once from every configuration.
Limits: the disk is written in a thread, since a stalled disk must not silence the heartbeats; one that refuses leaves
the new configuration in force until the next start, and that is told (`refused`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import Configuration, FarmConfiguration, NodeConfiguration
from mirror_agent.core.budget import UnsafeTiming
from mirror_agent.eventlog import EventLog
from mirror_agent.net.identity import NotEnrolled, store_configuration
from mirror_agent.net.witness import TableWitness
from mirror_agent.node.build import core_timing
from mirror_agent.node.configuration_change import needs_new_beginning
from mirror_agent.node.switches import Switches
from mirror_agent.paths import Paths


class LiveConfiguration:
    """All methods belong to one event loop."""

    def __init__(
        self,
        running: NodeConfiguration,
        *,
        paths: Paths,
        checkers: NodeCheckers,
        witness: TableWitness,
        switches: Switches,
        changed: Callable[[], None],
        log: EventLog,
    ) -> None:
        """`changed`: what is in force or stored is another version now."""
        self.running = running
        self.stored = running.version
        self.refused = ""
        self._paths = paths
        self._checkers = checkers
        self._witness = witness
        self._switches = switches
        self._changed = changed
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_use(self) -> int:
        return self.running.version

    def take(self, configuration: Configuration) -> None:
        """What the control plane sent. A configuration that does not fit leaves everything as it is."""
        try:
            if isinstance(configuration, FarmConfiguration):
                raise UnsafeTiming("it is of a farm, this is a node of a mirror")
            core_timing(configuration)
        except UnsafeTiming as error:
            self.refused = f"configuration {configuration.version} is refused: {error}"
            self._log.record_decision("configuration.refused", version=configuration.version, reason=str(error))
            return
        self._switches.configured(configuration.failover)
        self._witness.renew(configuration.witness)
        waiting = needs_new_beginning(self.running, configuration)
        if not waiting:
            if configuration.application.checkers != self.running.application.checkers:
                self._checkers.change(configuration.application)
            self.running = configuration
        self._log.record_decision("configuration.taken", version=configuration.version, waits_for_start=waiting)
        task = asyncio.create_task(self._keep(configuration), name="configuration")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, configuration: NodeConfiguration) -> None:
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
