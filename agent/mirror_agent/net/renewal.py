"""The node's certificate renews itself: at two thirds of its life, and when the control plane names another issuer.

Guarantee: a new key pair is made here for every attempt and never leaves; nothing is written before the answer was
checked (key, chain, name, validity), and then certificate and key in one step (`node_certificate`). A failure of any
kind keeps what there is, is recorded and shown with its reason, and is tried again with growing pauses. Servers and
clients of the agent use the new certificate from their next handshake; no role, no connection is given up.
Limits: the moment is taken from the node's wall clock, looked at once an hour at least; the decision core never asks.
The first third of the last third is spread over the fleet, so that nodes made together do not come together.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from mirror_agent import __version__
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import MAX_SENTENCE_CHARS, CertificateReport, RenewRequest, RenewResponse, TrustOrder
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.backoff import BackOff
from mirror_agent.net.https import control_plane_session, read_bounded, require_https
from mirror_agent.net.identity import certificate_request
from mirror_agent.net.node_certificate import (
    CertificateRefused,
    NodeCertificate,
    authorities_of,
    fingerprint,
    fits,
    issued,
    joined,
    load_node_certificate,
    store_pair,
    store_trust,
)
from mirror_agent.paths import NODE_PATHS, Paths
from mirror_agent.redaction import redact_text

RENEW_AFTER: Final = 2 / 3
SPREAD: Final = 1 / 9
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 900.0
LOOK_EVERY_S: Final = 3600.0
REQUEST_TIMEOUT_S: Final = 30.0
EXPIRES_SOON: Final = timedelta(days=14)
assert RENEW_AFTER + SPREAD < 1, "a node must be able to try again many times before its certificate ends"


Issue = Callable[[RenewRequest], Awaitable[RenewResponse]]


def renewal_moment(begins: datetime, ends: datetime, jitter: float) -> datetime:
    """`jitter` in [0, 1)."""
    return begins + (ends - begins) * (RENEW_AFTER + SPREAD * jitter)


def remaining_days(ends: datetime, now: datetime) -> float:
    return round((ends - now) / timedelta(days=1), 1)


def control_plane_issuer(url: str, credential: str, tls: ssl.SSLContext | None = None) -> Issue:
    """The control plane signs. ValueError for an address that is not https; `tls`: in place of the system's trust."""
    address = f"{require_https(url)}/api/nodes/certificate"
    headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}

    async def issue(request: RenewRequest) -> RenewResponse:
        try:
            async with control_plane_session(REQUEST_TIMEOUT_S, tls) as session:
                async with session.post(
                    address, data=request.model_dump_json(by_alias=True), headers=headers, allow_redirects=False
                ) as answer:
                    body = await read_bounded(answer)
        except aiohttp.ClientError as error:
            raise OSError(f"{address}: {error}") from error
        if answer.status != 200:
            raise OSError(f"{address} answered {answer.status}: {redact_text(body[:300].decode(errors='replace'))}")
        try:
            return RenewResponse.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise OSError(f"{address}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None

    return issue


class CertificateRenewal:
    def __init__(
        self,
        *,
        issue: Issue,
        dns_name: str,
        changed: Callable[[], None],
        log: RecordEvent,
        paths: Paths = NODE_PATHS,
        clock: Clock = BOOT_CLOCK,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`issue`: who signs, see `control_plane_issuer`; it raises OSError. `changed` is called on the loop after
        files have changed; an OSError of it is recorded as a failure.
        Raises OSError or CertificateRefused when the node's files are no identity."""
        self._issue = issue
        self._dns_name = dns_name
        self._changed = changed
        self._log = log
        self._paths = paths
        self._clock = clock
        self._wall = wall
        self._spread = jitter()
        self._back_off = BackOff(jitter, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        self._used = load_node_certificate(paths)
        self._in_use = self._used  # by servers and clients; `_used` is what the files say
        self._heard: TrustOrder | None = None
        self._order: TrustOrder | None = None  # what was heard and is not carried out yet
        self._ordered = asyncio.Event()
        self._wanted_issuer: str | None = None
        self._failure = ""
        self._warned_days: int | None = None

    @property
    def report(self) -> CertificateReport:
        """What servers and clients use: a rotation goes on by it."""
        return self._in_use.report(self._failure)

    def remaining_days(self) -> float:
        return remaining_days(self._used.ends, self._wall())

    def take(self, order: TrustOrder | None) -> None:
        """What a heartbeat answer says about the cluster's authorities; None says nothing."""
        if order is not None and order != self._heard:
            self._heard = self._order = order
            self._ordered.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._ordered.clear()
            try:
                self._use()
                await self._follow_order()
                if self._due():
                    await self._renew()
                    await self._follow_order()
                self._succeeded()
                pause_s = self._until_due_s()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a certificate must not end the agent
                self._failed(error)
                pause_s = self._back_off.delay_s()
            self._warn()
            await self._pause(pause_s)

    def _due(self) -> bool:
        if self._wanted_issuer is not None and self._wanted_issuer != self._used.issuer_sha256:
            return True
        return self._wall() >= self._moment()

    def _moment(self) -> datetime:
        return renewal_moment(self._used.begins, self._used.ends, self._spread)

    def _until_due_s(self) -> float:
        return min(max((self._moment() - self._wall()).total_seconds(), 1.0), LOOK_EVERY_S)

    async def _follow_order(self) -> None:
        order = self._order
        if order is None:
            return
        wanted = authorities_of(order.ca_pem.encode())
        self._wanted_issuer = order.issuer_sha256
        before = _prints(self._used.trusted)
        if before != _prints(joined(wanted, (self._used.issuer,))):
            self._used = await asyncio.to_thread(store_trust, self._paths, wanted, self._used)
            self._use()
            self._log("certificate.trust", authorities=len(self._used.trusted), before=len(before))
        if self._order is order and _prints(self._used.trusted) == _prints(wanted):
            self._order = None

    async def _renew(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        answer = await self._issue(RenewRequest(csr_pem=certificate_request(key), agent_version=__version__))
        authorities = authorities_of(answer.ca_pem.encode())
        found = fits(issued(answer.certificate_pem, authorities, key), self._dns_name, self._wall())
        if self._wanted_issuer not in (None, found.issuer_sha256):
            raise CertificateRefused("the control plane issued by another authority than it named; asking again")
        before = self._used
        # The union first: until the new certificate is on disk, the old one is the node's.
        trusting = await asyncio.to_thread(store_trust, self._paths, joined(before.trusted, authorities), before)
        await asyncio.to_thread(store_pair, self._paths, answer.certificate_pem, key)
        self._used = NodeCertificate(found.certificate, found.issuer, trusting.trusted)
        self._log(
            "certificate.renewed",
            serial=self._used.report().serial,
            expires=self._used.ends.isoformat(),
            expires_in_days=self.remaining_days(),
            new_issuer=before.issuer_sha256 != found.issuer_sha256,
        )
        self._use()
        await asyncio.to_thread(self._paths.node_key.unlink, True)  # the enrolment's key is nobody's any more

    def _use(self) -> None:
        """Raises OSError; it is tried again then until the new files are in use."""
        if self._in_use is not self._used:
            self._changed()
            self._in_use = self._used

    async def _pause(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        ordered = asyncio.ensure_future(self._ordered.wait())
        try:
            await asyncio.wait({sleeping, ordered}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            ordered.cancel()

    def _succeeded(self) -> None:
        self._failure = ""
        self._back_off.reset()

    def _failed(self, error: Exception) -> None:
        reason = redact_text(str(error) or type(error).__name__)[:MAX_SENTENCE_CHARS]
        if reason != self._failure:
            self._log("certificate.renewal-failed", reason=reason, expires_in_days=self.remaining_days())
        self._failure = reason

    def _warn(self) -> None:
        """Once a day while the end is near."""
        left = self._used.ends - self._wall()
        days = left.days
        if left < EXPIRES_SOON and days != self._warned_days:
            self._warned_days = days
            self._log("certificate.expires-soon", expires_in_days=days, failure=self._failure)


def _prints(authorities: tuple[x509.Certificate, ...]) -> frozenset[str]:
    return frozenset(fingerprint(authority) for authority in authorities)
