"""This node's part in a rolling change: takes the order, prepares beside what runs, begins anew, proves itself.

Problem: another agent, or a configuration that cannot be taken while the agent runs, needs this node to begin anew; a
node that does not come up again, or does so at the wrong moment, costs the pair its redundancy or its service.
Guarantee: everything that can fail is done before anything is changed (wheel fetched and checked, environment complete,
the new agent has said that it can work here). The last thing before beginning anew is to ask once more: does the order
still stand, and may this node go (`RolloutFacts.hold`)? The order and how far it is are on the disk at every step, so
a crash anywhere is gone on from. Whatever ends the new agent before it has proven itself leads back to the previous
one: `bootstrap.py settle_trial` counts its starts, and this module ends it when its time is over.
Limits: one order at a time; an `id` is carried out once, whatever came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mirror_agent import __version__
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import MAX_SENTENCE_CHARS, AgentRelease, RolloutOrder, RolloutReport, RolloutStage
from mirror_agent.eventlog import EventLog
from mirror_agent.net.agent_wheel import WheelNotFetched, fetch_wheel
from mirror_agent.node.environments import NotInstalled, forget_others, in_use, install
from mirror_agent.node.rollout_note import UNDER_WAY, RolloutNote, load_note, store_note
from mirror_agent.node.rollout_rules import NotYet, Proven, RolloutFacts, not_now, proof
from mirror_agent.paths import Paths
from mirror_agent.skew import refusal

LOOK_S: Final = 0.5
# A configuration that is being stored, a resync that is ending: worth waiting for once everything is prepared.
MAY_GO_DEADLINE_S: Final = 60.0


class Refused(RuntimeError):
    """Nothing was changed; the sentence says why."""


class Rollout:
    """All methods belong to one event loop."""

    def __init__(
        self,
        *,
        paths: Paths,
        url: str,
        credential: Callable[[], str],
        facts: Callable[[], RolloutFacts],
        in_use_version: Callable[[], int],
        leave: Callable[[], None],
        changed: Callable[[], None],
        log: EventLog,
        clock: Clock = BOOT_CLOCK,
        version: str = __version__,
    ) -> None:
        """`url`: "" without a control plane. `in_use_version`: the configuration in force. `leave`: end this agent in
        order; it is started again. `changed`: the report is another one."""
        self._paths = paths
        self._url = url
        self._credential = credential
        self._facts = facts
        self._in_use_version = in_use_version
        self._leave = leave
        self._changed = changed
        self._log = log
        self._clock = clock
        self._version = version
        self._note = load_note(paths, log.record)
        self._standing: RolloutOrder | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def report(self) -> RolloutReport:
        note = self._note
        return RolloutReport(
            configuration_in_use=self._in_use_version(),
            order=note.order,
            stage=note.stage,
            reason=note.reason[:MAX_SENTENCE_CHARS],
        )

    def take(self, order: RolloutOrder | None) -> None:
        """What the control plane orders now; None: nothing, and what was only being prepared is given up."""
        self._standing = order
        if order is None or (order.id != self._note.order and self._task is not None):
            self._give_up()
            return
        if self._task is not None or self._note.stage in UNDER_WAY:
            return
        if order.id != self._note.order or self._note.stage is RolloutStage.PREPARING:
            self._task = asyncio.create_task(self._carry_out(order), name="rollout-order")
            self._task.add_done_callback(self._order_ended)

    def _give_up(self) -> None:
        """Once: another cancellation would break off the taking back of what is being written (`_keep`)."""
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    def _order_ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.record_decision("rollout.crashed", error=f"{type(error).__name__}: {error}")

    async def run(self) -> None:
        """Proves what was begun anew; until cancelled."""
        try:
            if self._note.stage in UNDER_WAY:
                await self._prove()
            await asyncio.Event().wait()
        finally:
            if self._task is not None:
                self._give_up()
                await asyncio.wait([self._task])

    # -- the order ------------------------------------------------------------------------------------------------

    async def _carry_out(self, order: RolloutOrder) -> None:
        note = RolloutNote(
            order=order.id,
            stage=RolloutStage.PREPARING,
            configuration_version=order.configuration_version,
            version=self._version if order.agent is None else order.agent.version,
            prove_within_s=order.prove_within_s,
        )
        try:
            await self._keep(note)
            if order.agent is None and self._in_use_version() >= order.configuration_version:
                # Taken while it ran, after the control plane had last heard of this node.
                await self._keep(note.model_copy(update={"stage": RolloutStage.DONE}))
                return
            if order.agent is not None:
                note = await self._prepare(note, order.agent)
            await self._until_it_may_go(order)
            await self._keep(note.model_copy(update={"stage": RolloutStage.RESTARTING}))
        except (Refused, WheelNotFetched, NotInstalled) as error:
            await self._refuse(note, str(error))
            return
        except OSError as error:
            await self._refuse(note, f"{error.filename or self._paths.rollout_note}: {error.strerror}")
            return
        self._leave()

    async def _refuse(self, note: RolloutNote, reason: str) -> None:
        """Told from memory where not even the refusal can be written (a full disk); nothing was changed."""
        refused = note.model_copy(update={"stage": RolloutStage.REFUSED, "reason": reason})
        try:
            await self._keep(refused)
        except OSError as error:
            self._log.record("rollout.not-written", error=str(error))
            self._set(refused)

    async def _prepare(self, note: RolloutNote, release: AgentRelease) -> RolloutNote:
        """The environment of the other agent, complete and checked. Raises Refused, WheelNotFetched, NotInstalled."""
        if reason := refusal("the new agent", release.version, "the one of this node", self._version):
            raise Refused(reason)
        previous = in_use(self._paths)
        if previous is None:
            raise Refused(
                f"{self._paths.environment} is no link: this node was installed by a release that cannot change its "
                "agent; replace its VM"
            )
        if not self._url:
            raise Refused("this node has no control plane to fetch an agent from")
        wheel = await fetch_wheel(self._url, self._credential(), release, self._paths.state_dir)
        try:
            candidate = await install(self._paths, release, wheel)
        finally:
            await asyncio.to_thread(wheel.unlink, missing_ok=True)
        return note.model_copy(update={"candidate": str(candidate), "previous": str(previous)})

    async def _until_it_may_go(self, order: RolloutOrder) -> None:
        """Raises Refused with the last reason."""
        end = self._clock.now_s() + MAY_GO_DEADLINE_S
        while True:
            facts = self._facts()
            reason = not_now(facts, order.configuration_version)
            if self._standing is None or self._standing.id != order.id:
                raise Refused("the order was taken back")
            if not reason:
                return
            if facts.relaying:
                end = self._clock.now_s() + MAY_GO_DEADLINE_S  # ends by itself, and may take longer than that
            elif self._clock.now_s() >= end:
                raise Refused(reason)
            await self._clock.sleep(LOOK_S)

    # -- the proof ------------------------------------------------------------------------------------------------

    async def _prove(self) -> None:
        note = self._note
        if note.candidate and note.stage is RolloutStage.RESTARTING:
            reason = "the service's start did not put the new agent in place; this node's bootstrap.py is too old"
            await self._keep_at_last(note.model_copy(update={"stage": RolloutStage.REFUSED, "reason": reason}))
            return
        spent_s = 0.0
        while True:
            match proof(self._facts()):
                case Proven():
                    await self._keep_at_last(note.model_copy(update={"stage": RolloutStage.DONE, "reason": ""}))
                    await self._forget_others(note)
                    return
                case NotYet(reason, counts):
                    spent_s += LOOK_S if counts else 0.0
                    if note.candidate and spent_s >= note.prove_within_s:
                        text = f"version {note.version} did not prove itself in {note.prove_within_s:g} s: {reason}"
                        await self._keep_at_last(note.model_copy(update={"failed": True, "reason": text}))
                        self._leave()
                        return
            await self._clock.sleep(LOOK_S)

    async def _forget_others(self, note: RolloutNote) -> None:
        if not note.candidate:
            return
        kept = {self._paths.root / note.candidate, self._paths.root / note.previous}
        removed = await asyncio.to_thread(forget_others, self._paths, kept)
        if removed:
            self._log.record("rollout.environments-removed", names=removed)

    async def _keep(self, note: RolloutNote) -> None:
        """On the disk first, then told. Raises OSError. Given up in the middle, it is not on the disk either."""
        writing = asyncio.create_task(asyncio.to_thread(store_note, self._paths, note))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])  # the thread goes on; the next start must not find what was taken back
            if writing.exception() is None:
                try:
                    await asyncio.to_thread(store_note, self._paths, self._note)
                except OSError as error:  # must not take the place of the end that was asked for
                    self._log.record("rollout.not-written", error=str(error))
            raise
        self._set(note)

    async def _keep_at_last(self, note: RolloutNote) -> None:
        """As `_keep`, however long the disk takes nothing: a node that works is not ended for a note."""
        told = False
        while True:
            try:
                await self._keep(note)
            except OSError as error:
                if not told:
                    self._log.record("rollout.not-written", error=str(error))
                    self._set(note)
                told = True
                await self._clock.sleep(LOOK_S)
                if self._note is note:  # else a later order has taken its place
                    continue
            return

    def _set(self, note: RolloutNote) -> None:
        self._note = note
        self._log.record_decision(f"rollout.{note.stage.value}", **note.model_dump(mode="json"))
        self._changed()
