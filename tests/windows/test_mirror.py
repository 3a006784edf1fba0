"""The mirror engine on Windows: two engines as processes, the copy on NT's calls, a stand-in for WinFsp (`winfsp/`)."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mirror_agent.mirror import control
from mirror_agent.mirror.config import COPY_SUFFIX
from mirror_agent.mirror.control import MirrorLimits, MirrorStatus

from tests.lab.mirror.pair import Node, Pair, eventually, run_verify
from tests.windows.mounted import Mount, content

assert sys.platform == "win32"

# Wine answers slower than anything else here.
PATIENCE_S = 120.0
# EOPNOTSUPP of Microsoft's C library, which is what WinFsp takes.
_NOT_SUPPORTED = 130
# The relay between the engines lives in this process's loop: calls that may wait for the replica must not stop it.
run = asyncio.to_thread
STAND_IN = Path(__file__).with_name("winfsp")


def copy_of(node: Node) -> Path:
    return Path(str(node.root) + COPY_SUFFIX)


def same(pair: Pair) -> bool:
    return content(copy_of(pair.a)) == content(copy_of(pair.b))


@pytest.fixture(autouse=True)
def _winfsp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_START_S", PATIENCE_S)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(STAND_IN), os.environ.get("PYTHONPATH", ""))))


@pytest_asyncio.fixture(params=["strict", "ordered"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(tmp_path, mode=request.param, limits=MirrorLimits(peer_silence_s=20.0), front="library")
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def until(node: Node, what: str, value: str) -> MirrorStatus:
    return await node.until(lambda status: getattr(status, what) == value, PATIENCE_S)


async def paired(pair: Pair) -> Mount:
    await pair.b.engine.become_replica(epoch=1)
    await pair.a.engine.become_primary(epoch=1, paired=False)
    await until(pair.a, "link", "live")
    await pair.a.engine.require_peer(epoch=1)
    return await run(Mount, str(pair.a.root))


async def kill(node: Node) -> None:
    await node.kill_engine()
    await until(node, "mode", "failed")
    await node.engine.stop()


async def test_what_returned_is_on_both_nodes(pair: Pair) -> None:
    mount = await paired(pair)
    await run(do_all_kinds, mount)
    assert same(pair)
    assert content(copy_of(pair.b)) == {
        "d": None,
        "d\\inner": None,
        "d\\inner\\moved": b"0123xx",
        "twin": b"hello world",
        "Größe": b"\0" * 100_000 + b"end",
        "f": b"hello world",
    }
    record = await run_verify(pair.a)
    assert (record.outcome, record.differences) == ("identical", 0)
    mount.close()
    await pair.a.engine.drain()
    assert pair.a.status.mode == "stopped"


def do_all_kinds(mount: Mount) -> None:
    mount.write("/f", b"hello world", flush=True)
    mount.call("mkdir", "/d", 0o755)
    mount.call("mkdir", "/d/inner", 0o755)
    mount.write("/d/x", b"0123456789")
    mount.call("truncate", "/d/x", 4)
    mount.write("/d/x", b"xx", 4)
    mount.call("rename", "/d/x", "/d/inner/moved")
    mount.call("link", "/twin", "/f")
    mount.write("/Größe", b"end", 100_000, flush=True)
    mount.write("/gone", b"1")
    handle = mount.call("open", "/gone", os.O_RDWR)
    mount.call("unlink", "/gone")
    mount.call("write", "/gone", b"still", 0, handle)
    assert mount.call("read", "/gone", 10, 0, handle) == b"still"
    mount.call("release", "/gone", handle)
    mount.call("mkdir", "/e", 0o755)
    mount.call("rmdir", "/e")
    for number, (name, *arguments) in (
        (errno.ENOENT, ("getattr", "/gone")),
        (errno.EEXIST, ("mkdir", "/d", 0o755)),
        (errno.ENOTEMPTY, ("rmdir", "/d")),
        (errno.EINVAL, ("mkdir", "/a:b", 0o755)),
        (_NOT_SUPPORTED, ("symlink", "/l", "f")),
        (_NOT_SUPPORTED, ("chmod", "/f", 0o600)),
        (errno.ENOSYS, ("chown", "/f", 1, 1)),
    ):
        with pytest.raises(OSError) as caught:
            mount.call(name, *arguments)
        assert caught.value.errno == number, (name, arguments, caught.value)
    assert mount.names() == {"f", "d", "twin", "Größe"}


async def test_names_are_found_in_any_spelling_and_kept_in_theirs(pair: Pair) -> None:
    mount = await paired(pair)
    await run(mount.write, "/Data.txt", b"1")
    assert (await run(mount.read, "/DATA.TXT")) == b"1"
    await run(mount.write, "/data.txt", b"22")
    assert (await run(mount.names)) == {"Data.txt"}
    await run(mount.call, "rename", "/DATA.txt", "/other")
    with pytest.raises(FileNotFoundError):
        await run(mount.call, "getattr", "/data.txt")
    await run(mount.write, "/new", b"3")
    await run(mount.call, "rename", "/new", "/OTHER")
    assert (await run(mount.read, "/other")) == b"3"
    await run(mount.call, "unlink", "/Other")
    assert (await run(mount.names)) == set()
    await pair.a.engine.require_peer(epoch=1)  # in `ordered` the replica may be behind
    assert same(pair)
    mount.close()


async def test_a_separation_ends_in_equal_copies(pair: Pair) -> None:
    mount = await paired(pair)
    await run(mount.call, "mkdir", "/old", 0o755)
    await run(mount.call, "mkdir", "/old/deep", 0o755)
    for number in range(8):
        await run(mount.write, f"/old/deep/{number}", bytes([number]) * 70_000)
    await run(mount.write, "/same", b"same", flush=True)
    await pair.relay.cut()
    await until(pair.a, "link", "lost")
    await pair.a.engine.release(epoch=2)
    # Alone: a directory moves with all below it, names change, content changes, and one changes places.
    await run(mount.call, "rename", "/old", "/new")
    await run(mount.write, "/new/deep/3", b"changed", 50_000)
    await run(mount.call, "unlink", "/new/deep/4")
    await run(mount.call, "rename", "/new/deep/5", "/five")
    await run(mount.call, "mkdir", "/old", 0o755)
    await run(mount.write, "/old/again", b"another directory of that name", flush=True)
    (copy_of(pair.b) / "stray").write_bytes(b"only the replica has it")
    await pair.relay.start()
    await until(pair.a, "link", "live")
    await pair.a.engine.require_peer(epoch=3)
    await run(mount.write, "/after", b"the stream goes on", flush=True)
    assert same(pair)
    record = await run_verify(pair.a)
    assert (record.outcome, record.differences) == ("identical", 0)
    assert b"only the replica has it" in content(Path(pair.b.config.quarantine_dir)).values()
    mount.close()


async def test_a_killed_replica_catches_up(pair: Pair) -> None:
    mount = await paired(pair)
    await run(mount.write, "/f", b"before", flush=True)
    await kill(pair.b)
    await until(pair.a, "acknowledging", "parked")
    waiting = asyncio.create_task(run(mount.write, "/f", b"parked"))
    await asyncio.sleep(0)
    await pair.a.engine.release(epoch=2)
    await waiting
    await run(mount.write, "/more", b"alone")
    await pair.b.launch()
    await pair.b.engine.become_replica(epoch=2)
    await until(pair.a, "link", "live")
    await pair.a.engine.require_peer(epoch=2)
    await run(mount.write, "/last", b"together", flush=True)
    assert content(copy_of(pair.b)) == {"f": b"parked", "more": b"alone", "last": b"together"}
    assert same(pair)
    mount.close()


async def test_the_replica_takes_over_from_a_killed_primary(pair: Pair) -> None:
    mount = await paired(pair)
    for number in range(20):
        await run(mount.write, f"/{number}", b"x" * number, flush=True)
    await kill(pair.a)
    assert not pair.a.root.exists(), "below a dead mount there is nothing to write to"
    with pytest.raises((ConnectionError, OSError)):
        await run(mount.write, "/late", b"lost")
    mount.close()
    await pair.b.engine.seal(epoch=2)
    await pair.b.engine.become_primary(epoch=2, paired=False)
    survivor = await run(Mount, str(pair.b.root))
    assert {name: await run(survivor.read, f"/{name}") for name in await run(survivor.names)} == {
        str(number): b"x" * number for number in range(20)
    }
    survivor.close()


async def test_an_abort_ends_every_call(pair: Pair) -> None:
    mount = await paired(pair)
    await run(mount.write, "/f", b"1", flush=True)
    await pair.relay.cut()
    await until(pair.a, "acknowledging", "parked")
    waiting = asyncio.create_task(run(mount.write, "/f", b"2"))
    await asyncio.sleep(0)
    await pair.a.engine.abort()
    with pytest.raises(OSError):
        await waiting
    await eventually(lambda: not Path(f"{pair.a.root}.port").exists(), PATIENCE_S)
    mount.close()


async def test_a_directory_with_files_of_others_is_not_mounted_over(pair: Pair) -> None:
    (pair.a.root / "foreign").write_bytes(b"not in the mirror")
    with pytest.raises(Exception, match="not in the mirror"):
        await pair.a.engine.become_primary(epoch=1, paired=False)
    assert (pair.a.root / "foreign").read_bytes() == b"not in the mirror"
