"""How long a resynchronisation takes, and what it costs the application: `python -m bench.mirror.resync [--mib N]`.

Two engines of this checkout on the loopback, with TLS, on a temporary directory (--directory; memory if there is room).
- copy: an empty replica gets everything. plain copy: the same files by cp(1), for comparison.
- ranges: after a time alone in which 1 % of the data was overwritten, in ranges of 64 KiB at random places.
- ranges after kill: the same, and the engine that served was killed and started again in between.
- everything by digest: the same change without a checkpoint in common.
- application: 4 KiB writes per second of one client, one call after the other: alone, while everything is compared and
  copied, and connected with nothing to resynchronise, which costs what replication costs.
Nothing is asserted. Result: build/bench/resync.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mirror_agent.mirror import mounts
from mirror_agent.mirror.control import MirrorConfig, MirroredPath, MirrorHandle, MirrorLimits, MirrorStatus

from bench.mirror import report
from bench.mirror.engines import Certificates
from shared.security.authority import node_dns_name

_OUTPUT: Final = Path(__file__).parents[2] / "build" / "bench" / "resync.json"
_CLUSTER_ID: Final = "00000000-0000-4000-8000-000000000001"
_ADDRESS: Final = {"a": "127.0.72.4", "b": "127.0.72.5"}
_PORT: Final = 5633
_RANGE_BYTES: Final = 64 * 1024
_FILES: Final = 8
_DEADLINE_S: Final = 300.0


class Pair:
    """Node a serves, b is its replica; both can be stopped and started again."""

    def __init__(self, base: Path) -> None:
        certificates = Certificates(base / "pki")
        self.handles: dict[str, MirrorHandle] = {}
        self.configs = {
            node: MirrorConfig(
                cluster_id=_CLUSTER_ID,
                node=node,
                peer=peer,
                peer_addresses=(_ADDRESS[peer],),
                listen_address=_ADDRESS[node],
                port=_PORT,
                paths=(MirroredPath(str(base / node / "data"), name="/data"),),
                state_dir=str(base / node / "state"),
                quarantine_dir=str(base / node / "quarantine"),
                runtime_dir=str(base / node / "run"),
                certificate_file=str(certificates.certificate_file(node)),
                key_file=str(certificates.key_file(node)),
                ca_file=str(certificates.ca_file),
                peer_san=node_dns_name("b" if node == "a" else "a", _CLUSTER_ID),
                limits=MirrorLimits(checkpoint_s=1.0),
            )
            for node, peer in (("a", "b"), ("b", "a"))
        }
        for node in self.configs:
            self.data(node).mkdir(parents=True)

    def data(self, node: str) -> Path:
        return Path(self.configs[node].paths[0].path)

    def state(self, node: str) -> Path:
        return Path(self.configs[node].state_dir)

    async def launch(self, node: str) -> MirrorHandle:
        self.handles[node] = await MirrorHandle.launch(self.configs[node], on_status=lambda _status: None)
        return self.handles[node]

    async def stop(self, node: str) -> None:
        handle = self.handles.pop(node, None)
        if handle is not None:
            await handle.stop()
            await asyncio.to_thread(mounts.abort, str(self.data(node)))

    async def until(self, fact: Callable[[MirrorStatus], bool]) -> MirrorStatus:
        async with asyncio.timeout(_DEADLINE_S):
            while not fact(self.handles["a"].status):  # noqa: ASYNC110 - the status is a snapshot, not an event
                await asyncio.sleep(0.005)
        return self.handles["a"].status

    async def replica_returns(self, epoch: int) -> MirrorStatus:
        """b comes back and is resynchronised; how that went."""
        b = await self.launch("b")
        await b.become_replica(epoch=epoch)
        return await self.until(lambda status: status.link == "live")

    async def checkpoint(self) -> None:
        seen = self.handles["a"].status.checkpoints
        await asyncio.to_thread((self.data("a") / "tick").write_text, str(seen))
        await self.until(lambda status: status.checkpoints > seen)


class Client:
    """One application that writes 4 KiB at random places of a file of 16 MiB, one call after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = 0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        chance = random.Random(1)
        data = os.urandom(4096)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT)
        try:
            while not self._enough.is_set():
                os.pwrite(fd, data, chance.randrange(4096) * 4096)
                self._done += 1
        finally:
            os.close(fd)

    async def rate(self, seconds: float) -> float:
        before, began = self._done, time.monotonic()
        await asyncio.sleep(seconds)
        return (self._done - before) / (time.monotonic() - began)

    def rate_since(self, done: int, began_s: float) -> float:
        return (self._done - done) / (time.monotonic() - began_s)

    @property
    def done(self) -> int:
        return self._done

    async def stop(self) -> None:
        self._enough.set()
        await asyncio.to_thread(self._thread.join)


def fill(directory: Path, mib: int) -> None:
    for number in range(_FILES):
        with (directory / f"f{number}").open("wb") as stream:
            for _ in range(mib // _FILES):
                stream.write(os.urandom(1 << 20))


def overwrite(directory: Path, mib: int, seed: int) -> int:
    """1 % of the bytes; how many."""
    chance = random.Random(seed)
    count = max(1, (mib << 20) // 100 // _RANGE_BYTES)
    for _ in range(count):
        with (directory / f"f{chance.randrange(_FILES)}").open("r+b") as stream:
            stream.seek(chance.randrange((mib << 20) // _FILES // _RANGE_BYTES) * _RANGE_BYTES)
            stream.write(os.urandom(_RANGE_BYTES))
    return count * _RANGE_BYTES


def facts(status: MirrorStatus) -> dict[str, Any]:
    return {"seconds": status.resync_s, "rule": status.resync_rule, "sent_bytes": status.resync_sent_bytes}


async def measure(base: Path, mib: int) -> dict[str, Any]:
    pair = Pair(base)
    result: dict[str, Any] = {}
    try:
        await asyncio.to_thread(fill, pair.data("a"), mib)
        began = time.monotonic()
        await asyncio.to_thread(subprocess.run, ["cp", "-a", str(pair.data("a")), str(base / "plain")], check=True)
        result["plain_copy"] = {"seconds": round(time.monotonic() - began, 3)}
        await asyncio.to_thread(shutil.rmtree, base / "plain")
        a = await pair.launch("a")
        await a.become_primary(epoch=1, paired=False)
        result["copy"] = facts(await pair.replica_returns(1))

        async def alone(seed: int) -> None:
            await pair.checkpoint()
            await pair.stop("b")
            await pair.until(lambda status: status.link == "connecting")
            await asyncio.to_thread(overwrite, pair.data("a"), mib, seed)

        await alone(1)
        result["ranges"] = facts(await pair.replica_returns(1))
        await alone(2)
        await pair.stop("a")
        a = await pair.launch("a")
        await a.become_primary(epoch=1, paired=False)
        result["ranges_after_kill"] = facts(await pair.replica_returns(1))
        await alone(3)
        (pair.state("b") / "checkpoints.json").unlink(missing_ok=True)
        result["everything_by_digest"] = facts(await pair.replica_returns(1))
        result["application"] = await application(pair)
        return result
    finally:
        for node in ("a", "b"):
            await pair.stop(node)


async def application(pair: Pair) -> dict[str, Any]:
    """Write rates, alone and beside a resync that copies, and one that compares, everything."""
    await pair.stop("b")
    await pair.until(lambda status: status.link == "connecting")
    client = Client(pair.data("a") / "application")
    try:
        await client.rate(0.5)
        rates: dict[str, float] = {"alone_per_s": round(await client.rate(3.0))}
        (pair.state("b") / "checkpoints.json").unlink(missing_ok=True)
        for what in ("compared", "copied"):
            if what == "copied":
                await asyncio.to_thread(shutil.rmtree, pair.data("b"))
                await asyncio.to_thread(pair.data("b").mkdir)
            b = await pair.launch("b")
            await b.become_replica(epoch=1)
            await pair.until(lambda status: status.link == "resync")
            done, began = client.done, time.monotonic()
            status = await pair.until(lambda status: status.link == "live")
            rates[f"while_{what}_per_s"] = round(client.rate_since(done, began))
            rates[f"{what}_seconds"] = status.resync_s
            rates[f"connected_after_{what}_per_s"] = round(await client.rate(3.0))
            await pair.stop("b")
            await pair.until(lambda status: status.link == "connecting")
        rates["alone_again_per_s"] = round(await client.rate(3.0))
        return rates
    finally:
        await client.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.mirror.resync", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--directory", default="/dev/shm" if os.path.isdir("/dev/shm") else None)
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="mirror-resync-", dir=arguments.directory) as base:
        result = asyncio.run(measure(Path(base), arguments.mib))
    result["ratio_copy_to_ranges"] = round(result["copy"]["seconds"] / max(result["ranges"]["seconds"], 0.001), 1)
    document = {
        "machine": report.machine(0.0, load_before),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m bench.mirror.resync --mib {arguments.mib}",
        **result,
    }
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    _OUTPUT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
