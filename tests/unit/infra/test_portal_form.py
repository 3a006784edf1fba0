"""The form behind the button asks for parameters the template has, and lets nothing through that it would refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from shared.model.principal import AccessRole
from tests.unit.infra.sent_bodies import INFRA, control_plane, template

# Parameters the form leaves at their default, and why.
NOT_ASKED: Final = {
    "tags": "the portal has its own step for tags only in managed applications; azd and the command line give them",
    "wrappingKeyPrevious": "only for a rotation, which is a deployment by command line",
    "agentWheel": "changes with the release",
    "instanceMemoryMB": "the default is enough",
    "maximumInstanceCount": "the default is enough",
    "entraTenantId": "the tenant of the subscription",
    "retentionDays": "can be changed as an app setting",
    "windows": "a preview, for those who have read docs/windows.md",
    "windowsArtifacts": "goes with it",
    "logRetentionDays": "can be changed at the workspace",
}


def form() -> dict[str, Any]:
    found: dict[str, Any] = template("createUiDefinition.json")["parameters"]
    return found


def elements() -> Iterator[tuple[str, dict[str, Any]]]:
    for step in form()["steps"]:
        for element in step["elements"]:
            yield step["name"], element


def element(name: str) -> dict[str, Any]:
    (found,) = [found for _, found in elements() if found["name"] == name]
    return found


def test_every_output_is_a_parameter_and_every_parameter_is_asked_or_known_not_to_be() -> None:
    parameters = set(template("azuredeploy.json")["parameters"])
    outputs = set(form()["outputs"])
    assert outputs - parameters == set()
    assert parameters - outputs == set(NOT_ASKED)


def test_every_output_names_an_element_that_is_there() -> None:
    there = {(step, found["name"]) for step, found in elements()}
    used = set()
    for name, value in form()["outputs"].items():
        for step, picked in re.findall(r"steps\('(\w+)'\)\.(\w+)", value):
            assert (step, picked) in there, f"{name} takes {step}.{picked}"
            used.add((step, picked))
    assert {pair for pair in there if element(pair[1])["type"] != "Microsoft.Common.InfoBox"} == used


@pytest.mark.parametrize("name", ["networking", "storageSku"])
def test_a_list_offers_what_the_template_allows(name: str) -> None:
    offered = element(name)["constraints"]["allowedValues"]
    assert {entry["value"] for entry in offered} == set(
        template("azuredeploy.json")["parameters"][name]["allowedValues"]
    )
    assert element(name)["defaultValue"] in {entry["label"] for entry in offered}


def test_the_slider_ends_where_the_template_does() -> None:
    slider, parameter = element("alwaysReadyHttpInstances"), template("azuredeploy.json")["parameters"]
    limits = parameter["alwaysReadyHttpInstances"]
    assert (slider["min"], slider["max"]) == (limits["minValue"], limits["maxValue"])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("wrappingKey", ["", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="], ["MDEy", "x" * 44, "A" * 43 + "=A"]),
        ("bootstrapTokenSha256", ["", "0" * 64], ["0" * 63, "G" * 64, "A" * 64]),
        (
            "addressSpace",
            ["10.90.0.0/24", "192.168.0.0/16"],
            ["10.90.0.0", "10.90.0.0/28", "8.8.8.0/24", "10.0.0.999/24"],
        ),
        ("entraClientId", ["", "cccccccc-0000-0000-0000-000000000003"], ["cccccccc", "my app"]),
        ("alertEmail", ["", "night@example.net"], ["night", "a b@example.net"]),
        ("alertWebhooks", ["", "[]", '[{"name":"x"}]'], ["{}", "x"]),
        ("packageUri", ["", "https://example.net/x.zip?sig=1"], ["http://example.net/x.zip", "x.zip"]),
    ],
)
def test_a_field_takes_good_values_and_refuses_bad_ones(name: str, good: list[str], bad: list[str]) -> None:
    constraints = element(name)["constraints"]
    assert constraints["validationMessage"]
    for value in good:
        assert re.search(constraints["regex"], value), value
        if value:
            control_plane(**{name: value})
    for value in bad:
        assert not re.search(constraints["regex"], value), value


def test_secrets_are_typed_in_secret_and_never_put_out() -> None:
    for name, entry in template("azuredeploy.json")["parameters"].items():
        if entry["type"] == "securestring" and name in form()["outputs"] and name != "packageUri":
            assert element(name)["type"] == "Microsoft.Common.PasswordBox", name
    outputs = json.dumps(template("azuredeploy.json")["outputs"])
    assert "listKeys" not in outputs
    assert "parameters(" not in outputs


def test_the_entra_roles_are_those_of_the_code() -> None:
    roles = json.loads((INFRA / "entra" / "app-roles.json").read_text(encoding="utf-8"))
    assert [role["value"] for role in roles] == [role.value for role in AccessRole]
    assert len({role["id"] for role in roles}) == len(roles)
