"""Access to the nodes for people: a one-time link, the download behind it, the list, and the end of it.

Guarantees
- The link's secret is in the part of the address that browsers never send (behind #); it is presented as a bearer
  token by the page, when its reader asks for the download, so a preview of the link uses nothing up.
- Of two downloads by one link exactly one wins: the row is consumed by a conditional write before anything is answered.
  An answer that was lost is lost: the answer is to ask for another link.
- A revoked link opens nothing from this moment on; a revoked certificate is refused by the nodes as soon as their next
  heartbeat was answered.
"""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from typing import Annotated, Final

from mirror_agent.contract import CONSOLE_PORT, MAX_REVOKED_SERIALS
from pydantic import AwareDatetime, Field, StringConstraints

from shared.api.call import Answer, Call, body_of, model_json
from shared.api.clusters import named_cluster
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.model.client_credential import ClientCredential, CredentialState
from shared.model.cluster import ClusterRecord
from shared.model.document import ApiModel
from shared.model.principal import AccessRole, Principal
from shared.security.client_certificates import make_client_file
from shared.security.client_links import link_token
from shared.security.enrolment import ensure_authority
from shared.security.secret import hashed, new_secret, new_short_id
from shared.store.ports import Changed, Versioned
from shared.structured_log import Log

MAX_CREDENTIALS: Final = 200
MAX_ATTEMPTS: Final = 5
_ID: Final = re.compile(r"[0-9a-f]{16}")
log = Log("mirrorplane.credentials")


class CredentialRequest(ApiModel):
    """`name` is who it is for; it is in the certificate and in the journals of the nodes."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$")]
    role: AccessRole
    valid_days: Annotated[int, Field(ge=1, le=365)] = 90
    link_valid_hours: Annotated[int, Field(ge=1, le=72)] = 24


class CredentialView(ApiModel):
    id: str
    name: str
    role: AccessRole
    state: CredentialState
    created_by: str
    created_at: AwareDatetime
    link_expires_at: AwareDatetime
    used_at: AwareDatetime | None = None
    serial: str | None = None
    certificate_expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    revoked_by: str | None = None


class CredentialLinkView(CredentialView):
    """`url` is shown in this answer and never again."""

    url: str


class CredentialList(ApiModel):
    value: tuple[CredentialView, ...]


class CredentialFiles(ApiModel):
    """`pkcs12` (base64) holds key, certificate and CA certificate under `password`. Shown once."""

    cluster: str
    name: str
    role: AccessRole
    pkcs12: str
    password: str
    ca_pem: str
    expires_at: AwareDatetime
    console_urls: tuple[str, ...]
    test_url: str | None = None


async def post_credential(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    request = body_of(call, CredentialRequest)
    now = plane.clock()
    await _make_room(plane, record)
    credential_id, secret = new_short_id(), new_secret()
    made = ClientCredential(
        id=credential_id,
        cluster_id=record.id,
        cluster=record.name,
        name=request.name,
        role=request.role,
        secret_sha256=hashed(secret),
        created_by=f"{caller.kind}:{caller.id}",
        created_at=now,
        link_expires_at=now + timedelta(hours=request.link_valid_hours),
        valid_days=request.valid_days,
    )
    await plane.store.credentials.put_client(made, None)
    log.info("credential_offered", id=made.id, cluster=record.name, role=made.role.value, by=made.created_by)
    view = _view(plane, made)
    shown = CredentialLinkView(
        **{name: getattr(view, name) for name in type(view).model_fields},
        url=f"{plane.settings.public_url}/#/credential/{link_token(record.id, credential_id, secret)}",
    )
    return Answer(201, model_json(shown), {"Cache-Control": "no-store"})


async def list_credentials(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    found = await plane.store.credentials.clients(record.id)
    found.sort(key=lambda credential: credential.created_at, reverse=True)
    return Answer(200, model_json(CredentialList(value=tuple(_view(plane, credential) for credential in found))))


async def redeem_credential(plane: ControlPlane, caller: Versioned[ClientCredential], call: Call) -> Answer:
    """The download. `caller` is the link; see `shared.security.client_links`."""
    credential, now = caller.value, plane.clock()
    record = await named_cluster(plane, credential.cluster)
    if record.id != credential.cluster_id:
        raise Problem("ClusterNotFound", f"cluster {credential.cluster!r} of this link was deleted")
    if credential.used_at is not None:
        raise _used(credential)
    authority = await ensure_authority(
        plane.store.credentials,
        plane.settings.wrapping_keys,
        cluster=record.name,
        cluster_id=record.id,
        now=now,
        trust=record.trust,
    )
    validity = timedelta(days=credential.valid_days)
    made = make_client_file(
        authority, name=credential.name, role=credential.role.value, cluster=record.name, now=now, validity=validity
    )
    used = credential.model_copy(
        update={"used_at": now, "serial": made.serial, "certificate_expires_at": made.expires_at}
    )
    try:
        await plane.store.credentials.put_client(used, caller.etag)
    except Changed:
        raise _used(credential) from None
    log.info("credential_downloaded", id=used.id, cluster=record.name, role=used.role.value, serial=used.serial)
    files = CredentialFiles(
        cluster=record.name,
        name=used.name,
        role=used.role,
        pkcs12=base64.b64encode(made.pkcs12).decode(),
        password=made.password,
        ca_pem=authority.certificate_pem if record.trust is None else record.trust.ca_pem,
        expires_at=made.expires_at,
        console_urls=_console_urls(record),
        test_url=None if _virtual(record) is None else f"https://{_virtual(record)}:{CONSOLE_PORT}/mosaic",
    )
    return Answer(200, model_json(files), {"Cache-Control": "no-store"})


async def delete_credential(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """Revokes. What is revoked stays in the list, so that it can be seen by whom."""
    record = await named_cluster(plane, call.route["name"])
    credential_id = call.route["id"]
    for _ in range(MAX_ATTEMPTS):
        found = None
        if _ID.fullmatch(credential_id):
            found = await plane.store.credentials.client(record.id, credential_id)
        if found is None:
            raise Problem("CredentialNotFound", f"cluster {record.name!r} has no credential {credential_id!r}")
        credential = found.value
        if credential.revoked_at is None:
            credential = credential.model_copy(
                update={"revoked_at": plane.clock(), "revoked_by": f"{caller.kind}:{caller.id}"}
            )
            try:
                await plane.store.credentials.put_client(credential, found.etag)
            except Changed:
                continue
            log.info("credential_revoked", id=credential.id, cluster=record.name, by=credential.revoked_by)
        await _tell_nodes(plane, record.name)
        return Answer(200, model_json(_view(plane, credential)))
    raise Problem("StorageUnavailable", "the credential is being changed by others; repeat the request")


async def _make_room(plane: ControlPlane, record: ClusterRecord) -> None:
    """Forgets the oldest that are over when the list is full. A revoked certificate counts until it would have ended:
    the nodes have to be told of it. Raises Problem."""
    stored = await plane.store.credentials.clients(record.id)
    now = plane.clock()
    over = sorted((entry for entry in stored if entry.is_over(now)), key=lambda entry: entry.created_at)
    surplus = len(stored) - MAX_CREDENTIALS + 1
    if surplus > len(over):
        raise Problem(
            "TooManyCredentials",
            f"the cluster has {MAX_CREDENTIALS} credentials that are offered, valid, or revoked before their end; "
            "let some end, or give fewer people longer ones",
        )
    for entry in over[: max(surplus, 0)]:
        await plane.store.credentials.delete_client(record.id, entry.id)


async def _tell_nodes(plane: ControlPlane, name: str) -> None:
    """Writes the serials of revoked, unexpired certificates into the cluster's record: computed from the credentials,
    so repeating it after a crash, or twice at once, ends in the same list."""
    for _ in range(MAX_ATTEMPTS):
        found = await plane.store.clusters.get(name)
        if found is None:
            return
        now = plane.clock()
        credentials = await plane.store.credentials.clients(found.value.id)
        serials = tuple(
            sorted(
                credential.serial
                for credential in credentials
                if credential.serial is not None
                and credential.revoked_at is not None
                and (credential.certificate_expires_at is None or now < credential.certificate_expires_at)
            )
        )[:MAX_REVOKED_SERIALS]
        if serials == found.value.revoked_serials:
            return
        try:
            changed = found.value.model_copy(update={"revoked_serials": serials})
            await plane.store.clusters.replace(changed, found.etag)
        except Changed:
            continue
        return
    raise Problem("StorageUnavailable", "the credential is revoked, the nodes are not told yet; repeat the request")


def _used(credential: ClientCredential) -> Problem:
    return Problem(
        "CredentialLinkUsed",
        f"this link was used already; if that was not {credential.name}, have the credential revoked at once",
    )


def _view(plane: ControlPlane, credential: ClientCredential) -> CredentialView:
    values = {name: getattr(credential, name) for name in CredentialView.model_fields if name != "state"}
    return CredentialView(**values, state=credential.state(plane.clock()))


def _virtual(record: ClusterRecord) -> str | None:
    return record.resources.virtual_ip_address


def _console_urls(record: ClusterRecord) -> tuple[str, ...]:
    """The virtual IP first: whichever node serves answers there."""
    nodes = [node.public_address or node.private_address for node in record.resources.nodes.values()]
    return tuple(f"https://{address}:{CONSOLE_PORT}/" for address in (_virtual(record), *nodes) if address)


assert MAX_CREDENTIALS <= MAX_REVOKED_SERIALS, "every revoked certificate must fit into a heartbeat answer"
