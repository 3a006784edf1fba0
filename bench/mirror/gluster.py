"""GlusterFS replica 2 as Debian ships it, default options: two glusterd, each in a node's network namespace.

Limits: without TLS and without an arbiter, both as it comes; its write-behind acknowledges buffered writes before they
are replicated, so those rows compare with `ordered`, not with `strict`.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Final

from bench.mirror.candidates import GLUSTERFS
from bench.mirror.commands import BenchError, run
from bench.mirror.ground import Ground
from bench.mirror.network import ADDRESS, command_in
from bench.mirror.usage import Process, find

_VOLUME: Final = "bench"
_UP_S: Final = 40.0
_LOOK_S: Final = 0.2
# glusterd of node b needs directories of its own for state, sockets and logs; node a has the benchmark's.
_PRIVATE: Final = (
    "for place in /run /var/lib/glusterd /var/log/glusterfs; do mount -t tmpfs bench $place || exit 1; done; "
    "exec glusterd --no-daemon"
)


class Gluster:
    """Started by `start`, ended with the enclosure."""

    name = GLUSTERFS

    def __init__(self, ground: Ground, namespaces: dict[str, int]) -> None:
        self.directory = ground.base / GLUSTERFS
        self.copy: Path | None = ground.disk["b"] / "brick"
        self._bricks = {node: disk / "brick" for node, disk in ground.disk.items()}
        self._namespaces = namespaces

    def start(self) -> None:
        for brick in (*self._bricks.values(), self.directory):
            brick.mkdir()
        subprocess.Popen(command_in("a", "glusterd", "--no-daemon"))
        subprocess.Popen(command_in("b", "unshare", "--mount", "sh", "-c", _PRIVATE))
        self._until("glusterd answers", lambda: bool(self._gluster("pool", "list")))
        self._until("the peers know each other", self._probe)
        places = [f"{ADDRESS[node]}:{brick}" for node, brick in self._bricks.items()]
        self._gluster("volume", "create", _VOLUME, "replica", "2", *places, "force")
        self._gluster("volume", "start", _VOLUME)
        self._until("both bricks are online", lambda: self._online() == len(self._bricks))
        run(command_in("a", "mount", "-t", "glusterfs", f"{ADDRESS['a']}:/{_VOLUME}", str(self.directory)))
        self._until("a file is on both bricks", self._replicates)

    def _gluster(self, *arguments: str) -> str:
        return run(command_in("a", "gluster", "--mode=script", *arguments))

    def _until(self, what: str, fact: object) -> None:
        assert callable(fact)
        deadline = time.monotonic() + _UP_S
        said = "no answer"
        while True:
            try:
                if fact():
                    return
            except BenchError as error:
                said = str(error)
            if time.monotonic() > deadline:
                raise BenchError(f"GlusterFS: not true after {_UP_S:.0f} s that {what}: {said}")
            time.sleep(_LOOK_S)

    def _probe(self) -> bool:
        self._gluster("peer", "probe", ADDRESS["b"])
        return "Connected" in self._gluster("peer", "status")

    def _online(self) -> int:
        lines = self._gluster("volume", "status", _VOLUME, "detail").splitlines()
        return sum(line.split(":")[-1].strip() == "Y" for line in lines if line.startswith("Online"))

    def _replicates(self) -> bool:
        probe = self.directory / ".probe"
        probe.write_bytes(b"x")
        there = all((brick / probe.name).exists() for brick in self._bricks.values())
        probe.unlink()
        return there

    def check(self) -> None:
        if self._online() != len(self._bricks):
            raise BenchError("GlusterFS: a brick is offline, its figures would be those of one copy")

    def processes(self) -> list[Process]:
        return find(lambda argv: Path(argv[0]).name.startswith("gluster"), self._namespaces)

    def stop(self) -> None:
        return  # with the enclosure
