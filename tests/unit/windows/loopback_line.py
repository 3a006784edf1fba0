"""Run as a program: the agent's own line in its Windows form, which needs nothing of Windows but its choice."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.unit.windows.blocked_imports import become_windows


async def said(port: int, introduction: bytes) -> str:
    """What somebody hears who introduces himself so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(introduction)
    writer.write_eof()
    heard = await reader.readline()
    writer.close()
    return heard.decode().strip()


def left_behind(path: Path) -> None:
    """By an agent that is gone."""
    path.write_text(json.dumps({"port": 1, "secret": "old"}), encoding="ascii")


async def main(path: Path) -> None:
    become_windows()  # after the loop has been made, which is the platform's own matter
    from mirror_agent.platform import HOST, Stranger

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            who = await HOST.local_caller(path, reader, writer)
        except Stranger as stranger:
            who = f"refused: {stranger.who}"
        writer.write(who.encode() + b"\n")
        await writer.drain()
        writer.close()

    def ask() -> str:
        with HOST.connect_local(path, 30.0) as connection, connection.makefile("rb") as stream:
            return stream.readline().decode().strip()

    left_behind(path)
    server = await HOST.serve_local(path, accept, limit=4096)
    port = server.sockets[0].getsockname()[1]
    print("known:", await asyncio.to_thread(ask))
    print("wrong:", await said(port, b"0" * 64 + b"\n"))
    print("short:", await said(port, b"hello\n"))
    try:
        await HOST.serve_local(path, accept, limit=4096)
    except RuntimeError as error:
        print("second:", error)
    server.close()
    try:
        await asyncio.to_thread(ask)
    except ConnectionError as error:
        print("gone:", type(error).__name__)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
