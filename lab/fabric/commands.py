"""Run `ip` and `nft`; a failure names the command, its input and what it said."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from typing import Final

from lab.prerequisites import tool

COMMAND_TIMEOUT_S: Final = 30.0


class CommandFailed(RuntimeError):
    """A tool of the system refused."""


async def run(argv: Sequence[str], *, stdin: str = "") -> str:
    """Standard output of a short command. Raises `CommandFailed`."""
    return await asyncio.to_thread(run_now, argv, stdin=stdin)


def run_now(argv: Sequence[str], *, stdin: str = "") -> str:
    program = tool(argv[0]) or argv[0]
    done = subprocess.run(
        [program, *argv[1:]], input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}\ninput:\n{stdin}")
    return done.stdout


async def ip_batch(namespace: str | None, lines: Sequence[str]) -> None:
    """Several `ip` commands in one process, inside a namespace; stops at the first that fails."""
    if lines:
        where = [] if namespace is None else ["-n", namespace]
        await run(["ip", *where, "-batch", "-"], stdin="\n".join(lines) + "\n")


async def nft(namespace: str, ruleset: str) -> None:
    """Load a ruleset atomically into a namespace."""
    await run(["ip", "netns", "exec", namespace, tool("nft") or "nft", "-f", "-"], stdin=ruleset)
