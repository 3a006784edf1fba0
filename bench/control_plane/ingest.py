"""Heartbeats per second through the Functions host, Microsoft's worker library and Azurite: p50 and p99 of a post.

Closed loop: `AT_ONCE` nodes post one heartbeat after the other, each over its own connection, for `DURATION_S`.
One worker process on the machine's cores, shared with the storage emulator, the load itself and whatever else runs. The
processor time of the worker and of the emulator per post does not depend on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import base64
import os
import statistics
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from mirror_agent.contract import MIRROR_NODES

from bench.control_plane.fleet import beat, fill
from bench.control_plane.storage import Bench, on_azurite
from lab.azurite.server import Azurite
from shared.model.principal import NodeCredential
from shared.security.secret import hashed, new_secret
from tests.lab.functions_host.process import REPOSITORY, HostProcess

AT_ONCE: Final = 16
WARM_UP_S: Final = 3.0
DURATION_S: Final = 20.0


async def measure(directory: Path, storage: Azurite) -> dict[str, Any]:
    wheel = directory / "mirror_agent-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"none is fetched here")
    settings = {
        "AzureWebJobsStorage": storage.connection_string,
        "MIRRORPLANE_WITNESS_STORAGE": storage.connection_string,
        "MIRRORPLANE_SUBSCRIPTION_ID": str(uuid.uuid4()),
        "MIRRORPLANE_PUBLIC_URL": "https://control.example.org",
        "MIRRORPLANE_WRAPPING_KEY": base64.b64encode(bytes(32)).decode(),
        "MIRRORPLANE_AGENT_WHEEL": str(wheel),
    }
    async with on_azurite(storage) as bench:
        tokens = await _nodes(bench, AT_ONCE)
    host = await asyncio.to_thread(lambda: HostProcess(directory, REPOSITORY, settings, "--no-triggers").ready())
    try:
        before = _cpu_s(host.process.pid), _cpu_s(storage.pid)
        found = await _load(host.url, tokens)
        posts = found.pop("posts")
        for name, pid, used in (("worker", host.process.pid, before[0]), ("emulator", storage.pid, before[1])):
            found[f"{name}_cpu_ms"] = round((_cpu_s(pid) - used) * 1000 / posts, 2)
        return found
    finally:
        host.kill()


async def _nodes(bench: Bench, count: int) -> list[tuple[str, str]]:
    """(node, credential) of as many nodes of a fleet."""
    now = datetime.now(UTC)
    records = await fill(bench, [f"ingest{number:03d}" for number in range(-(-count // 2))], now)
    tokens: list[tuple[str, str]] = []
    for made in records:
        for node in MIRROR_NODES:
            secret = new_secret()
            credential = NodeCredential(
                cluster_id=made.id,
                cluster=made.name,
                node=node,
                enrolment_id=new_secret()[:16],
                secret_sha256=hashed(secret),
                enrolled_at=now,
            )
            await bench.store.credentials.put_credential(credential, None)
            tokens.append((node, f"mpn_{made.id}_{node}_{secret}"))
    return tokens[:count]


def _cpu_s(pid: int | None) -> float:
    """User and system time of a process so far (proc_pid_stat(5), fields 14 and 15, in clock ticks)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _load(url: str, tokens: list[tuple[str, str]]) -> dict[str, Any]:
    latencies: list[float] = []
    posts = 0
    begun = time.perf_counter()
    end = begun + WARM_UP_S + DURATION_S
    async with aiohttp.ClientSession() as session:

        async def node_loop(node: Any, token: str) -> None:
            nonlocal posts
            sequence = 1
            while (now := time.perf_counter()) < end:
                sequence += 1
                body = {
                    "agentVersion": "0.1.0",
                    "configurationVersion": 1,
                    "heartbeats": [beat(node, sequence).model_dump(mode="json", by_alias=True)],
                }
                headers = {"Authorization": f"Bearer {token}"}
                async with session.post(f"{url}/api/nodes/heartbeat", json=body, headers=headers) as answer:
                    text = await answer.text()
                    if answer.status != 200:
                        raise RuntimeError(f"a heartbeat was answered {answer.status}: {text[:200]}")
                posts += 1
                if now - begun >= WARM_UP_S:
                    latencies.append(time.perf_counter() - now)

        await asyncio.gather(*(node_loop(node, token) for node, token in tokens))
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "posts": posts,
        "heartbeats_per_s": round(len(latencies) / DURATION_S, 1),
        "latency_ms_p50": round(cuts[49] * 1000, 1),
        "latency_ms_p99": round(cuts[98] * 1000, 1),
        "nodes_at_once": len(tokens),
        "duration_s": DURATION_S,
    }
