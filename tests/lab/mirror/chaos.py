"""A seeded application that does anything to a directory: names and data, in several threads, for as long as asked."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

from tests.lab.mirror.posix_names import EXCHANGE, renameat2

NAMES = [f"n{number}" for number in range(12)]
SIZES = (1, 100, 4096, 5000, 70_000, 200_000)


class Chaos(threading.Thread):
    """Random operations below `root`. Errors such as ENOENT belong to it; `operations` counts those that succeeded."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._root = os.fsencode(root)
        self._random = random.Random(seed)
        self._open: list[int] = []
        self.operations = 0
        self.enough = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        steps: list[Callable[[], None]] = [
            self.create, self.create, self.write, self.write, self.write, self.truncate, self.rename, self.rename,
            self.exchange, self.link, self.symlink, self.mkdir, self.mkdir, self.unlink, self.rmdir, self.chmod,
            self.xattr, self.keep_open, self.write_open, self.remove_tree,
        ]  # fmt: skip
        try:
            while not self.enough.is_set():
                with contextlib.suppress(OSError):
                    self._random.choice(steps)()
                    self.operations += 1
        finally:
            for fd in self._open:
                os.close(fd)

    def path(self) -> bytes:
        depth = self._random.choice((1, 1, 2, 2, 3))
        return os.path.join(self._root, *(self._random.choice(NAMES).encode() for _ in range(depth)))

    def data(self) -> bytes:
        return self._random.randbytes(self._random.choice(SIZES))

    def create(self) -> None:
        with open(self.path(), "xb") as stream:
            stream.write(self.data())

    def write(self) -> None:
        fd = os.open(self.path(), os.O_WRONLY)
        try:
            os.pwrite(fd, self.data(), self._random.randrange(300_000))
            if self._random.random() < 0.1:
                os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self) -> None:
        os.truncate(self.path(), self._random.randrange(200_000))

    def rename(self) -> None:
        os.rename(self.path(), self.path())

    def exchange(self) -> None:
        renameat2(Path(os.fsdecode(self.path())), Path(os.fsdecode(self.path())), EXCHANGE)

    def link(self) -> None:
        os.link(self.path(), self.path(), follow_symlinks=False)

    def symlink(self) -> None:
        os.symlink(self._random.choice(NAMES), self.path())

    def mkdir(self) -> None:
        os.mkdir(self.path())

    def unlink(self) -> None:
        os.unlink(self.path())

    def rmdir(self) -> None:
        os.rmdir(self.path())

    def remove_tree(self) -> None:
        top = self.path()
        for name in os.listdir(top):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(top, name))
        os.rmdir(top)

    def chmod(self) -> None:
        os.chmod(self.path(), self._random.choice((0o600, 0o644, 0o755)), follow_symlinks=True)

    def xattr(self) -> None:
        os.setxattr(self.path(), "user.chaos", self._random.randbytes(20))

    def keep_open(self) -> None:
        if len(self._open) > 8:
            os.close(self._open.pop(0))
        self._open.append(os.open(self.path(), os.O_RDWR))

    def write_open(self) -> None:
        if self._open:
            os.pwrite(self._random.choice(self._open), self.data(), self._random.randrange(100_000))
