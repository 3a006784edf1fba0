"""One-time links to a person's certificate, kept and redeemed on the node that made them, and their revocation.

The same rules as the control plane's links: the secret is in the part of the address that browsers never send, only its
SHA-256 is stored, of two downloads by one link exactly one wins, and an answer that was lost is lost. The certificate
is good on both nodes, which trust the one authority.
Each fact has one file and one writer: `<id>.json` is the agent's once it is offered, `<id>.used` marks the download,
`<id>.revoked` is mirrorctl's. So a revocation in the middle of a download stands, and nothing is handed over then.
A revocation without a link is of a serial somebody named, because the machine that made the link is lost.
Limits: MAX_LINKS, MAX_SERIALS; what is over makes room. A file that cannot be read is named and costs no other one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from mirror_agent.authority import Authority
from mirror_agent.client_certificates import ClientFile, make_client_file
from mirror_agent.contract import Contract
from mirror_agent.pair.documents import BadDocument, complaint
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.refusal import Refused
from mirror_agent.paths import SECRET_FILE_MODE

MAX_LINKS: Final = 100
MAX_SERIALS: Final = 100
LINK_VALIDITY: Final = timedelta(hours=24)
CERTIFICATE_VALIDITY: Final = timedelta(days=90)
ROLES: Final = ("Admin", "Control", "Monitor")
_TOKEN: Final = re.compile(r"mpc_([0-9a-f-]{36})_([0-9a-f]{16})_([A-Za-z0-9-]{32,256})")
_ID: Final = re.compile(r"[0-9a-f]{16}")
_SERIAL: Final = re.compile(r"[0-9A-F]{1,40}")

Serial = Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{1,40}$")]
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
        if self.is_over(now):
            return "ended"
        return "offered" if self.used_at is None else "used"

    def answers(self, now: datetime) -> bool:
        """Whether somebody may still come by this link, if only to hear that it was used."""
        return now < self.ends_at

    def is_over(self, now: datetime) -> bool:
        """Nothing depends on it any more."""
        return now >= (self.certificate_ends_at or self.ends_at)


class Revocation(Contract):
    """`<id>.revoked`. `serial`: as far as it was known then; a link's own file may tell it later."""

    at: AwareDatetime
    serial: Serial | None = None
    certificate_ends_at: AwareDatetime | None = None


Kept = TypeVar("Kept", Link, Revocation)


@dataclass(frozen=True)
class Survey:
    """`links`: the newest first. `named`: revocations without a (readable) link, by id. `unreadable`: place, reason."""

    links: tuple[Link, ...]
    named: dict[str, Revocation]
    unreadable: tuple[str, ...]


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
    """With its marks. Raises BadDocument, OSError."""
    if not _ID.fullmatch(link_id):
        return None
    try:
        link = _read(Link, files.links / f"{link_id}.json")
    except FileNotFoundError:
        return None
    # A mark counts by being there, whatever is in it.
    used, revoked = (_marked_at(files.links / f"{link_id}.{mark}") for mark in ("used", "revoked"))
    return link.model_copy(update={"used_at": link.used_at or used, "revoked_at": revoked})


def survey(files: PairFiles) -> Survey:
    """Everything that can be read, and what cannot."""
    try:
        places = list(files.links.iterdir())
    except FileNotFoundError:
        return Survey((), {}, ())
    links: dict[str, Link] = {}
    named: dict[str, Revocation] = {}
    unreadable: list[str] = []
    for place in sorted(places, key=lambda place: place.suffix):  # links before their revocations
        try:
            if place.suffix == ".json" and (link := load(files, place.stem)) is not None:
                links[link.id] = link
            elif place.suffix == ".revoked" and place.stem not in links:
                named[place.stem] = _read(Revocation, place)
        except BadDocument as error:
            unreadable.append(str(error))
        except OSError as error:
            unreadable.append(f"{place}: {error.strerror}")
    newest_first = sorted(links.values(), key=lambda link: link.made_at, reverse=True)
    return Survey(tuple(newest_first), named, tuple(unreadable))


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
        raise _ended()
    if not _consume(files, link.id):
        raise _used(link)
    validity = CERTIFICATE_VALIDITY
    made = make_client_file(authority, name=link.name, role=link.role, cluster=cluster, now=now, validity=validity)
    used = link.model_copy(update={"used_at": now, "serial": made.serial, "certificate_ends_at": made.expires_at})
    _store(files, used)
    # Its serial is on the disk: whoever revokes from here on revokes the certificate. Whoever did before is heeded.
    if (files.links / f"{link.id}.revoked").exists():
        raise _ended()
    return Redeemed(used, made)


@dataclass(frozen=True)
class Redeemed:
    link: Link
    file: ClientFile


def revoke(files: PairFiles, link_id: str, now: datetime) -> Link | None:
    """None if there is no such link. Raises BadDocument, OSError."""
    link = load(files, link_id)
    if link is None or link.revoked_at is not None:
        return link
    made = Revocation(at=now, serial=link.serial, certificate_ends_at=link.certificate_ends_at)
    _write(files, f"{link_id}.revoked", made)
    return link.model_copy(update={"revoked_at": now})


@dataclass(frozen=True)
class RevokedSerial:
    id: str
    serial: str
    ends_at: datetime


def revoke_serial(files: PairFiles, text: str, now: datetime) -> RevokedSerial:
    """Any certificate of this pair; one of a link that is not here until the last one ends that can exist by now.
    Raises ValueError for what is no serial, or when there are too many."""
    serial = text.upper().removeprefix("0X").replace(":", "").lstrip("0")
    if not _SERIAL.fullmatch(serial):
        raise ValueError(f"{text!r} is no serial; give it in hex, as `openssl x509 -noout -serial` prints it")
    known = survey(files)
    for link in known.links:
        if link.serial == serial:
            revoke(files, link.id, now)
            return RevokedSerial(link.id, serial, link.certificate_ends_at or link.ends_at)
    for link_id, one in known.named.items():
        if one.serial == serial and one.certificate_ends_at is not None:
            return RevokedSerial(link_id, serial, one.certificate_ends_at)
    past = [link_id for link_id, one in known.named.items() if not _in_force(one, now)]
    if len(known.named) - len(past) >= MAX_SERIALS:
        raise ValueError(f"{MAX_SERIALS} serials are revoked here already, for {CERTIFICATE_VALIDITY.days} days each")
    _remove(files, past)
    made = RevokedSerial(hashlib.sha256(serial.encode()).hexdigest()[:16], serial, now + CERTIFICATE_VALIDITY)
    _write(files, f"{made.id}.revoked", Revocation(at=now, serial=serial, certificate_ends_at=made.ends_at))
    return made


def revoked_serials(known: Survey, now: datetime) -> dict[str, datetime]:
    """When each ends that would still be accepted otherwise."""
    of_links = [(link.serial, link.certificate_ends_at) for link in known.links if link.revoked_at is not None]
    of_names = [(one.serial, one.certificate_ends_at) for one in known.named.values()]
    return {
        serial: ends_at
        for serial, ends_at in (*of_names, *of_links)
        if serial is not None and ends_at is not None and now < ends_at
    }


def _make_room(files: PairFiles, now: datetime) -> None:
    known = survey(files)
    over = [link.id for link in known.links if link.is_over(now)]
    if len(known.links) - len(over) >= MAX_LINKS:
        raise ValueError(f"{MAX_LINKS} links and certificates of this node are in force; let some end first")
    _remove(files, over)


def _remove(files: PairFiles, link_ids: list[str]) -> None:
    """The link last: while it is there, its marks count."""
    for link_id in link_ids:
        for kind in ("used", "revoked", "json"):
            (files.links / f"{link_id}.{kind}").unlink(missing_ok=True)


def _in_force(one: Revocation, now: datetime) -> bool:
    return one.certificate_ends_at is None or now < one.certificate_ends_at


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
    _write(files, f"{link.id}.json", link)


def _write(files: PairFiles, name: str, document: Link | Revocation) -> None:
    files.write(files.links / name, document.model_dump_json(by_alias=True).encode() + b"\n")


def _read(model: type[Kept], path: Path) -> Kept:
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadDocument(f"{path}: {complaint(error)}") from None


def _marked_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _ended() -> Refused:
    return Refused(401, "LinkEnded", "this link has ended; ask for another one")


def _used(link: Link) -> Refused:
    return Refused(
        409,
        "CredentialLinkUsed",
        f"this link was used already; if that was not {link.name}, have the certificate revoked at once: "
        f"mirrorctl credentials revoke {link.id}",
    )


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
