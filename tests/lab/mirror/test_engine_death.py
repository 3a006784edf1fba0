"""The engine dies, the application notices a pause and nothing else: whatever it was doing, nothing acknowledged is
lost, nothing is done twice, and what was open stays open. Where that cannot be, it is told at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import platform
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.mirror import mounts
from mirror_agent.mirror.control import MirrorError, MirrorLimits
from mirror_agent.mirror.estate import drain, is_empty

from tests.lab.mirror.pair import FRONT, Node, Pair, differences, eventually, running_pair, tree
from tests.lab.mirror.posix_names import EXCHANGE, renameat2
from tests.lab.mirror.test_roles import Writer, lines

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(FRONT == "library", reason="a mount through the FUSE library ends with its engine"),
]

KERNEL = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


@pytest_asyncio.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Pair]:
    """A pair that takes a silent link for a slow one."""
    async with running_pair(tmp_path, limits=MirrorLimits(peer_silence_s=60.0)) as running:
        yield running


async def replaced(node: Node, times: int = 1) -> None:
    await eventually(lambda: node.engine.replacements == times or node.status.mode == "failed")
    assert node.status.mode == "primary", node.status.error


async def go_on_alone(node: Node, epoch: int) -> None:
    """As the automaton does once the record says that this node is alone."""
    await node.until(lambda status: status.link == "lost" and status.acknowledging == "parked")
    await node.engine.release(epoch=epoch)


async def begin(pair: Pair, *, alone: bool = False) -> None:
    """A primary, with a replica unless `alone`. One file is closed at once: the kernel then knows that this file system
    wants to hear of no close. Here the application and the supervisor are one process, and starting an engine closes
    the application's files in the child: before that, it would wait for the engine that it is about to start."""
    if alone:
        await pair.a.engine.become_primary(epoch=1, paired=False)
    else:
        await pair.make_pair()
    for root in pair.a.roots:
        await asyncio.to_thread((root / "closed").touch)
    if KERNEL < (6, 9):
        assert pair.a.engine._estate is not None
        assert is_empty(pair.a.engine._estate[1])
        pytest.skip("this kernel cannot send again what was not answered")


async def become_identical(pair: Pair, epoch: int) -> None:
    await pair.a.until(lambda status: status.link == "live")
    await pair.a.engine.require_peer(epoch=epoch)
    await pair.a.engine.drain()
    assert not differences(tree(pair.a.root), tree(pair.b.root))


# -- what the application was doing ------------------------------------------------------------------------------------


async def test_idle_and_alone(pair: Pair) -> None:
    await begin(pair, alone=True)
    path = pair.a.root / "x"
    await asyncio.to_thread(path.write_text, "before")
    held = await asyncio.to_thread(os.open, path, os.O_RDWR)
    try:
        await pair.a.kill_engine()
        assert (await asyncio.to_thread(os.pread, held, 100, 0)) == b"before"
        await asyncio.to_thread(os.pwrite, held, b"after!", 0)
        assert (await asyncio.to_thread(path.read_text)) == "after!"
        await replaced(pair.a)
        assert pair.a.status.acknowledging == "solo"
    finally:
        os.close(held)


@pytest.mark.parametrize("mode", ["strict", "ordered"])
async def test_a_writer_only_sees_a_pause(tmp_path: Path, mode: str) -> None:
    async with running_pair(tmp_path, mode=mode) as pair:
        await begin(pair)
        writer = Writer(pair.a.root / "log")
        writer.start()
        await writer.until(100)
        await pair.a.kill_engine()
        await replaced(pair.a)
        count = writer.acknowledged
        await go_on_alone(pair.a, epoch=2)
        await writer.until(count + 100)
        await pair.a.until(lambda status: status.link == "live")
        await writer.stop()
        assert lines(pair.a.root / "log") == list(range(1, writer.acknowledged + 1))
        await become_identical(pair, epoch=3)


async def test_an_engine_that_hangs_is_killed_and_replaced(pair: Pair) -> None:
    await begin(pair)
    writer = Writer(pair.a.root / "log")
    writer.start()
    await writer.until(100)
    process = pair.a.engine._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    await replaced(pair.a)
    await go_on_alone(pair.a, epoch=2)
    await writer.until(writer.acknowledged + 100)
    await writer.stop()
    assert lines(pair.a.root / "log") == list(range(1, writer.acknowledged + 1))


async def test_a_replica_that_hangs_is_killed_and_says_so(pair: Pair) -> None:
    await pair.make_pair()
    process = pair.b.engine._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    await pair.b.until(lambda status: status.mode == "failed")
    assert "told nothing for 5 s" in str(pair.b.status.error)


class Step:
    """One call of an application that is under way when the engine dies, on a directory of its own."""

    def __init__(self, prepare: Callable[[Path], object], call: Callable[[Path], object], effect: str) -> None:
        self.prepare = prepare
        self.call = call
        # A name below the directory that is there (or, with "!", not there) once the call was carried out.
        self.effect = effect


def touch(*names: str) -> Callable[[Path], None]:
    def prepare(home: Path) -> None:
        for name in names:
            (home / name).write_text(name)

    return prepare


def nothing(home: Path) -> None:
    return


def with_attribute(home: Path) -> None:
    touch("f")(home)
    os.setxattr(home / "f", "user.k", b"v")


def append(home: Path) -> None:
    with open(home / "f", "ab", buffering=0) as stream:
        stream.write(b"+once")


STEPS = {
    "create": Step(nothing, lambda d: (d / "f").touch(exist_ok=False), "f"),
    "mkdir": Step(nothing, lambda d: (d / "f").mkdir(0o750), "f"),
    "symlink": Step(nothing, lambda d: (d / "f").symlink_to("nowhere"), "f"),
    "mkfifo": Step(nothing, lambda d: os.mkfifo(d / "f", 0o640), "f"),
    "link": Step(touch("f"), lambda d: os.link(d / "f", d / "g"), "g"),
    "unlink": Step(touch("f"), lambda d: os.unlink(d / "f"), "!f"),
    "rmdir": Step(lambda d: (d / "f").mkdir(), lambda d: os.rmdir(d / "f"), "!f"),
    "rename": Step(touch("f"), lambda d: os.rename(d / "f", d / "g"), "g"),
    "replace": Step(touch("f", "g"), lambda d: os.rename(d / "f", d / "g"), "!f"),
    "exchange": Step(touch("f", "g"), lambda d: renameat2(d / "f", d / "g", EXCHANGE), ""),
    "append": Step(touch("f"), append, ""),
    "truncate": Step(touch("f"), lambda d: os.truncate(d / "f", 0), ""),
    "chmod": Step(touch("f"), lambda d: os.chmod(d / "f", 0o600), ""),
    "setxattr": Step(touch("f"), lambda d: os.setxattr(d / "f", "user.k", b"v", os.XATTR_CREATE), ""),
    "removexattr": Step(with_attribute, lambda d: os.removexattr(d / "f", "user.k"), ""),
}


def outcome(home: Path) -> dict[str, tuple[str, object, object]]:
    """What a step left in its directory."""
    found: dict[str, tuple[str, object, object]] = {}
    for name in sorted(os.listdir(home)):
        path = home / name
        st = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        attributes = [] if path.is_symlink() else os.listxattr(path)
        found[name] = (f"{st.st_mode:o} {st.st_nlink}", content, attributes)
    return found


async def test_each_call_that_was_carried_out_but_not_answered(patient: Pair, tmp_path: Path) -> None:
    """The replica is silent, so the calls are made here and wait; then the engine dies. Sent again, each must succeed
    as if it had been made once, also when a signal reaches its caller meanwhile."""
    pair = patient
    crowd = concurrent.futures.ThreadPoolExecutor(len(STEPS))
    handled = signal.signal(signal.SIGUSR1, lambda *_: None)
    below = os.open(pair.a.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        await begin(pair)
        plain = tmp_path / "plain"
        for name, step in STEPS.items():
            for home in (plain / name, pair.a.root / name):
                await asyncio.to_thread(home.mkdir, parents=True)
                await asyncio.to_thread(step.prepare, home)
            step.call(plain / name)
        pair.relay.go_silent()
        loop = asyncio.get_running_loop()
        calls = {name: loop.run_in_executor(crowd, step.call, pair.a.root / name) for name, step in STEPS.items()}
        await eventually(lambda: all(carried_out(below, name, step.effect) for name, step in STEPS.items()))
        await asyncio.sleep(0.1)  # those that leave no new name are at most not begun, which is a case as well
        assert not any(call.done() for call in calls.values())
        await pair.a.kill_engine()
        await replaced(pair.a)
        await asyncio.to_thread(interrupt, crowd, pair.a.root)
        early = {name: call.exception() or call.result() for name, call in calls.items() if call.done()}
        assert not early, f"answered although the record lists the peer: {early}"
        await pair.relay.cut()
        pair.relay.go_on()
        await go_on_alone(pair.a, epoch=2)
        for name, call in calls.items():
            async with asyncio.timeout(30):
                await call
            assert outcome(pair.a.root / name) == outcome(plain / name), name
        await pair.relay.start()
        await become_identical(pair, epoch=3)
    finally:
        os.close(below)
        await pair.a.close()  # whatever still waits fails now
        crowd.shutdown()
        signal.signal(signal.SIGUSR1, handled)


def interrupt(crowd: concurrent.futures.ThreadPoolExecutor, root: Path) -> None:
    """Signals each thread, and lets the engine read what the kernel tells it of that (before any other request)."""
    for _ in range(20):
        for thread in crowd._threads:
            assert thread.ident is not None
            signal.pthread_kill(thread.ident, signal.SIGUSR1)
        os.statvfs(root)


def carried_out(below: int, name: str, effect: str) -> bool:
    """Looks below the mount, where the directory is not locked by the call."""
    if not effect:
        return True
    try:
        os.stat(f"{name}/{effect.removeprefix('!')}", dir_fd=below, follow_symlinks=False)
    except FileNotFoundError:
        return effect.startswith("!")
    return not effect.startswith("!")


class Model(threading.Thread):
    """An application that knows what each of its calls must answer, in a directory of its own."""

    def __init__(self, home: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.home = home
        self._random = random.Random(seed)
        self.files: dict[str, bytes] = {}
        self.calls = 0
        self.failure: BaseException | None = None
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            self.home.mkdir()
            while not self.enough.is_set():
                self.step()
                self.calls += 1
            assert self.found() == self.files
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.failure = error

    def found(self) -> dict[str, bytes]:
        return {entry.name: Path(entry.path).read_bytes() for entry in os.scandir(self.home)}

    def step(self) -> None:
        name = f"n{self._random.randrange(12)}"
        other = f"n{self._random.randrange(12)}"
        here, there = self.home / name, self.home / other
        if name not in self.files:
            fd = os.open(here, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.close(fd)
            self.files[name] = b""
            return
        match self._random.randrange(6):
            case 0:
                os.unlink(here)
                del self.files[name]
            case 1:
                os.rename(here, there)
                self.files[other] = self.files.pop(name)
            case 2 if other in self.files:
                renameat2(here, there, EXCHANGE)
                self.files[name], self.files[other] = self.files[other], self.files[name]
            case 3 if other not in self.files:
                os.link(here, there)
                os.unlink(here)
                self.files[other] = self.files.pop(name)
            case _:
                data = self._random.randbytes(self._random.randrange(1, 9000))
                with open(here, "ab", buffering=0) as stream:
                    assert stream.write(data) == len(data)
                self.files[name] += data


def all_went_on(models: list[Model], beyond: list[int]) -> bool:
    return all(model.calls > count or model.failure for model, count in zip(models, beyond, strict=True))


async def test_any_call_at_any_moment(pair: Pair) -> None:
    """Kills at random moments under four applications that check each answer."""
    await pair.b.engine.become_replica(epoch=1)
    await begin(pair, alone=True)
    models = [Model(pair.a.root / f"m{seed}", seed) for seed in range(4)]
    for model in models:
        model.start()
    for death in range(1, 7):
        pair.a.engine._deaths.clear()
        await eventually(partial(all_went_on, models, [model.calls + 30 for model in models]))
        await pair.a.kill_engine()
        await replaced(pair.a, death)
    for model in models:
        model.enough.set()
        await asyncio.to_thread(model.join, 30)
        assert model.failure is None, repr(model.failure)
    await become_identical(pair, epoch=2)


async def test_what_is_open_but_unlinked_stays(pair: Pair) -> None:
    await begin(pair, alone=True)
    root = pair.a.root

    def prepare() -> list[int]:
        for name in ("unlinked", "replaced", "by", "linked"):
            (root / name).write_text(name)
        os.link(root / "linked", root / "other")
        (root / "directory").mkdir()
        held = [os.open(root / name, os.O_RDWR) for name in ("unlinked", "replaced", "linked")]
        held.append(os.open(root / "directory", os.O_RDONLY))
        os.unlink(root / "unlinked")
        os.rename(root / "by", root / "replaced")
        os.unlink(root / "linked")
        os.rmdir(root / "directory")
        for number in range(600):  # more than are weeded out at once
            (root / "passing").write_text(str(number))
            os.unlink(root / "passing")
        return held

    held = await asyncio.to_thread(prepare)
    try:
        for death in (1, 2):
            await pair.a.kill_engine()
            await replaced(pair.a, death)
            for fd, content in zip(held[:3], (b"unlinked", b"replaced", b"linked"), strict=True):
                assert (await asyncio.to_thread(os.pread, fd, 100, 0))[: len(content)] == content
                await asyncio.to_thread(os.pwrite, fd, b"more", len(content))
                assert (await asyncio.to_thread(os.fstat, fd)).st_size == len(content) + 4
            assert (await asyncio.to_thread(os.listdir, held[3])) == []
            assert [(await asyncio.to_thread(os.fstat, fd)).st_nlink for fd in held] == [0, 0, 1, 0]
        assert sorted(await asyncio.to_thread(os.listdir, root)) == ["closed", "other", "replaced"]
    finally:
        for fd in held:
            os.close(fd)
    await pair.a.engine.drain()


async def test_calls_that_were_parked_before_they_began(pair: Pair) -> None:
    await begin(pair)
    await pair.relay.cut()
    await pair.a.until(lambda status: status.acknowledging == "parked")
    waiting = asyncio.create_task(asyncio.to_thread((pair.a.root / "late").mkdir))
    await asyncio.sleep(0.1)
    await pair.a.kill_engine()
    await replaced(pair.a)
    assert not waiting.done()
    await go_on_alone(pair.a, epoch=2)
    await waiting
    assert await asyncio.to_thread((pair.a.root / "late").is_dir)


async def test_a_pair_in_the_making_waits_for_the_word(pair: Pair) -> None:
    """The engine dies while it makes the peer a member: whether the record lists it is the supervisor's to know."""
    await pair.b.engine.become_replica(epoch=1)
    await begin(pair, alone=True)
    await pair.a.until(lambda status: status.link == "live")
    pair.relay.go_silent()
    requiring = asyncio.create_task(pair.a.engine.require_peer(epoch=1))
    await pair.a.until(lambda status: status.acknowledging == "paired")
    await pair.a.kill_engine()
    with pytest.raises(MirrorError, match="gone"):
        await requiring
    await replaced(pair.a)
    await pair.relay.cut()
    pair.relay.go_on()
    await pair.relay.start()
    await go_on_alone(pair.a, epoch=1)
    await become_identical(pair, epoch=1)


async def test_several_paths_also_after_an_end_that_was_called_off(tmp_path: Path) -> None:
    async with running_pair(tmp_path, roots=2) as pair:
        await begin(pair)
        for number, root in enumerate(pair.a.roots):
            await asyncio.to_thread((root / "f").write_text, f"root {number}")
        held = os.open(pair.a.roots[1] / "f", os.O_RDONLY)
        try:
            with pytest.raises(MirrorError, match="in use"):
                await pair.a.engine.drain()
            await pair.a.kill_engine()
            await replaced(pair.a)
            assert (await asyncio.to_thread(os.pread, held, 100, 0)) == b"root 1"
            assert (await asyncio.to_thread((pair.a.roots[0] / "f").read_text)) == "root 0"
        finally:
            os.close(held)
        await go_on_alone(pair.a, epoch=2)
        await asyncio.to_thread((pair.a.roots[0] / "f").write_text, "again")
        await become_identical(pair, epoch=3)


# -- where it cannot be ------------------------------------------------------------------------------------------------


async def test_without_anything_left_the_calls_fail_at_once(pair: Pair) -> None:
    """As on a kernel before 6.9."""
    await pair.make_pair()
    assert pair.a.engine._estate is not None
    drain(pair.a.engine._estate[1])
    await pair.a.kill_engine()
    await pair.a.until(lambda status: status.mode == "failed")
    with pytest.raises(OSError) as raised:
        await asyncio.to_thread(os.listdir, pair.a.root)
    assert raised.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    await pair.a.close()
    assert not mounts.mounted(str(pair.a.root))


async def test_an_engine_that_keeps_dying_is_given_up(pair: Pair) -> None:
    await begin(pair, alone=True)
    await pair.a.kill_engine()
    await replaced(pair.a)
    # As if it had died twice more meanwhile; how long replacing takes here must not matter.
    pair.a.engine._deaths.extend([time.monotonic()] * 3)
    await pair.a.kill_engine()
    await pair.a.until(lambda status: status.mode == "failed")
    with pytest.raises(OSError):
        await asyncio.to_thread((pair.a.root / "x").touch)


async def test_abort_in_the_middle_of_a_replacement(pair: Pair) -> None:
    await begin(pair)
    waiting = asyncio.create_task(asyncio.to_thread((pair.a.root / "x").touch))
    with contextlib.suppress(OSError):
        await waiting
    await pair.a.kill_engine()
    await eventually(lambda: "being replaced" in str(pair.a.status.error) or pair.a.engine.replacements == 1)
    await pair.a.engine.abort()
    with pytest.raises(OSError):
        await asyncio.to_thread((pair.a.root / "y").touch)
    assert pair.a.status.mode in ("failed", "stopped")


async def test_a_replica_that_dies_is_only_reported(pair: Pair) -> None:
    await pair.make_pair()
    await pair.b.kill_engine()
    await pair.b.until(lambda status: status.mode == "failed")
    await pair.a.until(lambda status: status.acknowledging == "parked" and status.link == "lost")
    await pair.a.engine.release(epoch=2)
    await pair.b.close()
    await pair.b.launch()
    await pair.b.engine.become_replica(epoch=2)
    await become_identical(pair, epoch=3)
