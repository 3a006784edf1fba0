"""The independent judge: knows every write, every copy and the true record, and shares no rule with the core.

I1  an acknowledged write is on every node the true record lists as in sync (or was lost there by a power cut that the
    contract allows: acknowledged, not yet flushed, and the machine lost its memory);
I2  only one node acknowledges in an epoch, and never two nodes answer the probe with OK at the same moment;
I3  a node that begins to serve holds every acknowledged write that is not excused;
I5  a node begins to serve only when the true record names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tests.sim.world import Store, Violation, World


class Copy(Protocol):
    data: set[int]


@dataclass
class Oracle:
    world: World
    store: Store
    copies: Mapping[str, Copy]
    acknowledged: dict[int, tuple[str, int]] = field(default_factory=dict)
    acker_of_epoch: dict[int, str] = field(default_factory=dict)
    # (node, write): the write was on the node's memory only when its machine lost power.
    power_lost: set[tuple[str, int]] = field(default_factory=set)
    power_lost_at: dict[str, float] = field(default_factory=dict)
    # Per acknowledged write: every node the true record has listed as in sync since.
    holders: dict[int, set[str]] = field(default_factory=dict)
    # Per acknowledged write: the nodes whose machine lost power since.
    cut_since: dict[int, set[str]] = field(default_factory=dict)
    # Writes whose loss the contract allows: every copy that vouched for them lost power before it was flushed for sure.
    forgiven: set[int] = field(default_factory=set)
    promotions: int = 0

    def on_record(self, submitted_at: float) -> None:
        """The record changed: whoever is listed now vouches for every write acknowledged so far.

        A node that lost its power after it had asked to be recorded alone is judged as one that was alone: the request
        was on its way (docs/safety.md, "What a power cut may take").
        """
        alone = next(iter(self.store.record.in_sync)) if len(self.store.record.in_sync) == 1 else ""
        if self.power_lost_at.get(alone, float("-inf")) > submitted_at:
            self.forgiven |= {write for name, write in self.power_lost if name == alone}
        for write, holders in self.holders.items():
            if self.excused(write):
                continue
            for member in self.store.record.in_sync:
                if write not in self.copies[member].data and (member, write) not in self.power_lost:
                    raise Violation(f"I1: the record lists {member}, which lacks acknowledged write {write}")
                holders.add(member)

    def on_acknowledge(self, node: str, epoch: int, write: int) -> None:
        other = self.acker_of_epoch.setdefault(epoch, node)
        if other != node:
            raise Violation(f"I2: {node} acknowledges in epoch {epoch}, as {other} did")
        self.acknowledged[write] = (node, epoch)
        self.holders[write] = {*self.store.record.in_sync}
        for member in self.store.record.in_sync:
            if write not in self.copies[member].data and (member, write) not in self.power_lost:
                raise Violation(
                    f"I1: write {write} acknowledged by {node} in epoch {epoch} is not on {member}, "
                    f"which the record {self.store.record} lists as in sync"
                )

    def on_power_loss(self, node: str, lost: set[int]) -> None:
        self.power_lost_at[node] = self.world.now
        self.power_lost.update((node, write) for write in lost)
        if self.store.record.in_sync == {node}:
            self.forgiven |= lost  # alone, the contract is that of a local disk: what was not flushed may go
        for write in self.acknowledged:
            self.cut_since.setdefault(write, set()).add(node)

    def on_copied(self, node: str) -> None:
        """The node's copy was made equal to the primary's: what a power cut had taken is back."""
        here = self.copies[node].data
        self.power_lost = {(name, write) for name, write in self.power_lost if name != node or write not in here}

    def excused(self, write: int) -> bool:
        """A missing write is excused only if power cuts took it, unflushed, from every copy that vouched for it."""
        return write in self.forgiven or all((name, write) in self.power_lost for name in self.holders[write])

    def on_promote(self, node: str, epoch: int) -> None:
        self.promotions += 1
        if self.store.record.primary != node and self.store.record.epoch <= epoch:
            raise Violation(f"I5: {node} serves in epoch {epoch}, the record says {self.store.record}")
        if self.store.record.epoch > epoch:
            return  # already superseded; it cannot acknowledge, which on_acknowledge checks
        missing = sorted(w for w in self.acknowledged if w not in self.copies[node].data)
        for write in missing:
            both_cut = self.holders[write] <= self.cut_since.get(write, set())
            if (node, write) in self.power_lost and both_cut:
                self.forgiven.add(write)
        bad = [w for w in missing if not self.excused(w)]
        if bad:
            raise Violation(f"I3: {node} begins to serve epoch {epoch} without acknowledged writes {bad[:5]}")

    def on_probe(self, ok: Mapping[str, bool]) -> None:
        if all(ok.values()):
            raise Violation(f"I2: both nodes answer the probe with OK at {self.world.now:.3f}")

    def at_end(self, serving: str) -> None:
        """Everything healed: the serving copy has every acknowledged write that no power cut excuses."""
        missing = [w for w in self.acknowledged if w not in self.copies[serving].data and not self.excused(w)]
        if missing:
            raise Violation(f"I1: at the end {serving} misses acknowledged writes {sorted(missing)[:5]}")
