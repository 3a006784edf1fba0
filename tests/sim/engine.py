"""A replication engine as the core sees it: modes, a stream, acknowledgements, resynchronisation, parked calls.

It models the contract of docs/mirror.md, not the implementation: a write is applied locally, sent in order, and
acknowledged alone or after the replica has applied it; a lost link parks; only `release` goes on alone; a sealed
replica refuses older epochs. Data is a set of writes, `flushed` the part that survives a power cut. What the agent
remembers of its own calls (sealed, drained, required) is the agent's, see `hands`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mirror_agent.core.model import Acknowledging, Epoch, Link, Mode

from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.oracle import Oracle

SILENCE_S = 2.0
POLL_S = 0.2  # how often it tries to connect, and reports
HEARTBEAT_S = 0.35  # in the stream; with the polls that is every 0.4 s
RETRANSMIT_S = 0.2  # what the transport does with a segment lost on a cut path


class Engine:
    def __init__(self, world: World, name: str, oracle: Oracle) -> None:
        self.world = world
        self.name = name
        self.oracle = oracle
        self.random = world.stream(f"engine-{name}")
        self.on_report: Callable[[], None] = lambda: None
        self.peer: Engine | None = None
        self.data: set[int] = set()
        self.flushed: set[int] = set()
        self.alive = True
        self.frozen_until = 0.0
        self.told_at = 0.0
        self.generation = 0  # of the stream: frames of an older connection are ignored
        self.theirs = -1  # the peer's generation that this end's connection was made with
        self.own = Epoch(0)  # the highest epoch this engine was asked to be in; survives the process
        self.point: tuple[str, int] | None = None  # end of a stream both copies agree on; survives the process
        self.reset()

    def reset(self) -> None:
        self.mode = Mode.STOPPED
        self.epoch = Epoch(0)
        self.link = Link.NONE
        self.ack = Acknowledging.NONE
        self.heard_at = float("-inf")
        self.error = ""
        self.refuses_below = Epoch(0)
        self.waiting: dict[int, int] = {}  # write -> epoch it was sent in
        self.parked: list[int] = []
        self.expected: tuple[str, int] | None = None
        self.barrier: Callable[[str], None] | None = None
        self.generation += 1

    # -- reporting ------------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        return self.world.now < self.frozen_until

    def report(self) -> None:
        if self.alive and not self.frozen:
            self.on_report()

    def poll(self) -> None:
        """Every POLL_S: silence, connecting, in-stream heartbeats."""
        if not self.alive or self.frozen:
            return
        now, peer = self.world.now, self.peer
        assert peer is not None
        if self.link in (Link.LIVE, Link.RESYNC) and now - self.heard_at > SILENCE_S:
            self.lose_link("silence")
        if self.link in (Link.LIVE, Link.RESYNC) and now - self.told_at >= HEARTBEAT_S:
            self.told_at = now
            self.world.send("mirror", self.name, peer.name, partial(peer.hear, self.theirs))
        if self.mode is Mode.PRIMARY and self.link is Link.CONNECTING and self.ack is not Acknowledging.PARKED:
            self.try_connect()
        self.report()

    def hear(self, generation: int) -> None:
        if generation == self.generation and self.alive and not self.frozen:
            self.heard_at = self.world.now

    # -- the stream -----------------------------------------------------------------------------------------------

    def reachable(self) -> bool:
        peer = self.peer
        assert peer is not None
        ways = self.world.up("mirror", self.name, peer.name) and self.world.up("mirror", peer.name, self.name)
        return (
            ways and peer.alive and not peer.frozen and peer.mode is Mode.REPLICA and peer.refuses_below <= self.epoch
        )

    def connected(self) -> bool:
        """Both ends have the same connection: one that began anew or gave it up answers nothing on the old one."""
        peer = self.peer
        assert peer is not None
        return self.theirs == peer.generation and peer.theirs == self.generation

    def try_connect(self) -> None:
        if not self.reachable():
            return
        peer = self.peer
        assert peer is not None
        if peer.epoch > self.epoch:
            return  # the replica refuses an older epoch
        if peer.link in (Link.LIVE, Link.RESYNC):
            peer.lose_link("a new connection")
        if peer.own > self.epoch:
            return
        peer.epoch = peer.own = self.epoch
        peer.generation += 1
        self.generation += 1
        self.theirs, peer.theirs = peer.generation, self.generation
        self.heard_at = peer.heard_at = self.world.now
        if self.ack is Acknowledging.PAIRED:
            unsent = set(self.parked)  # written since the mount, before the peer was there: sent now, in order
            if self.expected is None or peer.point != self.expected or self.data - unsent != peer.data:
                self.world.note(f"{self.name}: paired start refused, copies differ: {sorted(self.data ^ peer.data)}")
                self.link = Link.LOST  # the handshake sees that they differ
                self.ack = Acknowledging.PARKED
                return
            self.parked.clear()
            for write in sorted(unsent):
                self.send(write, wait=True)
            self.link = peer.link = Link.LIVE
            peer.point = None
            return
        self.link = peer.link = Link.RESYNC
        peer.point = None
        generation, theirs = self.generation, peer.generation
        self.world.after(self.random.uniform(0.2, 4.0), lambda: self.resynced(generation, theirs))

    def resynced(self, generation: int, theirs: int) -> None:
        peer = self.peer
        assert peer is not None
        if generation != self.generation or theirs != peer.generation or self.link is not Link.RESYNC:
            return
        if self.frozen or peer.frozen or not self.reachable():
            self.world.after(0.5, lambda: self.resynced(generation, theirs))
            return
        peer.data = set(self.data)
        peer.flushed = set(self.data)
        self.oracle.on_copied(peer.name)
        self.link = peer.link = Link.LIVE
        self.report()
        peer.report()

    def lose_link(self, why: str) -> None:
        if self.mode is Mode.PRIMARY:
            paired = self.ack in (Acknowledging.PAIRED, Acknowledging.PARKED)
            self.link = Link.LOST if paired else Link.CONNECTING
            if paired:
                self.ack = Acknowledging.PARKED
                self.parked.extend(self.waiting)
                self.waiting.clear()
        elif self.mode is Mode.REPLICA:
            self.link = Link.LOST
        self.generation += 1
        if self.barrier is not None:
            barrier, self.barrier = self.barrier, None
            barrier("the link was lost")
        self.report()

    def connection_reset(self) -> None:
        """The other end is gone and the network says so."""
        peer = self.peer
        assert peer is not None
        if self.alive and self.link in (Link.LIVE, Link.RESYNC) and self.world.up("mirror", peer.name, self.name):
            self.world.after(self.world.delay(), lambda: self.lose_link("reset") if self.alive else None)

    def write(self, write: int) -> None:
        """The application writes; the acknowledgement may come now, later or never."""
        if self.mode is not Mode.PRIMARY or self.frozen or not self.alive:
            return
        self.data.add(write)
        peer = self.peer
        assert peer is not None
        if self.ack is Acknowledging.SOLO:
            self.acknowledge(write)
            if self.link is Link.LIVE:
                self.send(write, wait=False)
        elif self.ack is Acknowledging.PAIRED and self.link is Link.LIVE:
            self.send(write, wait=True)
        else:
            self.parked.append(write)

    def send(self, write: int, *, wait: bool) -> None:
        peer = self.peer
        assert peer is not None
        epoch = self.epoch
        if wait:
            self.waiting[write] = epoch
        self.world.after(self.world.delay(), partial(peer.receive, write, epoch, self.theirs))

    def receive(self, write: int, epoch: Epoch, generation: int) -> None:
        peer = self.peer
        assert peer is not None
        if generation != self.generation or self.mode is not Mode.REPLICA or not self.alive:
            return
        if self.frozen:
            self.world.after(
                self.frozen_until - self.world.now + 0.001, partial(self.receive, write, epoch, generation)
            )
            return
        if not self.world.up("mirror", peer.name, self.name):
            self.world.after(RETRANSMIT_S, partial(self.receive, write, epoch, generation))
            return
        if epoch < self.refuses_below:
            return  # an old epoch is refused; that of the connection was compared when it was made
        self.data.add(write)
        self.world.after(self.world.delay(), partial(peer.acked, write, self.theirs))

    def acked(self, write: int, generation: int) -> None:
        if generation != self.generation or not self.alive or write not in self.waiting:
            return
        if self.frozen:
            self.world.after(self.frozen_until - self.world.now + 0.001, partial(self.acked, write, generation))
            return
        peer = self.peer
        assert peer is not None
        if not self.world.up("mirror", peer.name, self.name):
            self.world.after(RETRANSMIT_S, partial(self.acked, write, generation))
            return
        del self.waiting[write]
        self.acknowledge(write)

    def acknowledge(self, write: int) -> None:
        self.oracle.on_acknowledge(self.name, self.epoch, write)

    def flush(self) -> None:
        if self.alive and not self.frozen and len(self.flushed) < len(self.data):  # it is a part of the data
            self.flushed |= self.data

    # -- what the node asks for -----------------------------------------------------------------------------------

    def rises(self, epoch: Epoch) -> bool:
        if epoch < self.own:
            return False
        self.own = epoch
        return True

    def become_primary(self, epoch: Epoch, paired: bool) -> str:
        if self.mode is not Mode.STOPPED:
            return f"the engine is {self.mode.value}"
        if not self.rises(epoch):
            return "the epoch is lower than this node's"
        if paired and self.point is None:
            return "no clean hand-over is recorded here"
        expected = self.point
        self.reset()
        self.point, self.expected = None, expected
        self.mode, self.epoch = Mode.PRIMARY, epoch
        self.link = Link.CONNECTING
        self.ack = Acknowledging.PAIRED if paired else Acknowledging.SOLO
        self.oracle.on_promote(self.name, epoch)
        return ""

    def become_replica(self, epoch: Epoch) -> str:
        if self.mode is Mode.PRIMARY:
            return "still primary"
        if not self.rises(epoch):
            return "the epoch is lower than this node's"
        if self.link is not Link.LIVE and self.link is not Link.RESYNC:
            self.reset()
        self.mode, self.epoch, self.refuses_below = Mode.REPLICA, Epoch(max(epoch, self.epoch)), Epoch(0)
        return ""

    def require_peer(self, epoch: Epoch, done: Callable[[str], None]) -> None:
        if self.mode is not Mode.PRIMARY or self.link is not Link.LIVE:
            done("the link is not live")
            return
        self.ack = Acknowledging.PAIRED
        peer = self.peer
        assert peer is not None
        behind = self.data - peer.data

        def finished(failure: str) -> None:
            if failure and self.ack is Acknowledging.PARKED and self.random.random() < 0.5:
                self.ack = Acknowledging.SOLO
                self.link = Link.CONNECTING
                for write in self.parked:
                    self.acknowledge(write)
                self.parked.clear()
            done(failure)

        self.barrier = finished
        for write in behind:
            self.send(write, wait=False)
        self.settle_barrier(behind, self.generation)

    def settle_barrier(self, behind: set[int], generation: int) -> None:
        peer = self.peer
        assert peer is not None
        if self.barrier is None or generation != self.generation:
            return
        if behind <= peer.data and not self.waiting and self.reachable() and self.connected():
            barrier, self.barrier = self.barrier, None
            peer.flushed = set(peer.data)
            self.flushed = set(self.data)
            barrier("")
        else:
            self.world.after(0.01, lambda: self.settle_barrier(behind, generation))

    def release(self, epoch: Epoch) -> str:
        if self.mode is not Mode.PRIMARY:
            return "not primary"
        if not self.rises(epoch):
            return "the epoch is lower than this node's"
        self.epoch = epoch
        self.ack = Acknowledging.SOLO
        waiting, self.parked = [*self.parked, *self.waiting], []
        self.waiting.clear()
        if self.link is not Link.LIVE:
            self.link = Link.CONNECTING
        else:
            self.generation += 1
            self.link = Link.CONNECTING
        for write in waiting:
            self.acknowledge(write)
        return ""

    def raise_epoch(self, epoch: Epoch) -> str:
        if self.mode is not Mode.PRIMARY:
            return "not primary"
        if not self.rises(epoch):
            return "the epoch is lower than this node's"
        self.epoch = epoch
        peer = self.peer
        assert peer is not None
        if self.link is Link.LIVE and self.reachable() and self.connected():
            peer.epoch = peer.own = epoch
        return ""

    def seal(self, epoch: Epoch) -> str:
        if self.mode not in (Mode.REPLICA, Mode.STOPPED):
            return f"the engine is {self.mode.value}"
        if not self.rises(epoch):
            return "the epoch is lower than this node's"
        if self.mode is Mode.STOPPED:
            return ""  # sealed before, for an epoch that is over: nothing is received any more, only the epoch rises
        self.flushed = set(self.data)
        self.reset()
        self.refuses_below = epoch
        if self.peer is not None:
            self.peer.connection_reset()
        return ""

    def drain(self) -> str:
        peer = self.peer
        assert peer is not None
        if self.mode is not Mode.PRIMARY:
            return "not primary"
        agreed = False
        if self.ack is Acknowledging.PAIRED and self.link is Link.LIVE and not self.waiting and not self.parked:
            if not self.data <= peer.data or not self.connected():
                return "the peer has not confirmed"
            peer.flushed = set(peer.data)
            agreed = True
        elif self.ack is not Acknowledging.SOLO:
            return "the peer has not confirmed"
        self.flushed = set(self.data)
        epoch = self.epoch
        self.reset()
        self.epoch = epoch
        self.point = peer.point = (self.name, self.generation) if agreed else None
        if self.peer is not None:
            self.peer.connection_reset()
        return ""

    def stop(self) -> str:
        self.reset()
        if self.peer is not None:
            self.peer.connection_reset()
        return ""

    def crash(self) -> None:
        """The engine's process dies; the agent sees it at once, the files stay as they are."""
        if self.mode is Mode.STOPPED:
            return
        self.reset()
        self.mode, self.error = Mode.FAILED, "killed"
        if self.peer is not None:
            self.peer.connection_reset()
        self.report()

    def power_cut(self) -> None:
        """The machine loses its memory: what was not flushed is gone."""
        lost = self.data - self.flushed
        self.oracle.on_power_loss(self.name, lost)
        self.data = set(self.flushed)

    def new_disk(self) -> None:
        """The machine comes back with an empty disk: to the other copies that is the loss of everything here."""
        self.flushed = set()
        self.power_cut()
        self.own, self.point = Epoch(0), None
