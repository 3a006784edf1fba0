"""All checkers of a node: those of the serving application and those of the replica.

A checker says `when` it runs: while the application runs here, while this node is the replica, or both. The two sets
never run at the same time; a checker of both places starts anew when the role changes, because what it found as replica
says nothing about the application.
"""

from __future__ import annotations

from collections.abc import Callable

from mirror_agent.app.checkers import CheckerSet, Trip
from mirror_agent.app.finding import Surroundings
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import Application, CheckerReport, CheckerWhen
from mirror_agent.eventlog import RecordEvent


class NodeCheckers:
    """`start` and `stop` follow the application, `replica` follows the role."""

    def __init__(
        self,
        application: Application,
        surroundings: Surroundings,
        *,
        on_trip: Callable[[Trip], None],
        log: RecordEvent,
        clock: Clock = BOOT_CLOCK,
    ) -> None:
        self._surroundings = surroundings
        self._on_trip = on_trip
        self._log = log
        self._clock = clock
        self._order = tuple(checker.name for checker in application.checkers)
        self._serving = self._made(application, CheckerWhen.PRIM)
        self._replica = self._made(application, CheckerWhen.SECOND)

    def _made(self, application: Application, where: CheckerWhen) -> CheckerSet:
        return CheckerSet(
            application, self._surroundings, on_trip=self._on_trip, log=self._log, where=where, clock=self._clock
        )

    def change(self, application: Application) -> None:
        """The checkers of another configuration from now on; they begin as at the application's start."""
        serving, replica = self._made(application, CheckerWhen.PRIM), self._made(application, CheckerWhen.SECOND)
        self._serving.give_way(serving)
        self._replica.give_way(replica)
        self._serving, self._replica = serving, replica
        self._order = tuple(checker.name for checker in application.checkers)

    def reports(self) -> tuple[CheckerReport, ...]:
        """In the order of the configuration; of a checker of both places, what the running one says."""
        idle, running = self._replica, self._serving
        if self._replica.running:
            idle, running = self._serving, self._replica
        found = {report.name: report for checkers in (idle, running) for report in checkers.reports()}
        return tuple(found[name] for name in self._order)

    def suspend(self, reason: str) -> None:
        """The mirror holds the application's calls; the replica has none."""
        self._serving.suspend(reason)

    def resume(self) -> None:
        self._serving.resume()

    def start(self) -> None:
        self._serving.start()

    async def stop(self) -> None:
        await self._serving.stop()

    def become_replica(self) -> None:
        self._replica.start()

    def leave_replica(self) -> None:
        self._replica.end()

    def switch_off(self, reason: str) -> None:
        for checkers in (self._serving, self._replica):
            checkers.switch_off(reason)

    def switch_on(self) -> None:
        for checkers in (self._serving, self._replica):
            checkers.switch_on()
