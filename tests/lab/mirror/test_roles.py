"""The supervisor's commands: pairing, hand-over, parking, release, seal, abort, drain. Facts, not log lines."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from pathlib import Path

import pytest
from mirror_agent.mirror import mounts
from mirror_agent.mirror.control import MirrorError, MirrorLimits

from tests.lab.mirror.pair import DEADLINE_S, Authority, Node, Pair, differences, eventually, running_pair, tree

pytestmark = pytest.mark.lab


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


async def begin_writing(path: Path) -> asyncio.Task[None]:
    """Starts a thread that creates the file; returns once the thread is about to make the call, and a little later."""
    at_work = threading.Event()

    def work() -> None:
        at_work.set()
        write(path, "x")

    task = asyncio.create_task(asyncio.to_thread(work))
    await eventually(at_work.is_set)
    await asyncio.sleep(0.1)
    return task


class Writer(threading.Thread):
    """Appends numbered lines, one write call each, and remembers the last one that was acknowledged."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self.acknowledged = 0
        self.error: OSError | None = None
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                while not self.enough.is_set():
                    os.write(fd, f"{self.acknowledged + 1:08d}\n".encode())
                    self.acknowledged += 1
            finally:
                os.close(fd)
        except OSError as error:
            self.error = error

    async def until(self, count: int) -> None:
        await eventually(lambda: self.acknowledged >= count or self.error is not None)
        assert self.error is None

    async def stop(self) -> None:
        self.enough.set()
        await asyncio.to_thread(self.join, 10)
        assert not self.is_alive()


def quarantined(node: Node) -> bytes:
    """The bytes of all files in a node's quarantine."""
    return b"".join(path.read_bytes() for path in Path(node.config.quarantine_dir).rglob("*") if path.is_file())


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text(encoding="utf-8").split()]


async def test_solo_then_paired(pair: Pair) -> None:
    await pair.a.engine.become_primary(epoch=1, paired=False)
    assert pair.a.status.acknowledging == "solo"
    await asyncio.to_thread(write, pair.a.root / "before", "written alone")
    await pair.b.engine.become_replica(epoch=1)
    await pair.a.until(lambda status: status.link == "live")
    await pair.a.engine.require_peer(epoch=1)
    assert pair.a.status.acknowledging == "paired"
    assert not pair.b.status.inconsistent
    await asyncio.to_thread(write, pair.a.root / "after", "written by both")
    assert (pair.b.root / "before").read_text() == "written alone"
    assert (pair.b.root / "after").read_text() == "written by both"


async def test_handover_needs_no_resync_and_back(pair: Pair) -> None:
    await pair.make_pair()
    await asyncio.to_thread(write, pair.a.root / "x", "1")
    for epoch, old, new in ((2, pair.a, pair.b), (3, pair.b, pair.a)):
        await old.engine.drain()
        await new.engine.seal(epoch=epoch)
        new.seen.clear()
        await new.engine.become_primary(epoch=epoch, paired=True)
        assert new.status.acknowledging == "parked"
        assert (await asyncio.to_thread((new.root / "x").read_text)) == str(epoch - 1)
        parked = asyncio.create_task(asyncio.to_thread(write, new.root / "x", str(epoch)))
        await old.engine.become_replica(epoch=epoch)
        await new.until(lambda status: status.link == "live" and status.acknowledging == "paired")
        await parked
        assert "resync" not in {status.link for status in new.seen}
        assert (old.root / "x").read_text() == str(epoch)
    await asyncio.to_thread(os.rename, pair.a.root / "x", pair.a.root / "y")
    await pair.a.engine.drain()
    assert not differences(tree(pair.a.root), tree(pair.b.root))


async def test_handover_to_a_copy_that_is_not_identical_stays_parked(pair: Pair) -> None:
    await pair.make_pair()
    await pair.a.engine.drain()
    await pair.b.engine.seal(epoch=2)
    await pair.b.engine.become_primary(epoch=2, paired=True)
    # The old primary changed after its end of the stream, which only its own role record shows.
    await pair.a.engine.become_primary(epoch=2, paired=False)
    await pair.a.engine.abort()
    await pair.a.engine.become_replica(epoch=2)
    status = await pair.b.until(lambda status: "not identical" in str(status.error))
    assert status.acknowledging == "parked"
    await pair.b.engine.release(epoch=3)
    await pair.b.until(lambda status: status.link == "live" and status.acknowledging == "solo")


async def test_link_cut_parks_and_release_answers(pair: Pair) -> None:
    await pair.make_pair()
    (pair.b.root / "log").touch()
    await asyncio.to_thread(write, pair.a.root / "readable", "still")
    writer = Writer(pair.a.root / "log2")
    writer.start()
    await writer.until(50)
    await pair.relay.cut()
    await pair.a.until(lambda status: status.acknowledging == "parked" and status.link == "lost")
    count = writer.acknowledged
    assert (await asyncio.to_thread((pair.a.root / "readable").read_text)) == "still"
    await pair.relay.start()
    await asyncio.sleep(0.5)  # two reconnect periods: nothing may happen by itself
    assert pair.a.status.link == "lost"
    assert writer.acknowledged == count
    assert max(lines(pair.b.root / "log2")) >= count
    await pair.a.engine.release(epoch=2)
    await writer.until(count + 50)
    await pair.a.until(lambda status: status.link == "live")
    assert pair.a.status.acknowledging == "solo"
    await pair.a.engine.require_peer(epoch=3)
    assert pair.b.status.epoch in (2, 3)
    await writer.until(writer.acknowledged + 20)
    await writer.stop()
    assert lines(pair.b.root / "log2") == list(range(1, writer.acknowledged + 1))
    await pair.a.engine.drain()
    assert not differences(tree(pair.a.root), tree(pair.b.root))


async def test_silent_peer_is_lost(tmp_path: Path) -> None:
    async with running_pair(tmp_path, limits=MirrorLimits(peer_silence_s=1.0)) as pair:
        await pair.make_pair()
        pair.relay.go_silent()
        await pair.a.until(lambda status: status.acknowledging == "parked", within_s=10)
        assert "silent: Nothing was heard" in str(pair.a.status.error)


async def test_killed_primary_loses_no_acknowledged_write(pair: Pair) -> None:
    await pair.make_pair()
    writer = Writer(pair.a.root / "log")
    writer.start()
    await writer.until(200)
    await pair.a.kill()
    await asyncio.to_thread(writer.join, 10)
    assert writer.error is not None
    await pair.b.engine.seal(epoch=2)
    await pair.b.engine.become_primary(epoch=2, paired=False)
    found = await asyncio.to_thread(lines, pair.b.root / "log")
    assert found[: writer.acknowledged] == list(range(1, writer.acknowledged + 1))
    # The dead node comes back with whatever it had, and becomes identical.
    await pair.a.close()
    (pair.a.root / "log").write_text("divergent")
    (pair.a.root / "only-here").write_text("divergent too")
    await pair.a.launch()
    await pair.a.engine.become_replica(epoch=2)
    await pair.b.until(lambda status: status.link == "live")
    await pair.b.engine.require_peer(epoch=3)
    await pair.b.engine.drain()
    assert not differences(tree(pair.a.root), tree(pair.b.root))
    assert b"divergent too" in quarantined(pair.a)


async def test_sealed_replica_refuses_the_old_primary(pair: Pair) -> None:
    await pair.make_pair()
    await asyncio.to_thread(write, pair.a.root / "x", "1")
    await pair.b.engine.seal(epoch=2)
    parked = asyncio.create_task(asyncio.to_thread(write, pair.a.root / "x", "2"))
    await pair.a.until(lambda status: status.acknowledging == "parked")
    await pair.b.engine.become_replica(epoch=2)
    with pytest.raises(MirrorError, match="lower"):
        await pair.b.engine.become_replica(epoch=1)
    # Even if it were told to go on alone in its old epoch, nothing of it is applied.
    await pair.a.engine.release(epoch=1)
    await parked
    status = await pair.a.until(lambda status: "lower" in str(status.error))
    assert status.link == "connecting"
    assert (pair.b.root / "x").read_text() == "1"


async def test_stranger_is_refused(pair: Pair, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path / "other").issue("b")
    await pair.b.close()
    object.__setattr__(pair.b.config, "certificate_file", str(certificate))
    object.__setattr__(pair.b.config, "key_file", str(key))
    await pair.b.launch()
    await pair.b.engine.become_replica(epoch=1)
    await pair.a.engine.become_primary(epoch=1, paired=False)
    status = await pair.a.until(lambda status: status.error is not None)
    assert "certificate" in str(status.error).lower()
    assert status.link == "connecting"


async def test_abort_fails_parked_calls_at_once(pair: Pair) -> None:
    await pair.make_pair()
    await pair.relay.cut()
    await pair.a.until(lambda status: status.acknowledging == "parked")
    waiting = [await begin_writing(pair.a.root / f"never{index}") for index in range(4)]
    assert not any(task.done() for task in waiting)
    async with asyncio.timeout(DEADLINE_S):
        await pair.a.engine.abort()
    for task in waiting:
        with pytest.raises(OSError):
            await task
    assert mounts.mounted(str(pair.a.root))  # dead, over the directory, until nobody can write there
    assert pair.a.status.mode == "stopped"
    await pair.a.engine.become_replica(epoch=1)
    assert not mounts.mounted(str(pair.a.root))


async def test_abort_works_with_a_stopped_engine(pair: Pair) -> None:
    await pair.make_pair()
    process = pair.a.engine._process
    assert process is not None
    process.send_signal(19)
    waiting = await begin_writing(pair.a.root / "never")
    await pair.a.engine.abort()
    with pytest.raises(OSError):
        await waiting
    with pytest.raises(OSError):
        os.listdir(pair.a.root)
    assert await pair.a.engine.wait_dead() == -9
    await pair.a.engine.stop()
    assert not mounts.mounted(str(pair.a.root))


async def test_drain_names_who_holds_the_directory(pair: Pair) -> None:
    await pair.make_pair()
    await asyncio.to_thread(write, pair.a.root / "open", "x")
    held = os.open(pair.a.root / "open", os.O_RDONLY)
    try:
        with pytest.raises(MirrorError, match=str(os.getpid())):
            await pair.a.engine.drain()
    finally:
        os.close(held)
    assert pair.a.status.mode == "primary"
    await asyncio.to_thread(write, pair.a.root / "after", "x")
    await pair.a.engine.drain()
    assert not differences(tree(pair.a.root), tree(pair.b.root))


async def test_drain_without_the_peer_stays_primary(pair: Pair) -> None:
    await pair.make_pair()
    await pair.relay.cut()
    await pair.a.until(lambda status: status.link == "lost")
    with pytest.raises(MirrorError, match="cannot confirm"):
        await pair.a.engine.drain()
    assert pair.a.status.mode == "primary"
    assert mounts.mounted(str(pair.a.root))


async def test_require_peer_fails_without_link_and_stays_solo(pair: Pair) -> None:
    await pair.a.engine.become_primary(epoch=1, paired=False)
    with pytest.raises(MirrorError, match="must be live"):
        await pair.a.engine.require_peer(epoch=1)
    assert pair.a.status.acknowledging == "solo"
    await asyncio.to_thread(write, pair.a.root / "x", "x")


async def test_replica_in_the_middle_of_a_resync_is_never_promoted(pair: Pair) -> None:
    blob = os.urandom(1 << 20)
    for index in range(16):
        (pair.a.root / f"f{index}").write_bytes(blob)
    await pair.b.engine.become_replica(epoch=1)
    pair.relay.go_silent(after_bytes=8 << 20)  # of 16 MiB: the resync cannot end
    await pair.a.engine.become_primary(epoch=1, paired=False)
    await pair.b.until(lambda status: status.inconsistent)
    await pair.a.kill()
    await pair.b.engine.seal(epoch=2)
    assert pair.b.status.inconsistent
    with pytest.raises(MirrorError, match="resync"):
        await pair.b.engine.become_primary(epoch=2, paired=False)


async def test_epoch_travels_in_the_stream(pair: Pair) -> None:
    await pair.make_pair()
    await pair.a.engine.set_epoch(epoch=7)
    await pair.b.until(lambda status: status.epoch == 7)
    await asyncio.to_thread(write, pair.a.root / "x", "x")
    assert pair.a.status.acknowledging == "paired"
    with pytest.raises(MirrorError, match="lower"):
        await pair.a.engine.set_epoch(epoch=6)


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from mirror_agent.mirror.config import config_from_json
from mirror_agent.mirror.control import MirrorHandle

async def main():
    config = config_from_json(Path(sys.argv[1]).read_text())
    handle = await MirrorHandle.launch(config, on_status=lambda status: None)
    await handle.become_primary(epoch=1, paired=False)
    print("primary", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_supervisor_leaves_a_dead_mount_over_the_directory(tmp_path: Path) -> None:
    """An application that outlives it for a moment must not reach, by a path, the directory below the mount."""
    pair = Pair(tmp_path)
    root, config_file = pair.a.root, tmp_path / "config.json"
    config_file.write_text(pair.a.config.to_json())
    below = root.stat().st_dev
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, str(config_file), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert supervisor.stdout is not None
        assert await asyncio.wait_for(supervisor.stdout.readline(), DEADLINE_S) == b"primary\n"
        assert root.stat().st_dev != below
        supervisor.kill()
        await supervisor.wait()

        def dead() -> bool:
            try:
                assert root.stat().st_dev != below, "the directory itself was reached"
                os.listdir(root)
            except OSError as error:
                return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
            return False

        await eventually(dead)
        await pair.a.launch()
        await pair.a.engine.become_replica(epoch=1)
        assert root.stat().st_dev == below
    finally:
        if supervisor.returncode is None:
            supervisor.kill()
        await pair.a.close()
