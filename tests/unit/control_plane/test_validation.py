"""Bad input: the documented 4xx with code, message and target, and nothing is created."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.composition import installed
from shared.model.cluster_spec import check_name
from shared.store.journal import JOURNAL
from tests.control_plane_app import App
from tests.control_plane_samples import SSH_KEY, cluster_body
from tests.unit.windows.boot_samples import PARAMETERS

RULE = {"name": "r", "protocol": "tcp", "frontendPort": 80, "backendPort": 81}


def _rules(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**RULE, **change} for change in changes]


BAD_FIELDS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"extra": 1}, "UnknownField", "extra", "not known"),
    ({"compute__imgae": "x"}, "UnknownField", "compute.imgae", "not known"),
    ({"application__startprim": "x"}, "UnknownField", "application.startprim", "not known"),
    ({"location": "West Europe"}, "InvalidField", "location", "West Europe"),
    ({"kind": "ring"}, "InvalidField", "kind", "'mirror' or 'farm'"),
    ({"tags": {"mirrorplane-owned": "x"}}, "InvalidField", "tags", "ownership"),
    ({"compute__os": "plan9"}, "InvalidField", "compute.os", "linux"),
    ({"compute__image": "debian-21"}, "UnknownImage", "compute.image", "did you mean 'debian-1"),
    ({"compute__image": "windows-2022"}, "ImageOperatingSystemMismatch", "compute.image", "windows"),
    ({"compute__zones": ["1"]}, "InvalidField", "compute.zones", "two different zones"),
    ({"compute__zones": ["2", "2"]}, "InvalidField", "compute.zones", "two different zones"),
    ({"compute__zones": ["1", "9"]}, "InvalidField", "compute.zones[1]", "9"),
    ({"compute__vmSize": "big"}, "InvalidField", "compute.vmSize", "big"),
    ({"timing": {"promiseS": 1.0}}, "InvalidField", "timing", "set promiseS to at least 4"),
    ({"compute__dataDiskGb": 1}, "InvalidField", "compute.dataDiskGb", "4"),
    ({"compute__dataDiskGb": "32"}, "InvalidField", "compute.dataDiskGb", "integer"),
    ({"compute__adminUsername": "root"}, "InvalidField", "compute.adminUsername", "root"),
    ({"compute__sshPublicKey": "-----BEGIN"}, "InvalidField", "compute.sshPublicKey", "public key"),
    ({"compute__sshPublicKey": SSH_KEY + "\n" + SSH_KEY}, "InvalidField", "compute.sshPublicKey", "one line"),
    ({"network__addressSpace": "10.0.0.0"}, "InvalidField", "network.addressSpace", "prefix length"),
    ({"network__addressSpace": "10.0.0.5/16"}, "InvalidField", "network.addressSpace", "'10.0.0.0/16'"),
    ({"network__addressSpace": "ten/8"}, "InvalidField", "network.addressSpace", "'ten/8'"),
    ({"network__addressSpace": "fd00::/64"}, "InvalidField", "network.addressSpace", "IPv4"),
    ({"network__addressSpace": "169.254.0.0/16"}, "InvalidField", "network.addressSpace", "Azure does not allow"),
    ({"network__subnet": "10.1.0.0/24"}, "InvalidField", "network.subnet", "outside addressSpace 10.0.0.0/16"),
    ({"network__subnet": "10.0.0.0/30"}, "InvalidField", "network.subnet", "/29"),
    ({"network__adminAddresses": ["0.0.0.0/0"]}, "InvalidField", "network.adminAddresses", "whole Internet"),
    ({"network__adminAddresses": ["office"]}, "InvalidField", "network.adminAddresses", "office"),
    ({"network__frontend": "privat"}, "InvalidField", "network.frontend", "private"),
    ({"network__dnsLabel": "a_b"}, "InvalidField", "network.dnsLabel", "a_b"),
    ({"network__rules": _rules({"frontendPort": 9453})}, "InvalidField", "network.rules[0].frontendPort", "reserved"),
    ({"network__rules": _rules({"backendPort": 9010})}, "InvalidField", "network.rules[0].backendPort", "probe"),
    ({"network__rules": _rules({"backendPort": 8888})}, "InvalidField", "network.rules[0].backendPort", "heartbeats"),
    (
        {"network__rules": _rules({"frontendPort": 5600})},
        "InvalidField",
        "network.rules[0].frontendPort",
        "replication",
    ),
    ({"network__rules": _rules({"frontendPort": 0})}, "InvalidField", "network.rules[0].frontendPort", "1"),
    ({"network__rules": _rules({"name": "console"})}, "InvalidField", "network.rules[0].name", "taken"),
    ({"network__rules": _rules({"protocol": "sctp"})}, "InvalidField", "network.rules[0].protocol", "tcp"),
    (
        {"network__rules": _rules({}, {"frontendPort": 8, "backendPort": 9})},
        "InvalidField",
        "network.rules",
        "named 'r'",
    ),
    (
        {"network__rules": _rules({}, {"name": "s", "backendPort": 9})},
        "InvalidField",
        "network.rules",
        "frontendPort 80",
    ),
    (
        {"network__rules": _rules({}, {"name": "s", "frontendPort": 9})},
        "InvalidField",
        "network.rules",
        "backendPort 81",
    ),
    ({"application__name": "Bad Name"}, "InvalidField", "application.name", "Bad Name"),
    (
        {"application__replicatedPaths": [{"path": "/etc"}]},
        "InvalidField",
        "application.replicatedPaths[0].path",
        "/etc",
    ),
    ({"application__replicatedPaths": []}, "InvalidField", "application.replicatedPaths", "at least one directory"),
    ({"defaultPrimary": "c"}, "InvalidField", "defaultPrimary", "'a' or 'b'"),
    ({"timing": {"heartbeatS": -1}}, "InvalidField", "timing.heartbeatS", "0"),
]


@pytest.mark.parametrize(("changes", "code", "target", "words"), BAD_FIELDS, ids=[f"{e[2]}-{e[3]}" for e in BAD_FIELDS])
async def test_a_bad_field_is_named(app: App, changes: dict[str, Any], code: str, target: str, words: str) -> None:
    reply = await app.put(**changes)
    assert (reply.status, reply.code, reply.target) == (400, code, target)
    assert words in reply.message
    assert app.rows.everything(without=JOURNAL) == "{}"
    assert len(app.queue) == 0


WINDOWS: dict[str, Any] = {
    "compute": {"os": "windows", "image": "windows-2022"},
    "application__replicatedPaths": [{"path": "M:\\ledger"}],
}
BAD_OF_WINDOWS: list[tuple[dict[str, Any], str, str]] = [
    ({"compute": {"os": "windows"}}, "compute.image", "use one of windows-2022, windows-2025"),
    (
        {"compute": {"os": "windows", "image": "windows-2022", "sshPublicKey": SSH_KEY}},
        "compute.sshPublicKey",
        "no SSH",
    ),
    (
        {"compute": {"os": "windows", "image": "windows-2022", "adminUsername": "a" * 21}},
        "compute.adminUsername",
        "at most 20",
    ),
    ({"application__replicatedPaths": [{"path": "/data/x"}]}, "application.replicatedPaths[0].path", "M:\\app"),
    ({"application__replicatedPaths": [{"path": "D:\\x"}]}, "application.replicatedPaths[0].path", "temporary disk"),
    ({"application__replicatedPaths": [{"path": "M:\\"}]}, "application.replicatedPaths[0].path", "whole drive"),
    ({"application__replicatedPaths": [{"path": "M:\\a\\..\\b"}]}, "application.replicatedPaths[0].path", "'..'"),
    ({"application__replicatedPaths": [{"path": "M:\\com1.x"}]}, "application.replicatedPaths[0].path", "'com1.x'"),
    ({"application__replicatedPaths": [{"path": "c:\\Windows\\x"}]}, "application.replicatedPaths[0].path", "system"),
    (
        {"application__replicatedPaths": [{"path": "M:\\A"}, {"path": "m:\\a\\b"}]},
        "application",
        "lies inside",
    ),
    ({"application__packages": ["nginx"]}, "application.packages", "Linux distribution"),
    (
        {"application__checkers": [{"name": "p", "kind": "process", "unit": "x.service"}]},
        "application.checkers[0].unit",
        "service of Windows",
    ),
    (
        {"application__checkers": [{"name": "d", "kind": "disk", "path": "m:\\LEDGER\\x"}]},
        "application",
        "replicated path",
    ),
]


@pytest.mark.parametrize(("changes", "target", "words"), BAD_OF_WINDOWS, ids=[entry[2] for entry in BAD_OF_WINDOWS])
async def test_what_windows_nodes_cannot_have_is_named(
    app: App, changes: dict[str, Any], target: str, words: str
) -> None:
    reply = await app.put(**{**WINDOWS, **changes})
    assert (reply.status, reply.target) == (400, target), reply.content
    assert words in reply.message


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"compute": {"os": "linux", "image": "debian-12"}}, "compute.sshPublicKey"),
        ({"application__replicatedPaths": [{"path": "M:\\x"}]}, "application.replicatedPaths[0].path"),
        (
            {"application__checkers": [{"name": "p", "kind": "process", "unit": "Spooler"}]},
            "application.checkers[0].unit",
        ),
    ],
)
async def test_what_linux_nodes_cannot_have_is_named(app: App, changes: dict[str, Any], target: str) -> None:
    reply = await app.put(**changes)
    assert (reply.status, reply.target) == (400, target)


async def test_a_windows_cluster_is_refused_until_somebody_allows_the_preview(app: App) -> None:
    reply = await app.put(**WINDOWS)
    assert (reply.status, reply.code, reply.target) == (400, "UnsupportedOperatingSystem", "compute.os")
    assert "MIRRORPLANE_WINDOWS=preview" in reply.message
    assert "never ran" in reply.message
    estimate = await app.send("POST", "clusters:estimate", {"name": "pay", "cluster": cluster_body(**WINDOWS)})
    assert estimate.code == "UnsupportedOperatingSystem"
    settings = replace(app.plane.settings, windows=PARAMETERS.artifacts)
    with installed(replace(app.plane, settings=settings)):
        assert (await app.put(**WINDOWS)).status == 201
    upgrade = await app.send("POST", "clusters/pay:upgrade")
    assert (upgrade.status, upgrade.code) == (400, "UnsupportedOperatingSystem")
    # What is there is kept up, also when the setting has gone.
    assert (await app.put(**{**WINDOWS, "tags": {"team": "other"}})).status in (200, 409)


@pytest.mark.parametrize("missing", ["location", "compute", "application"])
async def test_a_missing_field_is_named(app: App, missing: str) -> None:
    body = cluster_body()
    del body[missing]
    reply = await app.send("PUT", "clusters/pay", body)
    assert (reply.status, reply.code, reply.target) == (400, "MissingField", missing)


async def test_all_findings_are_in_the_details(app: App) -> None:
    reply = await app.put(extra=1, location="X Y", compute__vmSize="big")
    assert {detail["target"] for detail in reply.body["error"]["details"]} == {"extra", "location", "compute.vmSize"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000],
    ids=["empty", "cut off", "list", "text", "no UTF-8", "NaN", "twice", "deep"],
)
async def test_a_body_that_is_no_json_object_is_refused(app: App, body: bytes) -> None:
    reply = await app.send("PUT", "clusters/pay", body)
    assert (reply.status, reply.code) == (400, "InvalidJson")


async def test_a_body_over_the_limit_is_refused(app: App) -> None:
    body = json.dumps(cluster_body(application__startPrim="x" * 1024 * 1024)).encode()
    reply = await app.send("PUT", "clusters/pay", body)
    assert (reply.status, reply.code) == (413, "RequestBodyTooLarge")


async def test_a_cluster_that_does_not_fit_into_the_store_is_refused(app: App) -> None:
    files = [{"path": f"f{number}", "content": "é" * 50_000} for number in range(3)]
    reply = await app.put(application__files=files)
    assert (reply.status, reply.code) == (413, "ClusterTooLarge")
    assert len(app.queue) == 0


@pytest.mark.parametrize(
    "name", ["Pay", "1pay", "p", "pay-", "-pay", "p" * 25, "pay_1", "pay.1", "päy", "pay%2f1", "pay%0a"]
)
async def test_a_bad_name_is_refused(app: App, name: str) -> None:
    reply = await app.send("PUT", f"clusters/{name}", cluster_body())
    assert (reply.status, reply.code, reply.target) == (400, "InvalidName", "name")


@pytest.mark.parametrize("name", ["pay", "p1", "a-b-c", "x" * 24])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


async def test_the_api_version_is_required_and_checked(app: App) -> None:
    reply = await app.send("GET", "clusters", version=None)
    assert (reply.status, reply.code) == (400, "MissingApiVersionParameter")
    reply = await app.send("GET", "clusters", version="2020-01-01")
    assert (reply.status, reply.code) == (400, "UnsupportedApiVersionValue")
    assert "2026-11-01" in reply.message


async def test_request_ids(app: App) -> None:
    reply = await app.send("GET", "clusters", headers={"x-ms-client-request-id": "mine-1"})
    assert reply.headers["x-ms-client-request-id"] == "mine-1"
    other = await app.send("GET", "clusters", headers={"x-ms-client-request-id": "bad\r\nid"})
    assert "x-ms-client-request-id" not in other.headers
    assert reply.headers["x-ms-request-id"] != other.headers["x-ms-request-id"]
