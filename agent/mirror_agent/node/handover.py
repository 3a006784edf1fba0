"""When the relay of a planned swap may run: while this node is SECOND of the epoch it handed over, and never else.

The rule is a comparison of the node's own facts, made at every change of them. Whatever ends that role or epoch (a
takeover, a stop, another swap) ends the relay; before this node's own application starts, `Hands` waits for its end
once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from mirror_agent.core.decision import Decision
from mirror_agent.core.model import NO_EPOCH, Epoch, Role, State, Timing

HANDED_OVER = "swap-done"


class Relay(Protocol):
    """`app.handover_relay.HandoverRelay`, as far as its permission goes."""

    def open(self, *, window_s: float) -> None: ...

    async def close(self) -> None: ...


def window_s(timing: Timing) -> float:
    """How long the load balancer may go on choosing this node: its probe must have failed `threshold` times."""
    return timing.probe_interval_s * timing.probe_threshold + timing.margin_s


def just_handed_over(state: State, decision: Decision | None) -> bool:
    """This node has become SECOND by a swap of its own; a record that names only the peer (a stop) never says so."""
    return decision is not None and decision.rule == HANDED_OVER and state.role is Role.SECOND


def may_relay(state: State, epoch: Epoch) -> bool:
    return state.role is Role.SECOND and state.epoch == epoch


class Handover:
    """Opens and closes the relay as the node's facts change; call `changed` at every change."""

    def __init__(self, relay: Relay, *, facts: Callable[[], tuple[State, Decision | None]]) -> None:
        self._relay = relay
        self._facts = facts
        self._epoch: Epoch = NO_EPOCH  # of the hand-over the relay runs for
        self._closing: set[asyncio.Task[None]] = set()

    def changed(self) -> None:
        state, decision = self._facts()
        if self._epoch != NO_EPOCH and not may_relay(state, self._epoch):
            self._epoch = NO_EPOCH
            closing = asyncio.create_task(self._relay.close(), name="handover-relay-close")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if just_handed_over(state, decision) and state.epoch > self._epoch:
            self._epoch = state.epoch
            self._relay.open(window_s=window_s(state.timing))

    async def ended(self) -> None:
        """No socket of the relay is left when this returns."""
        await self._relay.close()
