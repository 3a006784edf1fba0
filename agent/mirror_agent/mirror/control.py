"""The supervisor's side of one mirror engine: starts the process, drives it over a Unix socket, watches it die.

The engine is a process of its own so that a stalled disk or a busy data path never silences the heartbeats, and a
crash of either side is seen by the other: the engine aborts its mounts when the supervisor goes (PR_SET_PDEATHSIG and
end of the control stream), the supervisor gets a `failed` status when the engine goes.

Protocol: JSON lines. Supervisor: {"id", "call", ...arguments}. Engine: {"id", "ok": true} | {"id", "error": text} for
each call, and {"status": {...}} on every change and every 0.2 s.

An engine that dies as primary is replaced from here where the kernel allows it (`succession`): the mounts stay, the
application waits, and the status goes on as "primary" with the link lost and paired calls parked. Where that is not
possible, or does not succeed, the mounts are aborted and the status is "failed". One that hangs is killed (`liveness`).

On Windows the line is a port of the loopback (`engine_process`), and nothing replaces a dead engine: its mount is gone.

Guarantee: `abort` works without the engine: the FUSE connections are aborted and the mounts detached from here, and an
engine that does not confirm in time is killed. No method waits without a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mirror_agent.mirror import limits, mounts
from mirror_agent.mirror.config import MirrorConfig, MirrorConfigError, MirroredPath, MirrorLimits
from mirror_agent.mirror.engine_process import MOUNTS_OUTLIVE_ENGINES, make_private, open_line, spawn
from mirror_agent.mirror.estate import drain, estate_sockets, is_empty
from mirror_agent.mirror.liveness import Pulse
from mirror_agent.mirror.status import MirrorError, MirrorStatus, status_from

__all__ = [
    "MirrorConfig",
    "MirrorConfigError",
    "MirrorError",
    "MirrorHandle",
    "MirrorLimits",
    "MirrorStatus",
    "MirroredPath",
]

log: Final = logging.getLogger(__name__)

_START_S: Final = 15.0
_CALL_S: Final = 10.0
_ENGINE_ABORT_S: Final = 0.5 * limits.ABORT_S
# An engine whose control stream ended is given this long to end before it is killed.
_ENDING_S: Final = 1.0


class MirrorHandle:
    """One engine process. Create it with `launch`; every method may raise `MirrorError`."""

    def __init__(self, config: MirrorConfig, on_status: Callable[[MirrorStatus], None]) -> None:
        self.config = config
        self.status = MirrorStatus()
        self._on_status = on_status
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._pending: dict[int, asyncio.Future[None]] = {}
        self._next_id = 1
        self._estate = estate_sockets() if MOUNTS_OUTLIVE_ENGINES else None
        self._replacing: asyncio.Task[None] | None = None
        self._deaths: deque[float] = deque(maxlen=limits.REPLACEMENTS_MAX)
        self._ending = False
        # How often a successor has taken over.
        self.replacements = 0

    @classmethod
    async def launch(cls, config: MirrorConfig, *, on_status: Callable[[MirrorStatus], None]) -> MirrorHandle:
        """Starts the engine and connects to it. Mounts left by a dead engine are detached first."""
        handle = cls(config, on_status)
        try:
            await handle._start()
        except BaseException:
            await handle._kill()
            raise
        return handle

    async def become_primary(self, *, epoch: int, paired: bool) -> None:
        """Mounts the front. paired=False: acknowledges solo, resynchronises the peer when it comes. paired=True:
        hand-over, the peer is known identical: mutating calls are parked until the link is live, without resync."""
        await self._call("become_primary", epoch=epoch, paired=paired)

    async def become_replica(self, *, epoch: int) -> None:
        """Listens for a primary of this epoch or a later one; the directories are not served."""
        await self._call("become_replica", epoch=epoch)

    async def require_peer(self, *, epoch: int) -> None:
        """From the return on every acknowledged call is on the replica; all before is applied and flushed there."""
        await self._call("require_peer", epoch=epoch, within_s=self.config.limits.barrier_timeout_s)

    async def release(self, *, epoch: int) -> None:
        """Goes solo under the new epoch (the witness record says so already) and answers the parked calls."""
        await self._call("release", epoch=epoch)

    async def set_epoch(self, *, epoch: int) -> None:
        """Raises the epoch without changing the role."""
        await self._call("set_epoch", epoch=epoch)

    async def seal(self, *, epoch: int) -> None:
        """Replica: applies all received, closes the stream, refuses lower epochs, flushes; may then be promoted."""
        await self._call("seal", epoch=epoch, within_s=self.config.limits.barrier_timeout_s)

    async def drain(self) -> None:
        """Primary, application stopped: flushes both sides and unmounts; raises and stays primary if it cannot."""
        await self._call("drain", within_s=2 * self.config.limits.barrier_timeout_s)

    async def verify(self, *, repair: bool, rate_bytes_per_s: float = limits.VERIFY_RATE_BYTES_PER_S) -> None:
        """Primary, link live: begins a verify in the background; `status.verify` tells how it goes and how it ended."""
        await self._call("verify", repair=repair, rate_bytes_per_s=rate_bytes_per_s)

    async def verify_stop(self) -> None:
        """Ends the verify that is running; its record says incomplete."""
        await self._call("verify_stop", within_s=self.config.limits.barrier_timeout_s)

    async def resync(self) -> None:
        """Primary, link live: cuts the link; the replica comes back through a full resync."""
        await self._call("resync")

    async def abort(self) -> None:
        """Fails all pending and later calls of applications now; the engine is stopped or dead. The dead mounts stay,
        since applications may live: `stop` and the next role detach them."""
        if self._in_replacement:
            await self._kill(detach=False)
            return
        loop = asyncio.get_running_loop()
        # Told first, so that the engine stops answering; done here as well, because it may be unable to.
        told = loop.create_task(self._call("abort", within_s=_ENGINE_ABORT_S))
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(loop.run_in_executor(None, self._disconnect_mounts), _ENGINE_ABORT_S)
        except TimeoutError:
            log.error("abort: disconnecting %s took too long; killing the engine", [e.path for e in self.config.paths])
        try:
            await told
        except MirrorError as error:
            log.warning("abort: the engine did not confirm (%s); killing it", error)
            await self._kill(detach=False)

    async def stop(self) -> None:
        """Ends the process whatever it does and detaches the mounts: no application may live. Idempotent."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(MirrorError):  # it may be dead already, which is what we want
                await self._call("exit", within_s=2.0)
            try:
                await asyncio.wait_for(self._process.wait(), 3.0)
            except TimeoutError:
                log.warning("stop: engine %d does not end; killing it", self._process.pid)
        await self._kill()

    async def replaced(self) -> None:
        """Waits for the end of a replacement in progress, however it ends."""
        if self._replacing is not None and self._replacing is not asyncio.current_task():
            await asyncio.wait({self._replacing})

    async def wait_dead(self) -> int:
        """Waits for the end of the process and returns its exit code (negative: signal)."""
        if self._process is None:
            raise MirrorError("wait_dead: the engine was never started")
        return await self._process.wait()

    # -- process ---------------------------------------------------------------------------------------------------

    async def _leave_nothing(self) -> None:
        """Nobody will serve what is kept for a successor: its users must not wait for one. The mounts stay until they
        are detached by `stop` or the next start, so that no path leads to what is below them meanwhile."""
        if self._estate is not None and self._estate[1].fileno() >= 0:
            await asyncio.get_running_loop().run_in_executor(None, drain, self._estate[1])

    def _abort_mounts(self) -> None:
        for entry in self.config.paths:
            mounts.abort(entry.path)

    def _disconnect_mounts(self) -> None:
        for entry in self.config.paths:
            mounts.disconnect(entry.path)

    def _prepare(self) -> tuple[Path, Path]:
        self._abort_mounts()
        return self._write_files()

    def _write_files(self) -> tuple[Path, Path]:
        directory = Path(self.config.runtime_dir)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config_file = directory / "mirror.json"
        socket_file = directory / "mirror.sock"
        socket_file.unlink(missing_ok=True)
        make_private(directory)
        config_file.touch(mode=0o600)
        config_file.write_text(self.config.to_json(), encoding="utf-8")
        return config_file, socket_file

    async def _start(self) -> None:
        await self._spawn(*await asyncio.get_running_loop().run_in_executor(None, self._prepare))

    async def _spawn(self, config_file: Path, socket_file: Path) -> None:
        estate = () if self._estate is None else tuple(end.fileno() for end in self._estate)
        self._process = await spawn(config_file, socket_file, estate)
        reader, self._writer = await self._connect(str(socket_file))
        self._reading = asyncio.create_task(self._read(reader), name="mirror-status")

    async def _connect(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while True:
            try:
                return await open_line(Path(path))
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.returncode is not None:
                    raise MirrorError(
                        f"the mirror engine ended with {self._process.returncode} at its start; its log says why"
                    ) from None
                if time.monotonic() > deadline:
                    raise MirrorError(f"the mirror engine did not open {path} within {_START_S} s") from None
                await asyncio.sleep(0.02)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        reason = "the control stream ended"
        assert self._process is not None
        pulse = Pulse(self._process)
        try:
            while line := await reader.readline():
                pulse.beat()
                message = json.loads(line)
                if "status" in message:
                    if self._in_replacement and message["status"]["mode"] != "primary":
                        continue  # a successor that has not taken over yet
                    self._publish(status_from(message["status"]))
                else:
                    self._settle(message)
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = f"the control stream broke: {error}"
        reason = pulse.end() or reason
        for future in self._pending.values():
            if not future.done():
                future.set_exception(MirrorError(f"the mirror engine is gone: {reason}"))
        self._pending.clear()
        if self._can_be_replaced():
            self._replacing = asyncio.create_task(self._replace(reason), name="mirror-replace")
        else:
            self._publish(MirrorStatus(mode="failed", epoch=self.status.epoch, error=reason))
            if not self._ending:
                await self._leave_nothing()

    # -- an engine that died ---------------------------------------------------------------------------------------

    def _can_be_replaced(self) -> bool:
        """It was primary, left what a successor needs, and its mounts are still there."""
        if self._ending or self._in_replacement or self.status.mode != "primary":
            return False
        if self._estate is None or is_empty(self._estate[1]):
            return False
        now_s = time.monotonic()
        if len(self._deaths) == limits.REPLACEMENTS_MAX and now_s - self._deaths[0] < limits.REPLACEMENTS_WITHIN_S:
            log.error(
                "the mirror engine died %d times in %d s; it is not replaced again",
                len(self._deaths) + 1,
                limits.REPLACEMENTS_WITHIN_S,
            )
            return False
        self._deaths.append(now_s)
        return all(mounts.mounted(entry.path) for entry in self.config.paths)

    @property
    def _in_replacement(self) -> bool:
        return self._replacing is not None and not self._replacing.done()

    async def _replace(self, reason: str) -> None:
        """Starts a successor that takes the mounts over; the application sees a pause."""
        log.error("the mirror engine died (%s); starting another", reason)
        before = self.status
        parked = before.acknowledging in ("paired", "parked")
        self._publish(
            dataclasses.replace(
                before,
                link="lost",
                acknowledging="parked" if parked else "solo",
                error=f"the mirror engine died and is being replaced: {reason}",
            )
        )
        try:
            async with asyncio.timeout(limits.REPLACEMENT_S):
                await self._bury()
                await self._spawn(*await asyncio.get_running_loop().run_in_executor(None, self._write_files))
                await self._call("reattach")
        except (MirrorError, OSError) as error:
            log.error("replacing the mirror engine failed: %s", error)
            self._ending = True
            await self._give_up()
            failure = f"{reason}; replacing the engine failed: {error}"
            self._publish(MirrorStatus(mode="failed", epoch=before.epoch, error=failure))
        else:
            self.replacements += 1

    async def _give_up(self) -> None:
        """Ends every call that waits for a successor."""
        await self._leave_nothing()
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        try:
            await asyncio.wait_for(self._process.wait(), _ENDING_S)
        except TimeoutError:
            # Stuck in the disk, with the connections open.
            await asyncio.get_running_loop().run_in_executor(None, self._disconnect_mounts)

    async def _bury(self) -> None:
        """Returns when no thread of the process can write any more (a thread stuck in the disk still could)."""
        assert self._process is not None
        try:
            await asyncio.wait_for(self._process.wait(), _ENDING_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._close_control()

    async def _close_control(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):  # a broken control stream is closed all the same
                await self._writer.wait_closed()

    def _publish(self, status: MirrorStatus) -> None:
        self.status = status
        self._on_status(status)

    def _settle(self, message: dict[str, Any]) -> None:
        future = self._pending.pop(message["id"], None)
        if future is None or future.done():
            return  # the caller gave up waiting
        if "error" in message:
            future.set_exception(MirrorError(message["error"]))
        else:
            future.set_result(None)

    async def _call(self, name: str, *, within_s: float = _CALL_S, **arguments: Any) -> None:
        await self.replaced()
        if self._writer is None or self._reading is None or self._reading.done():
            raise MirrorError(f"{name}: the mirror engine is not running")
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        self._writer.write(json.dumps({"id": number, "call": name, **arguments}).encode() + b"\n")
        try:
            await asyncio.wait_for(future, within_s)
        except TimeoutError:
            self._pending.pop(number, None)
            raise MirrorError(f"{name}: the mirror engine did not answer within {within_s} s") from None

    async def _kill(self, *, detach: bool = True) -> None:
        """Ends the engine, and a replacement in progress."""
        self._ending = True
        replacing, self._replacing = self._replacing, None
        if replacing is not None:
            replacing.cancel()
            await asyncio.wait({replacing})
        await self._end_everything(detach=detach)
        if replacing is not None and self.status.mode == "primary":
            ended = "the mirror engine was ended in the middle of its replacement"
            self._publish(MirrorStatus(mode="failed", epoch=self.status.epoch, error=ended))
        for end in self._estate or ():
            end.close()

    async def _end_everything(self, *, detach: bool) -> None:
        self._ending = True
        loop = asyncio.get_running_loop()
        if self._process is not None:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            # Before the process is waited for: nobody may hang because it is stuck in the disk.
            await loop.run_in_executor(None, self._disconnect_mounts)
            await self._process.wait()
        await self._close_control()
        if self._reading is not None:
            await self._reading
        if detach:  # its descriptors died with the process; what is left is a dead mount point
            await loop.run_in_executor(None, self._abort_mounts)
        await self._leave_nothing()
