"""Who may what: every route refuses the anonymous and the under-privileged, and does nothing for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from shared.api.endpoint import ROLE_OF, Endpoint, Guard
from shared.api.endpoints import ENDPOINTS
from shared.composition import installed
from shared.model.principal import AccessRole, Principal
from shared.store.journal import JOURNAL
from tests.control_plane_app import BOOTSTRAP, App, csr, enrol_body
from tests.control_plane_samples import cluster_body

GUARDED = [endpoint for endpoint in ENDPOINTS.values() if endpoint.guard is not Guard.ANYBODY]
MANAGEMENT = [endpoint for endpoint in GUARDED if endpoint.guard in ROLE_OF]
NODES = [endpoint for endpoint in GUARDED if endpoint.guard not in ROLE_OF]
RANK = {AccessRole.MONITOR: 0, AccessRole.CONTROL: 1, AccessRole.ADMIN: 2}


def _path(endpoint: Endpoint) -> str:
    route = endpoint.route.replace("{nameAndAction}", "pay:swap").replace("{idAndAction}", f"{'0' * 32}:acknowledge")
    return route.replace("{name}", "pay").replace("{id}", "0" * 16)


def _body(endpoint: Endpoint) -> object:
    return {
        "cluster_put": cluster_body(),
        "cluster_estimate": {"name": "pay", "cluster": cluster_body()},
        "cluster_validate": {"name": "pay", "cluster": cluster_body()},
        "token_create": {"name": "ci", "role": "Admin"},
        "silence_create": {"cluster": "pay", "reason": "we know", "until": "2026-11-22T13:00:00Z"},
        "silence_put": {"reason": "we know", "until": "2026-11-22T13:00:00Z"},
        "node_enrol": enrol_body(csr()),
    }.get(endpoint.name)


def _names(endpoints: list[Endpoint]) -> list[str]:
    return [endpoint.name for endpoint in endpoints]


@pytest.mark.parametrize("endpoint", GUARDED, ids=_names(GUARDED))
@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "nonsense",
        f"mp_{'0' * 16}_{'0' * 64}",
        f"mpn_{'0' * 36}_a_{'0' * 64}",
        f"mpe_{'0' * 36}_{'0' * 16}_{'0' * 64}",
    ],
    ids=["none", "empty", "nonsense", "unknown token", "unknown node", "unknown enrolment"],
)
async def test_nobody_gets_in_without_a_known_token(app: App, endpoint: Endpoint, token: str | None) -> None:
    before = app.rows.everything(without=JOURNAL)
    reply = await app.send(endpoint.method, _path(endpoint), _body(endpoint), token=token)
    assert reply.status == 401
    assert reply.code in ("Unauthenticated", "EnrolmentTokenInvalid", "CredentialLinkInvalid")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert app.rows.everything(without=JOURNAL) == before
    assert len(app.queue) == 0


@pytest.mark.parametrize("role", list(AccessRole))
@pytest.mark.parametrize("endpoint", MANAGEMENT, ids=_names(MANAGEMENT))
async def test_a_role_opens_what_it_includes_and_nothing_above(app: App, endpoint: Endpoint, role: AccessRole) -> None:
    token = await app.token(role)
    before = app.rows.everything(without=JOURNAL)
    reply = await app.send(endpoint.method, _path(endpoint), _body(endpoint), token=token)
    needed = ROLE_OF[endpoint.guard]
    if RANK[role] >= RANK[needed]:
        assert reply.status not in (401, 403)
    else:
        assert (reply.status, reply.code) == (403, "Forbidden")
        assert needed.value in reply.message
        assert app.rows.everything(without=JOURNAL) == before
        assert len(app.queue) == 0


@pytest.mark.parametrize("endpoint", NODES, ids=_names(NODES))
async def test_an_administrator_is_no_node(app: App, endpoint: Endpoint) -> None:
    reply = await app.send(endpoint.method, _path(endpoint), _body(endpoint), token=BOOTSTRAP)
    assert reply.status == 401


@pytest.mark.parametrize("endpoint", MANAGEMENT, ids=_names(MANAGEMENT))
async def test_a_node_is_no_administrator(app: App, endpoint: Endpoint) -> None:
    await app.provisioned()
    credential = await app.enrolled()
    for token in (credential, await app.enrolment_token("b")):
        reply = await app.send(endpoint.method, _path(endpoint), _body(endpoint), token=token)
        assert reply.status == 401


async def test_health_is_open_and_says_nothing(app: App) -> None:
    reply = await app.send("GET", "health", token=None, version=None)
    assert (reply.status, reply.body) == (200, {"status": "ok"})


async def test_a_token_that_expired_or_was_removed_ends_at_once(app: App) -> None:
    body = {"name": "ci", "role": "Monitor", "expiresAt": "2026-11-22T12:01:00Z"}
    made = (await app.send("POST", "tokens", body)).body
    assert (await app.send("GET", "clusters", token=made["token"])).status == 200
    app.clock.advance(60)
    assert (await app.send("GET", "clusters", token=made["token"])).status == 401

    other = (await app.send("POST", "tokens", {"name": "cd", "role": "Monitor"})).body
    listed = (await app.send("GET", "tokens")).body["value"]
    assert {entry["id"] for entry in listed} == {made["id"], other["id"]}
    assert "token" not in listed[0]
    for _ in range(2):
        assert (await app.send("DELETE", f"tokens/{other['id']}")).status == 204
    assert (await app.send("GET", "clusters", token=other["token"])).status == 401


async def test_secrets_are_never_stored(app: App) -> None:
    made = (await app.send("POST", "tokens", {"name": "ci", "role": "Monitor"})).body
    await app.provisioned()
    enrolment = await app.enrolment_token("a")
    reply = await app.send("POST", "nodes/enrol", enrol_body(csr()), token=enrolment)
    stored = app.rows.everything()
    for text in (made["token"], enrolment, reply.body["nodeCredential"], BOOTSTRAP):
        assert text.rpartition("_")[2] not in stored
    assert "PRIVATE KEY" not in stored


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "role": "Monitor"},
        {"name": "x"},
        {"name": "x", "role": "Root"},
        {"name": "x", "role": "Monitor", "expiresAt": "2020-01-01T00:00:00Z"},
        {"name": "x", "role": "Monitor", "extra": 1},
    ],
)
async def test_a_bad_token_request_is_refused(app: App, body: dict[str, object]) -> None:
    assert (await app.send("POST", "tokens", body)).status == 400


def _platform_principal(*roles: str, identity: str | None = "11111111") -> str:
    claims = [{"typ": "roles", "val": role} for role in roles]
    if identity is not None:
        claims.append({"typ": "oid", "val": identity})
    return base64.b64encode(json.dumps({"auth_typ": "aad", "claims": claims}).encode()).decode()


@pytest.fixture
def entra(app: App) -> Iterator[App]:
    changed = app.reconfigured(easy_auth=True)
    with installed(changed.plane):
        yield changed


async def test_a_forged_platform_principal_is_ignored_unless_the_platform_is_in_front(app: App) -> None:
    headers = {"X-MS-CLIENT-PRINCIPAL": _platform_principal("Admin")}
    assert (await app.send("GET", "clusters", token=None, headers=headers)).status == 401


async def test_a_platform_principal_has_the_roles_of_its_claims(entra: App) -> None:
    async def status(header: str, method: str = "GET") -> int:
        headers = {"X-MS-CLIENT-PRINCIPAL": header}
        return (await entra.send(method, "clusters/none", token=None, headers=headers)).status

    assert await status(_platform_principal("Monitor")) == 404
    assert await status(_platform_principal("Monitor"), "DELETE") == 403
    assert await status(_platform_principal("Admin"), "DELETE") == 204
    assert await status(_platform_principal("Root")) == 403
    assert await status(_platform_principal("Admin", identity=None)) == 401
    for broken in ("%%%", base64.b64encode(b"[]").decode(), base64.b64encode(b'{"claims": 3}').decode()):
        assert await status(broken) == 401


def test_roles_include_the_ones_below() -> None:
    for role in AccessRole:
        principal = Principal("x", "x", "token", frozenset({role}))
        assert {needed for needed in AccessRole if principal.may(needed)} == {
            needed for needed in AccessRole if RANK[needed] <= RANK[role]
        }
    assert not Principal("x", "x", "token", frozenset()).may(AccessRole.MONITOR)
