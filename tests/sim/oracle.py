"""The independent judge: knows every write, every copy and the true record, and shares no rule with the core.

I1  an acknowledged write is on every node the true record lists as in sync (or was lost there by a power cut that the
    contract allows: acknowledged, not yet flushed, and the machine lost its memory);
I2  only one node acknowledges in an epoch, and never two nodes answer the probe with OK at the same moment;
I3  a node that begins to serve holds every acknowledged write that is not excused;
I5  a node begins to serve only when the true record names it, and the record names only a node that it listed before;
    the records form one chain of epochs; a node whose promise was received does not take over while, by the clock of
    the node it was given to, the promise lasts; and the application does not run on two nodes.

An operator's forced start is the one override: what the forced copy lacks is forgiven, and so is what the node it
deposed acknowledges or answers until it learns of the record. Nothing else is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mirror_agent.core.model import Record

from tests.sim.store import Store
from tests.sim.violation import Violation
from tests.sim.world import World

# An application that has lost its right to run is killed by then; kills take time and may need a second attempt.
KILL_S = 2.0
# Who hands over does not take back before the other one has had the time of a promise, by a clock 1 % slow.
HANDED_OVER_S = 4.0 * 0.99


class Copy(Protocol):
    data: set[int]


@dataclass
class Oracle:
    world: World
    store: Store
    copies: Mapping[str, Copy]
    # False when a schedule lets clocks run wild: the invariants of the data must hold all the same (I4).
    clocks_are_sane: bool = True
    acknowledged: dict[int, tuple[str, int]] = field(default_factory=dict)
    acker_of_epoch: dict[int, str] = field(default_factory=dict)
    # (node, write): the write was on the node's memory only when its machine lost power.
    power_lost: set[tuple[str, int]] = field(default_factory=set)
    power_lost_at: dict[str, float] = field(default_factory=dict)
    # Per acknowledged write: every node the true record has listed as in sync since.
    holders: dict[int, set[str]] = field(default_factory=dict)
    # Per acknowledged write: the nodes whose machine lost power since they vouched for it, and when first.
    cut_since: dict[int, dict[str, float]] = field(default_factory=dict)
    booted_at: dict[str, float] = field(default_factory=dict)
    # The epochs in which another node became primary than in the epoch before.
    changed_hands: set[int] = field(default_factory=set)
    # Writes whose loss the contract allows: every copy that vouched for them lost power before it was flushed for sure,
    # or an operator forced a copy that lacks them.
    forgiven: set[int] = field(default_factory=set)
    promised_until: dict[str, float] = field(default_factory=dict)
    # The epoch of the newest override: who serves in an older one has been deposed by it and does not know yet.
    forced_epoch: int = 0
    promotions: int = 0
    overrides: int = 0

    def on_record(self, old: Record, new: Record, writer: str, sent_at: float) -> None:
        """The record changed: it must be a lawful successor, and whoever it lists vouches for every acknowledged write.

        A node that lost its power after it had asked to be recorded alone is judged as one that was alone: the request
        was on its way (docs/safety.md, "What a power cut may take").
        """
        forced = new.rule.startswith("forced")
        self._successor(old, new, writer, forced=forced)
        if forced:
            self._override(new)
        alone = next(iter(new.in_sync)) if len(new.in_sync) == 1 else ""
        if self.power_lost_at.get(alone, float("-inf")) >= sent_at:
            self.forgiven |= {write for name, write in self.power_lost if name == alone}
        for member in new.in_sync:
            data = self.copies[member].data
            for write, holders in self.holders.items():
                if self.excused(write):
                    continue
                if write not in data and (member, write) not in self.power_lost:
                    raise Violation(f"I1: the record lists {member}, which lacks acknowledged write {write}")
                holders.add(member)

    def _successor(self, old: Record, new: Record, writer: str, *, forced: bool) -> None:
        if new.epoch != old.epoch + 1:
            raise Violation(f"I2: the record goes from epoch {old.epoch} to {new.epoch}")
        if new.primary not in new.in_sync:
            raise Violation(f"I5: the record names {new.primary}, which it does not list: {new}")
        if forced:
            return
        if new.primary not in old.in_sync:
            raise Violation(f"I5: {new.primary} becomes primary by {new.rule!r}, which the record did not list: {old}")
        changes = old.primary not in ("", new.primary)
        if changes:
            self.changed_hands.add(new.epoch)
        if changes and writer != new.primary:  # handed over: the other one gets its time to begin
            self.on_promise(writer, self.world.now + HANDED_OVER_S)
        takes_over = changes and writer == new.primary
        if takes_over and self.clocks_are_sane and self.world.now < self.promised_until.get(writer, 0.0):
            raise Violation(f"I2: {writer} takes over at {self.world.now:.3f}, but has promised not to")

    def _override(self, new: Record) -> None:
        self.overrides += 1
        self.forced_epoch = new.epoch
        data = self.copies[new.primary].data
        self.forgiven |= {write for write in self.acknowledged if write not in data}

    def on_promise(self, node: str, until: float) -> None:
        """The peer of `node` has received its promise not to take over, which lasts until then by the peer's clock."""
        self.promised_until[node] = max(until, self.promised_until.get(node, 0.0))

    def on_acknowledge(self, node: str, epoch: int, write: int) -> None:
        other = self.acker_of_epoch.setdefault(epoch, node)
        if other != node:
            raise Violation(f"I2: {node} acknowledges in epoch {epoch}, as {other} did")
        self.acknowledged[write] = (node, epoch)
        record = self.store.record
        self.holders[write] = {*record.in_sync}
        if epoch < self.forced_epoch and node != record.primary:
            self.forgiven.add(write)
            return
        for member in record.in_sync:
            if write not in self.copies[member].data and (member, write) not in self.power_lost:
                raise Violation(
                    f"I1: write {write} acknowledged by {node} in epoch {epoch} is not on {member}, "
                    f"which the record {record} lists as in sync"
                )
            if not self._is_back(member, self.power_lost_at.get(member, float("-inf"))):
                # Its confirmation was on its way when the machine lost its power, and it is still away.
                self.cut_since.setdefault(write, {})[member] = self.power_lost_at[member]

    def on_power_loss(self, node: str, lost: set[int]) -> None:
        self.power_lost_at[node] = self.world.now
        self.power_lost.update((node, write) for write in lost)
        if self.store.record.in_sync == {node}:
            self.forgiven |= lost  # alone, the contract is that of a local disk: what was not flushed may go
        for write in self.acknowledged:
            self.cut_since.setdefault(write, {}).setdefault(node, self.world.now)

    def on_boot(self, node: str) -> None:
        self.booted_at[node] = self.world.now

    def on_copied(self, node: str) -> None:
        """The node's copy was made equal to the primary's: what a power cut had taken is back."""
        here = self.copies[node].data
        self.power_lost = {(name, write) for name, write in self.power_lost if name != node or write not in here}

    def excused(self, write: int) -> bool:
        """A missing write is excused only if power cuts took it, unflushed, from every copy that vouched for it."""
        return write in self.forgiven or all((name, write) in self.power_lost for name in self.holders[write])

    def on_promote(self, node: str, epoch: int) -> None:
        self.promotions += 1
        record = self.store.record
        if record.epoch > epoch:
            return  # already superseded; it cannot acknowledge, which on_acknowledge checks
        if record.primary != node:
            raise Violation(f"I5: {node} serves in epoch {epoch}, the record says {record}")
        missing = sorted(w for w in self.acknowledged if w not in self.copies[node].data)
        for write in missing:
            # All who vouched for it have lost power since, and are back: none of them is known to have it for sure, and
            # the primary of the record goes first. A copy that is still away may be the one that had flushed it, and
            # so may the recorded primary, from which nobody takes over: only an operator may go on without them.
            cuts = self.cut_since.get(write, {})
            both_cut = all(holder in cuts and self._is_back(holder, cuts[holder]) for holder in self.holders[write])
            if (node, write) in self.power_lost and both_cut and epoch not in self.changed_hands:
                self.forgiven.add(write)
        bad = [w for w in missing if not self.excused(w)]
        if bad:
            raise Violation(f"I3: {node} begins to serve epoch {epoch} without acknowledged writes {bad[:5]}")

    def _is_back(self, node: str, after: float) -> bool:
        """The machine has started after that moment."""
        return self.booted_at.get(node, float("-inf")) > after

    def overridden(self, epochs: Mapping[str, int]) -> bool:
        """One of the nodes serves in an epoch that an operator's override ended, and does not know it yet."""
        return min(epochs.values()) < self.forced_epoch

    def on_both_ok(self, epochs: Mapping[str, int]) -> None:
        """Both nodes would answer the load balancer's probe with OK at this moment, serving in these epochs."""
        if self.clocks_are_sane:
            raise Violation(f"I2: both nodes answer the probe with OK at {self.world.now:.3f}, epochs {dict(epochs)}")

    def on_both_run(self, epochs: Mapping[str, int], since: float) -> None:
        """The application has been running on both nodes since then, and neither of them was frozen."""
        if self.clocks_are_sane and self.world.now - since > KILL_S:
            raise Violation(f"I2: the application runs on both nodes since {since:.3f}, epochs {dict(epochs)}")

    def at_end(self, serving: str) -> None:
        """Everything healed: the serving copy has every acknowledged write that no power cut excuses."""
        missing = [w for w in self.acknowledged if w not in self.copies[serving].data and not self.excused(w)]
        if missing:
            raise Violation(f"I1: at the end {serving} misses acknowledged writes {sorted(missing)[:5]}")
