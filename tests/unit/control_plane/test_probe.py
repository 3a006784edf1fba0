"""The control plane's own probe, against a real listener on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.api.probe import HttpProber, judged
from shared.model.node_state import ProbeOutcome


@asynccontextmanager
async def _listening(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("200 OK", ProbeOutcome.SERVING),
        ("503 Service Unavailable", ProbeOutcome.STANDBY),
        ("302 Found", ProbeOutcome.UNEXPECTED),
        ("404 Not Found", ProbeOutcome.UNEXPECTED),
    ],
)
async def test_answers(status: str, outcome: ProbeOutcome) -> None:
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nLocation: http://127.0.0.1:1/\r\n\r\nOK".encode()
    async with _listening(answer) as (port, heard):
        probed = await HttpProber(port=port).probe("127.0.0.1")
    assert probed.outcome is outcome
    assert probed.status_code == int(status[:3])
    assert probed.latency_ms is not None
    assert heard[0].startswith(b"GET /var/modules/mirror/ready.txt HTTP/1.1\r\n")


async def test_a_closed_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        probed = await HttpProber(port=taken.getsockname()[1]).probe("127.0.0.1")
    assert probed.outcome is ProbeOutcome.REFUSED
    assert "127.0.0.1" in probed.reason


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n"])
async def test_something_that_is_no_http_is_unreachable(answer: bytes) -> None:
    async with _listening(answer) as (port, _):
        probed = await HttpProber(port=port).probe("127.0.0.1")
    assert probed.outcome is ProbeOutcome.UNREACHABLE
    assert probed.reason


def test_only_200_serves() -> None:
    assert [judged(status, "", 1).outcome for status in (200, 201, 204)] == [
        ProbeOutcome.SERVING,
        ProbeOutcome.UNEXPECTED,
        ProbeOutcome.UNEXPECTED,
    ]
