"""Logs are JSON and hold no secret, whatever passes through the app."""

from __future__ import annotations

import json
import logging

import pytest

from shared.store.rows import Row
from shared.structured_log import HIDDEN, Log, redact, redact_text
from tests.control_plane_app import BOOTSTRAP, App, csr, enrol_body


async def test_nothing_secret_reaches_the_log(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = (await app.send("POST", "tokens", {"name": "ci", "role": "Admin"})).body["token"]
    await app.provisioned()
    enrolment = await app.enrolment_token("a")
    answer = (await app.send("POST", "nodes/enrol", enrol_body(csr()), token=enrolment)).body
    credential = answer["nodeCredential"]
    await app.beat(credential)
    await app.send("GET", "clusters", token=made)
    await app.send("GET", f"operations/{made}")
    await app.send("GET", "clusters", token=f"{made}x", headers={"x-ms-client-request-id": made})
    await app.send("PUT", "clusters/pay", {"application": {"environment": {"PASSWORD": "hunter2"}}})
    await app.fire("platform_event", json.dumps({"id": "e", "note": f"Bearer {made}"}))
    secrets = [BOOTSTRAP, made, enrolment, credential, answer["configuration"]["witness"]["sas"], "hunter2"]
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("mirrorplane")]
    assert len(lines) > 8
    for line in lines:
        assert isinstance(json.loads(line)["event"], str)
    for secret in secrets:
        assert all(secret.rpartition("_")[2] not in record.getMessage() for record in caplog.records), secret[:8]


async def test_a_request_is_logged_with_who_what_and_how_it_ended(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reply = await app.send("GET", "clusters/none", headers={"x-ms-client-request-id": "mine-1"})
    [line] = [json.loads(record.getMessage()) for record in caplog.records if record.name == "mirrorplane.api"]
    assert line["request"] == reply.headers["x-ms-request-id"]
    assert (line["function"], line["status"], line["code"], line["caller"], line["clientRequest"]) == (
        "cluster_get",
        404,
        "ClusterNotFound",
        "bootstrap:bootstrap",
        "mine-1",
    )


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefghijkl",
        "mp_0123456789abcdef_" + "0" * 64,
        "mpe_11111111-1111-1111-1111-111111111111_0123456789abcdef_" + "0" * 64,
        "https://x.table.core.windows.net/witness?sv=1&sig=AbC%2Fd%3D&se=2",
        "AccountName=a;AccountKey=Zm9v;EndpointSuffix=x",
        "-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----",
        "https://x/api/f?code=abcdef",
    ],
)
def test_what_looks_like_a_secret_is_cut_out_of_texts(text: str) -> None:
    clean = redact_text(text)
    assert HIDDEN in clean
    for secret in ("abcdefghijkl", "0" * 64, "AbC%2Fd%3D", "Zm9v", "MHc", "code=abcdef"):
        assert secret not in clean


@pytest.mark.parametrize(
    "name",
    ["authorization", "nodeCredential", "enrolment_token", "token", "sas", "accountKey", "wrappingKey", "csrPem"],
)
def test_a_field_named_after_a_secret_is_hidden_whole(name: str) -> None:
    assert redact({"outer": {name: "value"}}) == {"outer": {name: HIDDEN}}


def test_a_traceback_passes_through_the_nets_too(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError("GET https://x?sig=verysecret failed")
    except RuntimeError as error:
        Log("mirrorplane.test").failure("broken", error)
    assert "verysecret" not in caplog.text
    assert json.loads(caplog.records[-1].getMessage())["error"].startswith("RuntimeError: GET https://x?sig=")


async def test_a_damaged_record_is_logged_without_its_content(app: App, caplog: pytest.LogCaptureFixture) -> None:
    record = await app.provisioned(application__environment={"PASSWORD": "hunter2"})
    text = record.model_dump_json(by_alias=True).replace('"startPrim"', '"startprim"')
    await app.rows.upsert("clusters", [Row("cluster", "pay", {"doc0": text})])
    assert (await app.send("GET", "clusters/pay")).status == 500
    await app.send("GET", "clusters")
    assert "row_unreadable" in caplog.text
    assert "hunter2" not in caplog.text
