"""The Bicep of infra/: two parsers read it, the templates here are what it says, and it keeps the rules of the house.

The Bicep command line is not in any package registry, so tools/bicep compiles; `pycep`, which shares no code with it,
reads the same files here and must see the same resources.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pycep import BicepParser

from tests.unit.infra.sent_bodies import EVERYTHING, INFRA, ROOT, control_plane, template
from tools.bicep.__main__ import TEMPLATES, render
from tools.bicep.syntax import BicepError, Source
from tools.bicep.template import compile_file

FILES: Final = sorted(INFRA.rglob("*.bicep"))
# Built-in roles by the ids of learn.microsoft.com/azure/role-based-access-control/built-in-roles.
ROLES: Final = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "d5a91429-5739-47e2-a06b-3470a27159e7": "EventGrid Data Sender",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_both_parsers_read_it_and_see_the_same(path: Path) -> None:
    Source(path)
    seen: dict[str, Any] = dict(BicepParser().parse(text=path.read_text(encoding="utf-8")))
    compiled = compile_file(path)
    resources, modules = seen.get("resources", {}), seen.get("modules", {})
    assert set(compiled["resources"]) == {*resources, *modules}
    for name, found in resources.items():
        entry = compiled["resources"][name]
        assert (entry["type"], entry["apiVersion"]) == (found["type"], found["api_version"])
        body = {key: value for key, value in entry.items() if key not in ENVELOPE}
        written = {key: value for key, value in _body(found).items() if key not in ENVELOPE}
        assert list(_differences(written, body, name)) == []
    for name, found in modules.items():
        given = compiled["resources"][name]["properties"]["parameters"]
        assert set(_body(found).get("params", {})) == set(given)
    assert set(seen.get("parameters", {})) == set(compiled.get("parameters", {}))
    assert set(seen.get("outputs", {})) == set(compiled.get("outputs", {}))


# Said in another way in a template than in Bicep; dependsOn is followed when a template is deployed on paper.
ENVELOPE: Final = frozenset(
    {"type", "apiVersion", "name", "parent", "scope", "dependsOn", "condition", "copy", "existing"}
)


def _body(found: dict[str, Any]) -> dict[str, Any]:
    """What pycep read, without the condition or loop around it."""
    config: dict[str, Any] = found["config"]
    while "config" in config and {"condition", "loop_type"} & set(config):
        config = config["config"]
    return config


def _differences(read: Any, compiled: Any, path: str) -> Iterator[str]:
    """Where the two disagree: names at any depth, and values that are not computed."""
    if isinstance(compiled, str) and compiled.startswith("["):
        return
    if isinstance(compiled, dict) and isinstance(read, dict):
        names = {key.strip("'"): value for key, value in read.items() if "${" not in key}
        plain = {key: value for key, value in compiled.items() if not key.startswith("[")}
        if set(names) != set(plain) or len(read) != len(compiled):
            yield f"{path}: {sorted(names)} is read, {sorted(plain)} is compiled"
            return
        for key, value in plain.items():
            yield from _differences(names[key], value, f"{path}.{key}")
    elif isinstance(compiled, list) and isinstance(read, list) and len(compiled) == len(read):
        for index, value in enumerate(compiled):
            yield from _differences(read[index], value, f"{path}[{index}]")
    elif isinstance(read, dict) and _loads_a_file(read):
        return  # the other parser names the file; its text is in the template
    elif read != compiled:
        yield f"{path}: {read!r} is read, {compiled!r} is compiled"


def _loads_a_file(read: dict[str, Any]) -> bool:
    called = read.get("function")
    return isinstance(called, dict) and called.get("type") == "load_text_content"


@pytest.mark.parametrize("source", TEMPLATES)
def test_the_template_in_the_repository_is_what_its_bicep_says(source: str) -> None:
    stale = "run: python -m tools.bicep"
    assert (INFRA / TEMPLATES[source]).read_text(encoding="utf-8") == render(INFRA / source), stale


def test_no_module_comes_from_elsewhere_and_none_is_left_over() -> None:
    used = set()
    for path in FILES:
        for target in re.findall(r"^module \w+ '([^']+)'", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert not target.startswith(("br:", "br/", "ts:", "ts/")), f"{path.name}: {target}"
            used.add((path.parent / target).resolve())
    assert {path for path in FILES if path.parent.name == "modules"} - used == set()


def test_every_parameter_that_a_person_gives_is_described() -> None:
    for name in ("control-plane.bicep", "main.bicep", "events.bicep"):
        for parameter, entry in compile_file(INFRA / name)["parameters"].items():
            assert entry.get("metadata", {}).get("description"), f"{name}: {parameter}"


def test_main_passes_on_only_what_the_control_plane_has_and_azd_fills_all_of_it() -> None:
    main = compile_file(INFRA / "main.bicep")
    filled = set(template("main.parameters.json")["parameters"])
    assert filled == set(main["parameters"])


def test_every_role_is_a_built_in_one_of_the_list() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FILES)
    found = set(re.findall(r"'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'", text))
    assert found == set(ROLES)


# --- what is deployed
def test_the_runtime_is_the_one_the_project_needs() -> None:
    config = control_plane().only("Microsoft.Web/sites").body["properties"]["functionAppConfig"]
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert config["runtime"] == {"name": "python", "version": needed.removeprefix(">=")}
    assert config["deployment"]["storage"]["value"].endswith(".blob.core.windows.net/app-package")


def test_no_key_opens_the_hosts_storage_and_only_the_witness_has_one() -> None:
    shared = {
        account.name[:5]: account.body["properties"]["allowSharedKeyAccess"]
        for account in control_plane().of_type("Microsoft.Storage/storageAccounts")
    }
    assert shared == {"mpst5": False, "mpwit": True}


def test_nothing_speaks_without_tls() -> None:
    deployment = control_plane(**EVERYTHING)
    for account in deployment.of_type("Microsoft.Storage/storageAccounts"):
        assert account.body["properties"]["supportsHttpsTrafficOnly"] is True
        assert account.body["properties"]["minimumTlsVersion"] == "TLS1_2"
    assert deployment.only("Microsoft.Web/sites").body["properties"]["httpsOnly"] is True


def test_private_means_that_storage_and_vault_refuse_the_internet() -> None:
    open_, closed = control_plane(), control_plane(networking="private")
    for deployment, wanted in ((open_, "Allow"), (closed, "Deny")):
        host = next(a for a in deployment.of_type("Microsoft.Storage/storageAccounts") if a.name.startswith("mpst"))
        vault = deployment.only("Microsoft.KeyVault/vaults")
        for found in (host, vault):
            assert found.body["properties"]["networkAcls"]["defaultAction"] == wanted
    groups = [
        connection["properties"]["groupIds"][0]
        for endpoint in closed.of_type("Microsoft.Network/privateEndpoints")
        for connection in endpoint.body["properties"]["privateLinkServiceConnections"]
    ]
    assert sorted(groups) == ["blob", "queue", "table", "vault"]
    assert open_.of_type("Microsoft.Network/virtualNetworks") == []


def test_the_functions_subnet_has_a_way_out_of_its_own() -> None:
    network = control_plane(networking="nat").only("Microsoft.Network/virtualNetworks")
    for subnet in network.body["properties"]["subnets"]:
        assert subnet["properties"]["defaultOutboundAccess"] is False
    functions = network.body["properties"]["subnets"][0]["properties"]
    assert functions["natGateway"]["id"]
    assert functions["delegations"][0]["properties"]["serviceName"] == "Microsoft.App/environments"


def test_a_deployment_without_the_wrapping_key_leaves_the_one_in_the_vault_alone() -> None:
    names = [secret.name.rsplit("/", 1)[1] for secret in control_plane().of_type("Microsoft.KeyVault/vaults/secrets")]
    assert names == ["witness-storage"]


def test_sign_in_lets_nodes_and_tokens_through_to_the_code() -> None:
    assert not [r for r in control_plane().resources if r.key == "Microsoft.Web/sites/config/authsettingsV2"]
    auth = control_plane(**EVERYTHING).only("Microsoft.Web/sites/config/authsettingsV2").body["properties"]
    assert auth["globalValidation"]["unauthenticatedClientAction"] == "AllowAnonymous"
    routes = {f"/{route}" for route in re.findall(r'route\("(api/[^"{]+)"', _functions())}
    assert set(auth["globalValidation"]["excludedPaths"]) <= routes


def _functions() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (ROOT / "functions").glob("*.py"))


def test_the_alerts_on_a_stale_audit_ask_for_what_there_is() -> None:
    deployment = control_plane(**EVERYTHING)
    rule = deployment.only("Microsoft.Insights/scheduledQueryRules").body["properties"]
    asked = re.search(r'OperationName == "(\w+)"', rule["criteria"]["allOf"][0]["query"])
    assert asked is not None
    assert f'function_name("{asked[1]}")' in _functions()
    assert (
        deployment.only("Microsoft.Insights/webtests")
        .body["properties"]["Request"]["RequestUrl"]
        .endswith("/api/health")
    )
    assert 'route("api/health"' in _functions()


# --- the compiler
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("param x string = yy", "'yy' is no parameter"),
        ("var x = lenght('a')", "'lenght' is no function"),
        ("resource a 'T/a@1' = {\n  name: b.id\n}\nresource b 'T/b@1' = {\n  name: 'b'\n  tags: { x: a.id }\n}", ""),
        ("resource a 'T/a@1' = {\n  name: 'a'\n  dependsOn: [c]\n}", "c"),
        ("resource a 'T/a@1' = {\n  name: 'a'\n", "does not parse"),
        ("@maxLenght(3)\nparam x string", "@maxLenght"),
        (
            "module m 'm.bicep' = {\n  name: 'm'\n  params: {\n    nme: 'x'\n  }\n}",
            "unknown parameters ['nme'], missing ['name']",
        ),
    ],
)
def test_a_mistake_is_an_error_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.bicep").write_text("param name string\n", encoding="utf-8")
    path = tmp_path / "x.bicep"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((BicepError, KeyError)) as raised:
        compile_file(path)
    assert message in str(raised.value)


def test_the_workbook_is_deployed_as_it_is_in_the_repository() -> None:
    compiled = compile_file(INFRA / "modules" / "monitoring.bicep")["resources"]["workbook"]["properties"]
    assert compiled["serializedData"] == (INFRA / "monitoring" / "workbook.json").read_text(encoding="utf-8")
    assert compiled["sourceId"].startswith("[")
