"""The accidents of the random tester, and what the supervisor and the witness would do about each.

    replica            the replica's engine is killed: the primary parks, is released, goes on alone; the replica comes
                       back, is resynchronised and made a member again while the drivers work
    replica_twice      and it is killed once more on the way back
    primary_promote    the primary's engine is killed: the replica is sealed and promoted, the old primary becomes its
                       replica
    primary_restart    the primary's engine is killed and started again in place
    primary_alone      the replica's engine is killed, and before it is a member again the primary's: only the primary
                       may come back
    link               no engine dies: the primary is released and the stream cut, again and again, also in a resync
    both               both engines are killed at the same time; the primary comes back first

A killed primary's mounts go with it, as when its machine ends; an engine that is replaced while its mounts stay has
tests of its own.

After each, the judge looks at the directories below the engines, before anything is mounted over them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from mirror_agent.mirror.control import MirrorStatus

from tests.lab.mirror.pair import Node, Pair, eventually
from tests.lab.torture.drivers import Driver, Promises, shown
from tests.lab.torture.judge import Difference, Survivors, demand_equal, scan, survived

PATIENCE_S: Final = 120.0
# From the order to kill until the kill, and between the steps of an accident: long enough for some operations.
_MOMENT_S: Final = 0.15
_BREAKS: Final = 4


def directory_of(driver: Driver, node: Node) -> Path:
    return node.root / f"driver-{driver.index}"


class Scene:
    """A pair with drivers on its primary's mount. `paired`: the witness record would name both nodes in sync."""

    def __init__(self, pair: Pair, drivers: Sequence[Driver], promises: Promises, seed: int) -> None:
        self.primary, self.replica = pair.a, pair.b
        self.drivers = drivers
        self.epoch = 1
        self.accidents: dict[str, int] = {}
        self.rules: dict[str, int] = {}
        self.lost_operations = 0
        self._promises = promises
        self._ordered = pair.a.config.paths[0].mode == "ordered"
        self._random = random.Random(seed)
        self._all: dict[str, Callable[[], Awaitable[None]]] = {
            "replica": self.replica_dies,
            "replica_twice": self.replica_dies_twice,
            "primary_promote": self.primary_dies_and_the_replica_is_promoted,
            "primary_restart": self.primary_dies_and_comes_back,
            "primary_alone": self.primary_dies_alone,
            "link": self.link_breaks,
            "both": self.both_die,
        }

    def choose(self) -> str:
        return self._random.choice((*self._all, "replica", "primary_promote", "primary_promote", "primary_restart"))

    async def happen(self, name: str) -> None:
        """The accident, from the kill to a pair in sync again. Raises `Difference`."""
        self.accidents[name] = self.accidents.get(name, 0) + 1
        await self._all[name]()

    # -- the accidents ---------------------------------------------------------------------------------------------

    async def replica_dies(self) -> None:
        await self._moment()
        await self.replica.kill()
        await self._release()
        await self._moment()
        await self._replica_returns()
        await self._join()

    async def replica_dies_twice(self) -> None:
        await self._moment()
        await self.replica.kill()
        await self._release()
        await self._replica_returns()
        await self._moment()
        await self.replica.kill()
        await self._replica_returns()
        await self._join()

    async def primary_dies_and_the_replica_is_promoted(self) -> None:
        await self._moment()
        await self._kill_primary()
        old, new = self.primary, self.replica
        await old.close()
        own = await self._judge_all(old, exact=True)
        self.epoch += 1
        await new.engine.seal(epoch=self.epoch)
        there = await self._judge_all(new, exact=not self._ordered)
        self.lost_operations += sum(max(0, mine.count - its.count) for mine, its in zip(own, there, strict=True))
        await new.engine.become_primary(epoch=self.epoch, paired=False)
        self.primary, self.replica = new, old
        self._go_on(there)
        await self._moment()
        await self._replica_returns()
        await self._join()

    async def primary_dies_and_comes_back(self) -> None:
        await self._moment()
        await self._kill_primary()
        await self.replica.until(lambda status: status.link == "lost", PATIENCE_S)
        await self._judge_all(self.replica, exact=not self._ordered)
        await self._primary_returns()
        await self._join()

    async def primary_dies_alone(self) -> None:
        await self._moment()
        await self.replica.kill()
        await self._release()
        await self._moment()
        await self._kill_primary()
        await self._replica_returns()
        await self._primary_returns()
        await self._join()

    async def both_die(self) -> None:
        await self._moment()
        self._expect_death()
        await asyncio.gather(self.primary.kill(), self.replica.kill())
        await self._halted()
        await self._judge_all(self.replica, exact=not self._ordered)
        await self._primary_returns()
        await self._moment()
        await self._replica_returns()
        await self._join()

    async def link_breaks(self) -> None:
        for _ in range(_BREAKS):
            await self._moment()
            self.epoch += 1
            await self.primary.engine.release(epoch=self.epoch)
        await self._join()

    # -- their steps -----------------------------------------------------------------------------------------------

    async def _moment(self) -> None:
        await asyncio.sleep(self._random.random() * _MOMENT_S)

    def _expect_death(self) -> None:
        for driver in self.drivers:
            driver.accident = True

    async def _kill_primary(self) -> None:
        self._expect_death()
        await self.primary.kill()
        await self._halted()

    async def _halted(self) -> None:
        """Every driver met the dead mount (or had nothing left to do)."""
        await self.until(lambda: all(driver.still for driver in self.drivers))
        for driver in self.drivers:
            driver.halted = True
            driver.accident = False

    async def _release(self) -> None:
        """What the supervisor does with the witness's word that this node is alone."""
        await self.primary.until(lambda status: status.acknowledging == "parked" or status.link != "live", PATIENCE_S)
        self.epoch += 1
        await self.primary.engine.release(epoch=self.epoch)

    async def _replica_returns(self) -> None:
        await self.replica.close()
        await self.replica.launch()
        await self.replica.engine.become_replica(epoch=self.epoch)

    async def _primary_returns(self) -> None:
        await self.primary.close()
        own = await self._judge_all(self.primary, exact=True)
        self.epoch += 1
        await self.primary.launch()
        await self.primary.engine.become_primary(epoch=self.epoch, paired=False)
        self._go_on(own)

    def _go_on(self, found: list[Survivors]) -> None:
        for driver, survivors in zip(self.drivers, found, strict=True):
            driver.recover(directory_of(driver, self.primary), survivors)
            driver.run_to(driver.goal)

    async def _join(self) -> None:
        """Waits for the resync and makes the pair; from now on all before is promised."""
        await self.until_status(self.primary, lambda status: status.link == "live")
        rule = self.primary.status.resync_rule
        self.rules[rule] = self.rules.get(rule, 0) + 1
        self.epoch += 1
        before = [driver.returned for driver in self.drivers]
        await self.primary.engine.require_peer(epoch=self.epoch)
        self._promises.raise_to(before)

    async def _judge_all(self, node: Node, *, exact: bool) -> list[Survivors]:
        """For each driver: how many operations its directory on this node shows, and that state."""
        return [await asyncio.to_thread(self._judge, driver, node, exact=exact) for driver in self.drivers]

    def _judge(self, driver: Driver, node: Node, *, exact: bool) -> Survivors:
        least = driver.returned if exact else self._promises.least(driver.index)
        seen = scan(directory_of(driver, node))
        try:
            # The journal may reach further than the operation in flight: what is to be done again after a crash.
            begun = driver.journal[: driver.returned - driver.base_at + 1]
            return survived(driver.base, begun, max(0, least - driver.base_at), seen)
        except Difference as difference:
            raise Difference(
                f"driver {driver.index} on node {node.name} ({node.root}): {driver.returned} operations returned, "
                f"{least} must be there, the journal begins at {driver.base_at}: {difference}\n"
                f"in flight: {shown(begun[-1])}"
            ) from None

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def until(self, fact: Callable[[], bool]) -> None:
        """Waits for a fact, as long as operations return; a driver's failure ends the waiting."""

        def failed_or_true() -> bool:
            return fact() or any(driver.failure is not None for driver in self.drivers)

        while True:
            returned = sum(driver.returned for driver in self.drivers)
            try:
                await eventually(failed_or_true, PATIENCE_S)
            except TimeoutError:
                if sum(driver.returned for driver in self.drivers) == returned:
                    raise
            else:
                break
        for driver in self.drivers:
            if driver.failure is not None:
                raise driver.failure

    async def until_status(self, node: Node, fact: Callable[[MirrorStatus], bool]) -> None:
        await self.until(lambda: fact(node.status))

    # -- between accidents -----------------------------------------------------------------------------------------

    async def compare(self) -> None:
        """Everybody pauses: the mount, and both directories below, are the model. Nothing before needs judging then."""
        goals = [driver.goal for driver in self.drivers]
        for driver in self.drivers:
            driver.pause()
        await self.until(lambda: all(driver.still for driver in self.drivers))
        await self.primary.engine.require_peer(epoch=self.epoch)
        for driver in self.drivers:
            for node, what in ((self.primary, "the mount"), (self.replica, "the replica")):
                await asyncio.to_thread(demand_equal, driver.model, directory_of(driver, node), what)
            driver.rebase()
        for driver, goal in zip(self.drivers, goals, strict=True):
            driver.run_to(goal)
