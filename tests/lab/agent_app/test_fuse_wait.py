"""A process that waits for a file system that does not answer: it survives SIGKILL until the file system is aborted."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror_agent.app.outcomes import Killed, Started, StartFailed, StopFailed, Stopped, Survived
from mirror_agent.app.runner import ApplicationRunner
from mirror_agent.contract import ApplicationState
from mirror_agent.paths import Paths

from tests.agent_samples import Recorded, application, eventually

pytestmark = pytest.mark.lab

MNT_DETACH = 2
_FUSE_INIT = 26


class SilentFileSystem:
    """A FUSE mount that says hello and then takes requests without ever answering them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        if self._libc.mount(b"silent", str(directory).encode(), b"fuse", 0, options) != 0:
            os.close(self._device)
            raise OSError(ctypes.get_errno(), "mount")
        self.mounted = True
        opcode, unique = self.take()
        assert opcode == _FUSE_INIT
        body = struct.pack("=IIIIHHII", 7, 31, 65536, 0, 16, 12, 65536, 1) + bytes(36)
        os.write(self._device, struct.pack("=IiQ", 16 + len(body), 0, unique) + body)

    def take(self) -> tuple[int, int]:
        """Take the next request off the queue: from now on its caller waits uninterruptibly."""
        request = os.read(self._device, 1 << 20)
        _length, opcode, unique = struct.unpack_from("=IIQ", request)
        return opcode, unique

    def abort(self) -> None:
        """Closing the device ends every waiting call with an error."""
        if self._device >= 0:
            os.close(self._device)
            self._device = -1

    def close(self) -> None:
        self.abort()
        if self.mounted:
            self._libc.umount2(str(self.directory).encode(), MNT_DETACH)
            self.mounted = False


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[SilentFileSystem]:
    made = SilentFileSystem(tmp_path / "silent")
    yield made
    made.close()


async def test_survivors_are_named_and_die_when_the_file_system_is_aborted(
    silent: SilentFileSystem, tmp_path: Path
) -> None:
    app = application(start_prim=f"setsid /bin/cat {silent.directory}/file &\n")
    runner = ApplicationRunner(app, tmp_path / "module", "a", Recorded(), paths=Paths(tmp_path))
    try:
        assert isinstance(await runner.start(epoch=1, role="PRIM"), Started)
        silent.take()
        (waiting,) = runner.processes()
        outcome = await runner.kill_now(deadline_s=0.3)
        assert isinstance(outcome, Survived)
        assert outcome.pids == (waiting,)
        assert runner.state is ApplicationState.FAILED
        refused = await runner.start(epoch=2, role="PRIM")
        assert isinstance(refused, StartFailed)
        assert refused.survivors == (waiting,)
        assert isinstance(await runner.stop(force=True), StopFailed)
        silent.abort()
        await eventually(lambda: runner.processes() == [], "the process is let go and dies")
        assert isinstance(await runner.kill_now(), Killed)
    finally:
        silent.close()
        await runner.close()


async def test_an_abort_in_the_middle_of_a_kill_lets_it_finish(silent: SilentFileSystem, tmp_path: Path) -> None:
    app = application(start_prim=f"/bin/cat {silent.directory}/file &\n", stop_timeout_s=0.2)
    runner = ApplicationRunner(app, tmp_path / "module", "a", Recorded(), paths=Paths(tmp_path))
    try:
        assert isinstance(await runner.start(epoch=1, role="PRIM"), Started)
        silent.take()
        silent.abort()
        outcome = await runner.stop(force=False)
        assert isinstance(outcome, Stopped)
        assert runner.processes() == []
    finally:
        silent.close()
        await runner.close()
