"""Keys over time: the wrapping key replaced while everything goes on, certificates renewed, their end announced."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

import pytest
from mirror_agent.contract import CertificateReport
from mirror_agent.net.node_certificate import fingerprint

from shared.composition import installed
from shared.model.principal import AccessRole
from shared.security.authority import NODE_VALIDITY
from shared.security.wrapping import CannotUnwrap, unwrap
from shared.settings import SettingInvalid, read_settings
from tests.control_plane_app import WRAPPING_KEY, App, csr, enrol_body, new_key
from tests.control_plane_samples import heartbeat
from tests.unit.control_plane.node_identity import IdentityNode

NEW_KEY = bytes(reversed(range(32)))
SETTINGS = {
    "MIRRORPLANE_PUBLIC_URL": "https://control.example.org",
    "MIRRORPLANE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000001",
    "MIRRORPLANE_WRAPPING_KEY": base64.b64encode(NEW_KEY).decode(),
}


async def _wrapped(app: App) -> list[str]:
    record = await app.record()
    return [entry.value.wrapped_key for entry in await app.plane.store.credentials.authorities(record.id)]


def _both(app: App) -> App:
    return app.reconfigured(wrapping_key=NEW_KEY, previous_wrapping_key=WRAPPING_KEY)


def _new_only(app: App) -> App:
    return app.reconfigured(wrapping_key=NEW_KEY)


async def test_the_wrapping_key_is_replaced_while_everything_goes_on(app: App) -> None:
    record = await app.provisioned()
    node = await IdentityNode.enrolled(app, "a")
    before = fingerprint(node.used.issuer)

    with installed(_both(app).plane):
        await node.renew()
        assert node.used.issuer_sha256 == before, "the previous key still opens"
        first = (await app.send("POST", "keys:rewrap")).body
        assert first == {"current": 0, "rewrapped": 1, "previousNeeded": 0, "unreadable": []}
        second = (await app.send("POST", "keys:rewrap")).body
        assert second == {"current": 1, "rewrapped": 0, "previousNeeded": 0, "unreadable": []}
    [wrapped] = await _wrapped(app)
    with pytest.raises(CannotUnwrap):
        unwrap(WRAPPING_KEY, wrapped, record.id)

    with installed(_new_only(app).plane):
        await node.renew()
        assert node.used.issuer_sha256 == before, "the previous key is not needed any more"
        assert (await node.beat()).status == 200


async def test_the_timer_wraps_anew_by_itself(app: App) -> None:
    record = await app.provisioned()
    await app.enrolled("a")
    with installed(_both(app).plane):
        await app.fire("key_care", None)
    [wrapped] = await _wrapped(app)
    assert unwrap(NEW_KEY, wrapped, record.id)


async def test_a_key_nobody_can_open_is_named_and_left_as_it_is(app: App) -> None:
    await app.provisioned()
    await app.enrolled("a")
    before = await _wrapped(app)
    with installed(_new_only(app).plane):
        body = (await app.send("POST", "keys:rewrap")).body
    assert body == {"current": 0, "rewrapped": 0, "previousNeeded": 0, "unreadable": ["pay"]}
    assert await _wrapped(app) == before


async def test_an_enrolment_whose_answer_was_lost_gets_the_same_credential_under_the_new_key(app: App) -> None:
    await app.provisioned()
    token, key = await app.enrolment_token("a"), new_key()
    first = await app.send("POST", "nodes/enrol", enrol_body(csr(key)), token=token, version=None)
    with installed(_both(app).plane):
        again = await app.send("POST", "nodes/enrol", enrol_body(csr(key)), token=token, version=None)
        assert again.body["nodeCredential"] == first.body["nodeCredential"]
        assert (await app.beat(again.body["nodeCredential"])).status == 200


async def test_only_an_admin_wraps_anew(app: App) -> None:
    reply = await app.send("POST", "keys:rewrap", token=await app.token(AccessRole.CONTROL))
    assert (reply.status, reply.code) == (403, "Forbidden")


def test_the_previous_key_is_optional_and_checked() -> None:
    assert read_settings(SETTINGS).previous_wrapping_key is None
    both = {**SETTINGS, "MIRRORPLANE_WRAPPING_KEY_PREVIOUS": base64.b64encode(WRAPPING_KEY).decode()}
    assert read_settings(both).wrapping_keys.all == (NEW_KEY, WRAPPING_KEY)
    with pytest.raises(SettingInvalid, match="MIRRORPLANE_WRAPPING_KEY_PREVIOUS"):
        read_settings({**SETTINGS, "MIRRORPLANE_WRAPPING_KEY_PREVIOUS": "short"})
    assert "bytes" not in repr(read_settings(both).wrapping_keys), "keys are not shown"


async def test_a_node_renews_with_its_credential_and_nobody_else(app: App) -> None:
    await app.provisioned()
    node = await IdentityNode.enrolled(app, "a")
    body = {"csrPem": csr(common_name="evil"), "agentVersion": "0.1.0"}
    for token in (None, "mpn_wrong", await app.token(AccessRole.ADMIN)):
        assert (await app.send("POST", "nodes/certificate", body, token=token, version=None)).status == 401
    app.clock.advance(NODE_VALIDITY.total_seconds() * 2 / 3)
    before = node.used
    await node.renew()
    assert node.used.certificate.subject == before.certificate.subject, "names are ours, not the request's"
    assert node.used.ends - before.ends == NODE_VALIDITY * 2 / 3
    bad = {"csrPem": "no request", "agentVersion": "0.1.0"}
    reply = await app.send("POST", "nodes/certificate", bad, token=node.credential, version=None)
    assert (reply.status, reply.code) == (400, "CertificateRequestRefused")


async def test_an_alert_stands_from_14_days_before_the_end_until_it_is_renewed(app: App) -> None:
    await app.provisioned()
    node = await IdentityNode.enrolled(app, "b")

    async def alerts() -> list[tuple[str, str]]:
        await app.fire("key_care", None)
        for _ in range(3):
            app.clock.advance(61)
            await app.fire("health_audit", None)
        found = (await app.send("GET", "alerts")).body["value"]
        return [(one["subject"], one["state"]) for one in found if one["rule"] == "certificate-expires"]

    node.failure = "https://control.example.org/api/nodes/certificate answered 503"
    app.clock.advance((NODE_VALIDITY - timedelta(days=15)).total_seconds())
    await node.beat()
    assert await alerts() == []
    app.clock.advance(timedelta(days=2).total_seconds())
    await node.beat()
    assert await alerts() == [("b", "firing")]
    stored = (await app.send("GET", "alerts")).body["value"]
    [sentence] = [one["sentence"] for one in stored if one["rule"] == "certificate-expires"]
    assert sentence.startswith("the certificate of node b expires in 12 days: https://control.example.org")
    await node.renew()
    await node.beat()
    assert [state for _, state in await alerts()] in ([], ["resolved"])


def test_a_report_without_a_time_zone_is_refused() -> None:
    values = {"serial": "AB", "issuer_sha256": "0" * 64, "trusted_sha256": ("0" * 64,)}
    assert CertificateReport(expires_utc="2028-01-01T00:00:00+00:00", **values)
    for text in ("2028-01-01T00:00:00", "soon"):
        with pytest.raises(ValueError, match=r"time zone|Invalid isoformat"):
            CertificateReport(expires_utc=text, **values)
    assert datetime.fromisoformat(heartbeat().sent_utc).tzinfo is not None
