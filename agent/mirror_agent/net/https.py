"""What every request to the control plane has in common: https only, the system's trust store, bounded answers."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from mirror_agent.platform import HOST
from mirror_agent.redaction import redact_text

# A configuration may hold 32 files of 256 KiB, and JSON escapes can double them.
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024


class AnswerTooLarge(aiohttp.ClientError):
    """More than MAX_ANSWER_BYTES."""


def require_https(url: str) -> str:
    """`url` without a trailing slash; ValueError when a secret sent there could be read on the way."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise ValueError(f"{redact_text(url)!r} is no https address; secrets are sent to https://host[:port] only")
    return url.rstrip("/")


def control_plane_trust() -> ssl.SSLContext:
    """The system's trust store, verification on."""
    context = ssl.create_default_context()
    for bundle in HOST.CA_BUNDLES:
        if bundle.exists():
            context.load_verify_locations(cafile=str(bundle))
    return context


def control_plane_session(timeout_s: float, tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """A session to the control plane, through the proxy of the environment (HTTPS_PROXY, NO_PROXY) if there is one.

    Only for what may leave the network: heartbeats to the peer, checkers and the metadata service are always direct.
    `tls`: in place of the system's trust store.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls or control_plane_trust()),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        trust_env=True,
    )


async def read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    """The body; AnswerTooLarge instead of filling the memory."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise AnswerTooLarge(f"{answer.url.origin()} answered more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)
