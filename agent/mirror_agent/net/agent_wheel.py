"""Fetches another release of the agent from the control plane: the announced bytes, or nothing.

Guarantee: the file at the returned path has the announced SHA-256; a torn or altered download leaves no file. The
node's credential goes to the control plane's https address only, in a header.
Limits: one attempt; the order is repeated with every heartbeat, and whoever asks decides about another attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path
from typing import Final

import aiohttp

from mirror_agent.contract import AgentRelease
from mirror_agent.net.https import control_plane_session, read_bounded, require_https
from mirror_agent.paths import replace_file
from mirror_agent.redaction import redact_text

FETCH_TIMEOUT_S: Final = 120.0
_WHEEL_MODE: Final = 0o644


class WheelNotFetched(RuntimeError):
    """The sentence says why; nothing was left on the disk."""


async def fetch_wheel(
    url: str, credential: str, release: AgentRelease, directory: Path, tls: ssl.SSLContext | None = None
) -> Path:
    """The wheel below `directory`. Raises WheelNotFetched."""
    wheel = directory / release.wheel_name
    if await asyncio.to_thread(_sha256, wheel) == release.sha256:
        return wheel
    address = f"{require_https(url)}/api/nodes/agent-wheel"
    try:
        async with control_plane_session(FETCH_TIMEOUT_S, tls) as session:
            async with session.get(
                address,
                params={"sha256": release.sha256},
                headers={"Authorization": f"Bearer {credential}"},
                allow_redirects=False,
            ) as answer:
                content = await read_bounded(answer)
                if answer.status != 200:
                    said = redact_text(content[:300].decode(errors="replace"))
                    raise WheelNotFetched(f"{address} answered {answer.status}: {said}")
    except TimeoutError:
        raise WheelNotFetched(f"{address} did not answer in {FETCH_TIMEOUT_S:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise WheelNotFetched(f"{address}: {redact_text(str(error))}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != release.sha256:
        raise WheelNotFetched(
            f"the wheel of version {release.version} has SHA-256 {found}, announced was {release.sha256}; "
            "it is not installed"
        )
    try:
        await asyncio.to_thread(replace_file, wheel, content, _WHEEL_MODE)
    except OSError as error:
        raise WheelNotFetched(f"{wheel} cannot be written: {error.strerror}") from None
    return wheel


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
