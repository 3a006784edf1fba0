"""What developers do with files, on the mount: git, tar, a compiler with thousands of small outputs, and rm -rf.

The repository is made by the test from its seed. The same commands run on an ordinary directory; their results are
compared file by file (without times), and both nodes' copies with each other, times included.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.mirror.pair import differences, running_pair, tree
from tests.lab.torture.judge import Difference

_COMMAND_S: Final = 300.0
_DIRECTORIES: Final = 40
_MAKEFILE: Final = """\
SOURCES := $(wildcard src/*/*.c)
OBJECTS := $(SOURCES:.c=.o)
all: program
program: $(OBJECTS) ; @gcc -o $@ main.c $(OBJECTS)
%.o: %.c ; @gcc -O0 -MMD -c -o $@ $<
clean: ; @rm -f $(OBJECTS) $(OBJECTS:.o=.d) program
"""


@dataclass
class Outcome:
    """What a clean run left behind."""

    files: int = 0
    entries: int = 0
    seconds: float = 0.0


class CommandFailed(AssertionError):
    """A command of the load failed, on the mount or on the ordinary directory."""


def _run(directory: Path, *argv: str) -> None:
    environment = {
        **os.environ, "HOME": str(directory), "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
        "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    done = subprocess.run(
        argv, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=_COMMAND_S
    )
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)} in {directory}: {done.returncode}\n{done.stderr[-1500:]}")


def make_repository(directory: Path, seed: int, files: int) -> None:
    """Two branches of a project with so many files, a tenth of which are C sources that compile."""
    chosen = random.Random(seed)
    directory.mkdir()
    _run(directory, "git", "init", "-q", "-b", "main", ".")
    sources = max(10, files // 10)
    for number in range(sources):
        place = directory / "src" / f"part{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        text = f"int f{number}(int x) {{ return x * {number}; }}\n"
        (place / f"f{number}.c").write_text(text, encoding="ascii")
    (directory / "main.c").write_text("int f0(int); int main(void) { return f0(1); }\n", encoding="ascii")
    (directory / "Makefile").write_text(_MAKEFILE, encoding="ascii")
    for number in range(files - sources):
        place = directory / "data" / f"d{number % _DIRECTORIES}" / f"e{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"file {number}"
        path.write_bytes(chosen.randbytes(chosen.choice((10, 300, 2000, 9000))))
        if number % 11 == 0:
            path.chmod(0o755)
        if number % 50 == 0:
            os.symlink(path.name, place / f"link {number}")
    _commit(directory, "first")
    _run(directory, "git", "checkout", "-q", "-b", "other")
    for path in sorted((directory / "data").rglob("file *"))[::3]:
        match chosen.randrange(3):
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(chosen.randbytes(500))
            case _:
                path.rename(path.with_name(path.name + " moved"))
    _commit(directory, "second")
    _run(directory, "git", "checkout", "-q", "main")


def _commit(directory: Path, message: str) -> None:
    _run(directory, "git", "add", "-A")
    _run(directory, "git", "commit", "-q", "-m", message)


def work(origin: Path, directory: Path) -> None:
    """The load itself, below an existing directory."""
    clone = directory / "clone"
    _run(directory, "git", "clone", "-q", "--no-hardlinks", str(origin), "clone")
    _run(clone, "git", "checkout", "-q", "-b", "other", "origin/other")
    _run(clone, "git", "checkout", "-q", "main")
    _run(clone, "make", "-s", "-j", "2")
    _run(clone, "./program")
    _run(clone, "git", "gc", "-q", "--prune=now")
    _run(clone, "git", "fsck", "--strict")
    _run(directory, "tar", "cf", "all.tar", "clone")
    (directory / "unpacked").mkdir()
    _run(directory, "tar", "xf", "all.tar", "-C", "unpacked")
    _run(directory / "unpacked" / "clone", "git", "status", "--porcelain")
    _run(clone, "make", "-s", "clean")
    _run(clone, "git", "checkout", "-q", "other")
    _run(clone, "git", "stash", "list")
    _run(directory, "cp", "-a", "clone/data", "copied")
    _run(directory, "rm", "-rf", "unpacked/clone/data", "copied/d1", "clone/src")
    _run(directory, "mv", "unpacked/clone/src", "src-moved")


async def run(directory: Path, *, mode: str, seed: int, files: int) -> Outcome:
    """Raises `Difference` or `CommandFailed`."""
    began_s = time.monotonic()
    origin, ordinary = directory / "origin", directory / "ordinary"
    await asyncio.to_thread(make_repository, origin, seed, files)
    ordinary.mkdir()
    await asyncio.to_thread(work, origin, ordinary)
    async with running_pair(directory, mode=mode, relayed=False) as pair:
        await pair.make_pair()
        home = pair.a.root / "home"
        await asyncio.to_thread(home.mkdir)
        await asyncio.to_thread(work, origin, home)
        await pair.a.engine.drain()
        here = await asyncio.to_thread(tree, pair.a.root)
        _demand_same(here, await asyncio.to_thread(tree, pair.b.root), "the nodes differ")
    _demand_same(_contents(ordinary), _contents(pair.a.root / "home"), "the mount and an ordinary directory differ")
    return Outcome(files, len(here), time.monotonic() - began_s)


def _demand_same(left: dict[str, object], right: dict[str, object], what: str) -> None:
    wrong = differences(left, right)
    if wrong:
        raise Difference(f"{what} in {len(wrong)} entries:\n  " + "\n  ".join(wrong[:12]))


def _contents(root: Path) -> dict[str, object]:
    """What does not depend on when and where it was made: not git's indexes and logs, archives of times, or objects
    that a compiler stamps with paths."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        relative = str(path.relative_to(root))
        if ".git/" in relative + "/" or path.suffix in (".tar", ".d"):
            continue
        mode = path.lstat().st_mode
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[relative] = (f"{mode:o}", content)
    return found
