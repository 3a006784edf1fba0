"""`python -m tests.fuzz parsers|replica [--seconds 60]`: fuzzing, guided by coverage, of what reads the peer's bytes.

`make fuzz` runs both. Needs atheris (requirements-fuzz.txt; x86-64 Linux). Inputs that reached something new are kept
in build/fuzz/<target> for the next run; one that breaks the contract is written there as crash-…, and the process ends
with its traceback.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["mirror_agent.mirror"]):
    from mirror_agent.mirror import syscalls
    from mirror_agent.mirror.handshake import HandshakeError
    from mirror_agent.mirror.wire import WireError

    from tests.fuzz import parsers, replica

_FRAMES_MAX: Final = 40
_DISK: Final = "/dev/shm"
_MS_REC_PRIVATE: Final = 0x4000 | 1 << 18


class Bytes:
    """The fuzzer's input as dice."""

    def __init__(self, data: bytes) -> None:
        self._provider = atheris.FuzzedDataProvider(data)

    @property
    def left(self) -> int:
        return int(self._provider.remaining_bytes())

    def pick(self, count: int) -> int:
        return int(self._provider.ConsumeIntInRange(0, count - 1))

    def some_bytes(self, most: int) -> bytes:
        return bytes(self._provider.ConsumeBytes(self.pick(most + 1)))


def read_anything(data: bytes) -> None:
    """The first byte chooses who reads the rest."""
    if not data:
        return
    parser = parsers.PARSERS[data[0] % len(parsers.PARSERS)]
    try:
        parser(memoryview(data)[1:])
    except (WireError, HandshakeError):
        return


def apply_anything(data: bytes) -> None:
    dice = Bytes(data)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_DISK) as home:
        here = replica.Replica(Path(home))
        try:
            composer = replica.Composer(dice)
            for _ in range(_FRAMES_MAX):
                if not dice.left or not here.apply(composer.frame()):
                    break
        finally:
            here.close()
        left = list(Path(home).iterdir())
        assert not left, f"something was changed outside of the replicated directory: {left}"


def _small_disk() -> None:
    """A file system of 16 MiB that only this process sees and that ends with it: frames ask for terabytes."""
    os.unshare(os.CLONE_NEWNS)
    syscalls.mount("none", "/", "none", _MS_REC_PRIVATE, "")
    syscalls.mount("tmpfs", _DISK, "tmpfs", 0, "size=16m")


TARGETS: Final = {"parsers": read_anything, "replica": apply_anything}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    _small_disk()
    logging.disable(logging.CRITICAL)
    corpus = Path("build/fuzz") / options.target
    corpus.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={options.seconds}",
        "-max_len=4096",
        f"-artifact_prefix={corpus}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
