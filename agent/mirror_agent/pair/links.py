"""One-time links to a person's certificate, kept and redeemed on the node that made them.

The same rules as the control plane's links: the secret is in the part of the address that browsers never send, only its
SHA-256 is stored, of two downloads by one link exactly one wins, and an answer that was lost is lost. The certificate
is good on both nodes, which trust the one authority.
Limits: MAX_LINKS; what is over (ended, or revoked and expired) makes room.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from mirror_agent.authority import Authority
from mirror_agent.client_certificates import ClientFile, make_client_file
from mirror_agent.contract import MAX_REVOKED_SERIALS, Contract
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.refusal import Refused
from mirror_agent.paths import SECRET_FILE_MODE

MAX_LINKS: Final = 100
LINK_VALIDITY: Final = timedelta(hours=24)
CERTIFICATE_VALIDITY: Final = timedelta(days=90)
ROLES: Final = ("Admin", "Control", "Monitor")
_TOKEN: Final = re.compile(r"mpc_([0-9a-f-]{36})_([0-9a-f]{16})_([A-Za-z0-9-]{32,256})")
_ID: Final = re.compile(r"[0-9a-f]{16}")
assert 2 * MAX_LINKS <= MAX_REVOKED_SERIALS, "both nodes' revoked certificates are refused by each"

PersonName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$")]


class Link(Contract):
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    name: PersonName
    role: Annotated[str, StringConstraints(pattern="^(Admin|Control|Monitor)$")]
    secret_sha256: str = Field(repr=False)
    made_at: AwareDatetime
    ends_at: AwareDatetime
    used_at: AwareDatetime | None = None
    serial: str | None = None
    certificate_ends_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None

    def state(self, now: datetime) -> str:
        if self.revoked_at is not None:
            return "revoked"
        if self.used_at is None:
            return "offered" if now < self.ends_at else "ended"
        return "used" if self.certificate_ends_at is None or now < self.certificate_ends_at else "ended"

    def answers(self, now: datetime) -> bool:
        """Whether somebody may still come by this link, if only to hear that it was used."""
        return now < self.ends_at

    def is_over(self, now: datetime) -> bool:
        """Nothing depends on it any more."""
        return now >= (self.certificate_ends_at or self.ends_at)


def link_token(cluster_id: str, link_id: str, secret: str) -> str:
    return f"mpc_{cluster_id}_{link_id}_{secret}"


def offer(files: PairFiles, link_id: str, secret: str, *, name: str, role: str, now: datetime) -> Link:
    """Raises ValueError when there are too many, or the name or role is none."""
    _make_room(files, now)
    try:
        made = Link(
            id=link_id, name=name, role=role, secret_sha256=_hashed(secret), made_at=now, ends_at=now + LINK_VALIDITY
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{first['loc'][0]}: {first['msg']}") from None
    _store(files, made)
    return made


def offer_first(files: PairFiles, link_id: str, secret: str, *, name: str, now: datetime) -> None:
    """The link of the template; founding that is repeated leaves it as it is."""
    if load(files, link_id) is None:
        offer(files, link_id, secret, name=name, role="Admin", now=now)


def load(files: PairFiles, link_id: str) -> Link | None:
    if not _ID.fullmatch(link_id):
        return None
    try:
        return Link.model_validate_json((files.links / f"{link_id}.json").read_bytes())
    except FileNotFoundError:
        return None


def load_all(files: PairFiles) -> list[Link]:
    """The newest first."""
    try:
        names = [path.stem for path in files.links.iterdir() if path.suffix == ".json"]
    except FileNotFoundError:
        return []
    found = [link for name in names if (link := load(files, name)) is not None]
    return sorted(found, key=lambda link: link.made_at, reverse=True)


def redeem(
    files: PairFiles, authority: Authority, cluster: str, cluster_id: str, token: str, now: datetime
) -> Redeemed:
    """The files behind the link. Raises Refused."""
    found = _TOKEN.fullmatch(token)
    link = load(files, found[2]) if found is not None and found[1] == cluster_id else None
    if found is None or link is None or not hmac.compare_digest(_hashed(found[3]), link.secret_sha256):
        raise Refused(401, "LinkUnknown", "this is no link of this node; ask for another one")
    if link.used_at is not None:
        raise _used(link)
    if link.revoked_at is not None or not link.answers(now):
        raise Refused(401, "LinkEnded", "this link has ended; ask for another one")
    if not _consume(files, link.id):
        raise _used(link)
    _store(files, link.model_copy(update={"used_at": now}))
    validity = CERTIFICATE_VALIDITY
    made = make_client_file(authority, name=link.name, role=link.role, cluster=cluster, now=now, validity=validity)
    used = link.model_copy(update={"used_at": now, "serial": made.serial, "certificate_ends_at": made.expires_at})
    _store(files, used)
    return Redeemed(used, made)


@dataclass(frozen=True)
class Redeemed:
    link: Link
    file: ClientFile


def revoke(files: PairFiles, link_id: str, now: datetime) -> Link | None:
    """None if there is no such link."""
    link = load(files, link_id)
    if link is None or link.revoked_at is not None:
        return link
    revoked = link.model_copy(update={"revoked_at": now})
    _store(files, revoked)
    return revoked


def revoked_serials(files: PairFiles, now: datetime) -> tuple[str, ...]:
    """Of certificates that would still be accepted otherwise."""
    return tuple(
        sorted(
            link.serial
            for link in load_all(files)
            if link.serial is not None and link.revoked_at is not None and not link.is_over(now)
        )
    )


def _make_room(files: PairFiles, now: datetime) -> None:
    every = load_all(files)
    over = [link for link in every if link.is_over(now)]
    if len(every) - len(over) >= MAX_LINKS:
        raise ValueError(f"{MAX_LINKS} links and certificates of this node are in force; let some end first")
    for link in over:
        (files.links / f"{link.id}.json").unlink(missing_ok=True)
        (files.links / f"{link.id}.used").unlink(missing_ok=True)


def _consume(files: PairFiles, link_id: str) -> bool:
    """True for exactly one caller, whatever crashes afterwards."""
    try:
        descriptor = os.open(files.links / f"{link_id}.used", os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_FILE_MODE)
    except FileExistsError:
        return False
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _store(files: PairFiles, link: Link) -> None:
    files.write(files.links / f"{link.id}.json", link.model_dump_json(by_alias=True).encode() + b"\n")


def _used(link: Link) -> Refused:
    return Refused(
        409,
        "CredentialLinkUsed",
        f"this link was used already; if that was not {link.name}, have the certificate revoked at once: "
        f"mirrorctl credentials revoke {link.id}",
    )


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
