"""Enrolment: from a single-use token to a certificate, a credential and the node's configuration.

Guarantee: the key pair is made on this node and the token goes only to an https address whose certificate the system
trusts. May be cut off at any moment and run again: the same key is used, and an enrolled node is left as it is.
Limits: total deadline; an answer that another attempt cannot change (4xx) ends it at once with a remedy.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from mirror_agent import __version__
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import EnrolRequest, EnrolResponse
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.backoff import BackOff
from mirror_agent.net.https import control_plane_session, read_bounded, require_https
from mirror_agent.net.identity import (
    AgentFile,
    NotEnrolled,
    certificate_request,
    load_agent_file,
    load_or_make_key,
    store_enrolment,
)
from mirror_agent.paths import NODE_PATHS, Paths
from mirror_agent.platform import HOST
from mirror_agent.redaction import redact_text

DEADLINE_S: Final = 600.0
REQUEST_TIMEOUT_S: Final = 30.0
# 409: the control plane is still writing the cluster down; 404 and others do not change by waiting.
WORTH_ANOTHER_TRY: Final = frozenset({408, 409, 425, 429})


class Bootstrap(BaseModel):
    """What bootstrap.json holds for enrolment; its other keys belong to bootstrap.py."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    control_plane_url: str
    enrolment_token: str = Field(repr=False, min_length=1)


@dataclass(frozen=True)
class Enrolled:
    agent: AgentFile
    already: bool


@dataclass(frozen=True)
class EnrolmentFailed:
    reason: str


@dataclass(frozen=True)
class _TryAgain:
    reason: str
    retry_after: str | None = field(default=None)


def load_bootstrap(path: Path) -> Bootstrap:
    """ValueError names the file, the field and what is wrong; it never shows the token."""
    try:
        return Bootstrap.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; give the bootstrap file of this node with --from") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ValueError(f"{path}: {place}: {first['msg']}") from None


async def enrol(
    bootstrap: Bootstrap,
    *,
    log: RecordEvent,
    paths: Paths = NODE_PATHS,
    clock: Clock = BOOT_CLOCK,
    back_off: BackOff | None = None,
    deadline_s: float = DEADLINE_S,
    tls: ssl.SSLContext | None = None,
) -> Enrolled | EnrolmentFailed:
    """Raises ValueError for an address that is not https, BadEnrolment for an answer that does not fit our key."""
    url = require_https(bootstrap.control_plane_url)
    try:
        return Enrolled(load_agent_file(paths), already=True)
    except NotEnrolled:
        log("enrolment.started", url=url)
    key = load_or_make_key(paths)
    request = EnrolRequest(csr_pem=certificate_request(key), agent_version=__version__, boot_id=HOST.boot_id())
    waiting = back_off or BackOff()
    end = clock.now_s() + deadline_s
    async with control_plane_session(REQUEST_TIMEOUT_S, tls) as session:
        while True:
            outcome = await _ask(session, url, bootstrap.enrolment_token, request)
            match outcome:
                case EnrolResponse():
                    agent = await asyncio.to_thread(store_enrolment, paths, url, outcome, key)
                    log("enrolment.done", cluster=agent.configuration.cluster_name, node=agent.configuration.node)
                    return Enrolled(agent, already=False)
                case EnrolmentFailed(reason):
                    log("enrolment.failed", reason=reason)
                    return outcome
                case _TryAgain(reason, retry_after):
                    delay_s = waiting.delay_s(retry_after)
                    if clock.now_s() + delay_s > end:
                        return EnrolmentFailed(f"{reason}; gave up after {deadline_s:g} s, run mirrorctl enrol again")
                    log("enrolment.waiting", reason=reason, delay_s=round(delay_s, 1))
                    await clock.sleep(delay_s)


async def _ask(
    session: aiohttp.ClientSession, url: str, token: str, request: EnrolRequest
) -> EnrolResponse | EnrolmentFailed | _TryAgain:
    address = f"{url}/api/nodes/enrol"
    try:
        async with session.post(
            address,
            data=request.model_dump_json(by_alias=True),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            allow_redirects=False,
        ) as answer:
            body = await read_bounded(answer)
            if answer.status in WORTH_ANOTHER_TRY or answer.status >= 500:
                return _TryAgain(f"{address} answered {answer.status}", answer.headers.get("Retry-After"))
            if answer.status not in (200, 201):
                said = redact_text(body[:500].decode(errors="replace"))
                return EnrolmentFailed(
                    f"{address} answered {answer.status}: {said}; the enrolment token may be used up or expired: "
                    "replace the VM, or ask the control plane for a new token"
                )
    except TimeoutError:
        return _TryAgain(f"{address} did not answer in {REQUEST_TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return _TryAgain(f"{address}: {redact_text(str(error))}")
    try:
        return EnrolResponse.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return EnrolmentFailed(f"{address}: {place}: {first['msg']}; agent {__version__} and control plane do not fit")
