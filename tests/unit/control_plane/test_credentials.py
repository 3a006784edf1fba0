"""One-time credential links: made by an Admin, used once, revocable, and what is in the file behind them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.api import credentials
from shared.model.principal import AccessRole
from shared.store.ports import Unavailable
from tests.control_plane_app import App, Reply

ANN = {"name": "ann@example.org", "role": "Control"}


async def offered(app: App, **changes: Any) -> dict[str, Any]:
    reply = await app.send("POST", "clusters/pay/credentials", {**ANN, **changes})
    assert reply.status == 201, reply.content
    assert reply.headers["cache-control"] == "no-store"
    body: dict[str, Any] = reply.body
    return body


def secret_of(link: dict[str, Any]) -> str:
    page, separator, secret = link["url"].partition("/#/credential/")
    assert separator, "the secret is behind #, where a browser sends it to nobody"
    assert page == "https://control.example.org"
    return str(secret)


async def redeem(app: App, link: dict[str, Any]) -> Reply:
    return await app.send("POST", "credential-downloads", token=secret_of(link), version=None)


async def test_the_file_holds_a_client_certificate_of_the_clusters_authority(app: App) -> None:
    await app.provisioned()
    credential = await app.enrolled()
    assert credential
    reply = await redeem(app, await offered(app, validDays=30))
    assert reply.status == 200, reply.content
    assert reply.headers["cache-control"] == "no-store"
    body = reply.body
    key, certificate, chain = pkcs12.load_key_and_certificates(
        base64.b64decode(body["pkcs12"]), body["password"].encode()
    )
    authority = x509.load_pem_x509_certificate(body["caPem"].encode())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert certificate is not None
    assert [entry.subject for entry in chain] == [authority.subject]
    certificate.verify_directly_issued_by(authority)
    assert key.public_key() == certificate.public_key()
    names = {attribute.oid: attribute.value for attribute in certificate.subject}
    assert names[NameOID.COMMON_NAME] == "ann@example.org"
    assert names[NameOID.ORGANIZATIONAL_UNIT_NAME] == "Control"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert (certificate.not_valid_after_utc - app.clock()).days == 30
    assert body["consoleUrls"][0] == "https://198.51.100.9:9453/"
    assert body["testUrl"] == "https://198.51.100.9:9453/mosaic"
    with pytest.raises(ValueError):
        pkcs12.load_key_and_certificates(base64.b64decode(body["pkcs12"]), b"wrong")


async def test_a_link_works_once(app: App) -> None:
    await app.provisioned()
    link = await offered(app)
    assert (await redeem(app, link)).status == 200
    again = await redeem(app, link)
    assert (again.status, again.code) == (403, "CredentialLinkUsed")
    assert "revoked at once" in again.message


async def test_two_downloads_at_once_are_one(app: App) -> None:
    await app.provisioned()
    link = await offered(app)
    replies = await asyncio.gather(*(redeem(app, link) for _ in range(5)))
    assert sorted(reply.status for reply in replies) == [200, 403, 403, 403, 403]


async def test_a_failed_write_hands_out_nothing_and_uses_nothing_up(app: App) -> None:
    await app.provisioned()
    await app.enrolled()
    link = await offered(app)
    app.rows.fail("replace", "credentials", Unavailable("away"))
    assert (await redeem(app, link)).code == "StorageUnavailable"
    assert (await redeem(app, link)).status == 200


async def test_a_link_expires(app: App) -> None:
    await app.provisioned()
    link = await offered(app, linkValidHours=1)
    app.clock.advance(3600)
    assert (await redeem(app, link)).code == "CredentialLinkInvalid"
    listed = (await app.send("GET", "clusters/pay/credentials")).body["value"]
    assert [entry["state"] for entry in listed] == ["expired"]


@pytest.mark.parametrize("token", ["", "mpc_x", "mpc_" + "0" * 36 + "_" + "0" * 16 + "_" + "0" * 64])
async def test_any_other_text_opens_nothing(app: App, token: str) -> None:
    await app.provisioned()
    await offered(app)
    reply = await app.send("POST", "credential-downloads", token=token, version=None)
    assert (reply.status, reply.code) == (401, "CredentialLinkInvalid")


async def test_a_revoked_link_opens_nothing(app: App) -> None:
    await app.provisioned()
    link = await offered(app)
    revoked = await app.send("DELETE", f"clusters/pay/credentials/{link['id']}")
    assert (revoked.status, revoked.body["state"]) == (200, "revoked")
    assert (await redeem(app, link)).code == "CredentialLinkInvalid"
    assert (await app.record()).revoked_serials == ()


async def test_a_revoked_certificate_is_told_to_the_nodes_until_it_would_have_ended(app: App) -> None:
    await app.provisioned()
    node = await app.enrolled()
    link = await offered(app, validDays=1)
    body = (await redeem(app, link)).body
    _, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(body["pkcs12"]), body["password"].encode())
    assert certificate is not None
    assert (await app.beat(node)).body["revokedSerials"] == []
    await app.send("DELETE", f"clusters/pay/credentials/{link['id']}")
    assert (await app.beat(node)).body["revokedSerials"] == [f"{certificate.serial_number:X}"]
    app.clock.advance(86400)
    other = await offered(app)
    await app.send("DELETE", f"clusters/pay/credentials/{other['id']}")
    assert (await app.beat(node)).body["revokedSerials"] == []


async def test_neither_key_nor_password_nor_link_is_stored_or_logged(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    await app.provisioned()
    link = await offered(app)
    body = (await redeem(app, link)).body
    stored = app.rows.everything()
    for text in (secret_of(link), secret_of(link).rpartition("_")[2], body["password"], body["pkcs12"][:60]):
        assert text not in stored
        assert text not in caplog.text


async def test_who_offered_downloaded_and_revoked_is_in_the_journal(app: App) -> None:
    await app.provisioned()
    app.clock.advance(1)
    link = await offered(app)
    app.clock.advance(1)
    await redeem(app, link)
    app.clock.advance(1)
    await app.send("DELETE", f"clusters/pay/credentials/{link['id']}")
    entries = (await app.send("GET", "journal")).body["value"]
    assert [(entry["what"], entry["principalName"]) for entry in entries][:3] == [
        ("credential_delete", "bootstrap token"),
        ("credential_redeem", "ann@example.org"),
        ("credential_create", "bootstrap token"),
    ]


@pytest.mark.parametrize(
    ("change", "target"),
    [({"role": "Owner"}, "role"), ({"name": "a\nb"}, "name"), ({"validDays": 0}, "validDays"), ({"x": 1}, "x")],
)
async def test_a_bad_request_is_named(app: App, change: dict[str, Any], target: str) -> None:
    await app.provisioned()
    reply = await app.send("POST", "clusters/pay/credentials", {**ANN, **change})
    assert (reply.status, reply.target) == (400, target)


async def test_a_control_token_offers_nothing(app: App) -> None:
    await app.provisioned()
    token = await app.token(AccessRole.CONTROL)
    assert (await app.send("POST", "clusters/pay/credentials", ANN, token=token)).status == 403
    assert json.loads((await app.send("GET", "clusters/pay/credentials")).content)["value"] == []


async def test_a_link_of_a_cluster_that_was_deleted_and_made_again(app: App) -> None:
    await app.provisioned()
    link = await offered(app)
    found = await app.plane.store.clusters.get("pay")
    assert found is not None
    await app.plane.store.clusters.delete(found.value, found.etag)
    await app.provisioned()
    assert (await redeem(app, link)).code == "ClusterNotFound"


async def test_a_full_list_forgets_what_is_over_and_nothing_else(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "MAX_CREDENTIALS", 3)
    await app.provisioned()
    unused = await offered(app, linkValidHours=1)
    used = await offered(app, validDays=90)
    await redeem(app, used)
    await app.send("DELETE", f"clusters/pay/credentials/{used['id']}")
    app.clock.advance(3600)
    kept = [await offered(app) for _ in range(2)]
    listed = {entry["id"] for entry in (await app.send("GET", "clusters/pay/credentials")).body["value"]}
    assert listed == {used["id"], *(link["id"] for link in kept)}, "the revoked certificate has to be refused on"
    assert unused["id"] not in listed
    full = await app.send("POST", "clusters/pay/credentials", ANN)
    assert (full.status, full.code) == (409, "TooManyCredentials")
    app.clock.advance(90 * 86400)
    assert (await app.send("POST", "clusters/pay/credentials", ANN)).status == 201
