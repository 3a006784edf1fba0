"""App settings: those the code reads are those the template sets, and with them the control plane starts."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from shared.composition import build
from tests.unit.infra.sent_bodies import EVERYTHING, ROOT, control_plane

# Read by the Functions host and the platform, not by our code. Source: azure-functions docs, app settings reference.
HOST: Final = {
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__blobServiceUri",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
}
# Alternatives the template does not use: it gives the address, and storage by identity.
NOT_SET: Final = {"WEBSITE_HOSTNAME", "AzureWebJobsStorage"}
# Flex Consumption refuses or ignores them: runtime, scale and package are in functionAppConfig.
REFUSED: Final = re.compile(
    r"FUNCTIONS_(WORKER_RUNTIME(_VERSION)?|EXTENSION_VERSION|MAX_HTTP_CONCURRENCY|WORKER_PROCESS_COUNT)"
    r"|WEBSITE_(RUN_FROM_PACKAGE|CONTENT.*|MAX_DYNAMIC.*|VNET_ROUTE_ALL|TIME_ZONE|DNS_SERVER|NODE_DEFAULT_VERSION)"
    r"|SCM_DO_BUILD_DURING_DEPLOYMENT|ENABLE_ORYX_BUILD|TZ|WEBSITES_PORT"
)


class Remembering(Mapping[str, str]):
    """Settings that remember which were asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def settings_of_template(**parameters: object) -> dict[str, str]:
    found: dict[str, str] = (
        control_plane(**parameters).only("Microsoft.Web/sites/config/appsettings").body["properties"]
    )
    return found


def resolved(settings: Mapping[str, str]) -> dict[str, str]:
    """As the app sees them: references to the vault replaced by what is in it."""
    secrets = {
        "wrapping-key": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "wrapping-key-previous": "MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "witness-storage": "DefaultEndpointsProtocol=https;AccountName=w;AccountKey=a2V5",
        "alert-webhooks": json.dumps([]),
    }
    found = {}
    for name, value in settings.items():
        reference = re.fullmatch(r"@Microsoft\.KeyVault\(SecretUri=https://[^/]+/secrets/([a-z-]+)\)", value)
        found[name] = secrets[reference[1]] if reference else value
        assert reference or not value.startswith("@"), f"{name}: the reference {value!r} is malformed"
    return found


def sources() -> dict[str, str]:
    files = [*(ROOT / "shared").rglob("*.py"), *(ROOT / "functions").rglob("*.py"), ROOT / "function_app.py"]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def names_read_beside() -> set[str]:
    """Names looked up in os.environ outside the composition root: literals only, or this cannot be known."""
    found = set()
    for name, text in sources().items():
        if "environ" not in text and "getenv" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
                first = node.args[0]
                assert isinstance(first, ast.Constant), f"{name}:{node.lineno} reads a setting with a computed name"
                found.add(str(first.value))
            elif isinstance(node, ast.Subscript):
                assert ast.unparse(node.value) != "os.environ", f"{name}:{node.lineno}: use os.environ.get"
    return found


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["least", "everything"])
async def test_the_control_plane_starts_with_what_the_template_sets_and_reads_all_of_it(
    parameters: dict[str, object],
) -> None:
    settings = settings_of_template(**parameters)
    environment = Remembering(resolved(settings))
    build(environment)
    read = environment.asked | names_read_beside()
    assert read - NOT_SET - set(settings) == set(), "read by the code, not set by infra/"
    assert set(settings) - HOST - read == set(), "set by infra/, read by nobody"


def test_every_setting_of_ours_in_the_code_is_one_of_them() -> None:
    """Also names that only some branch reads."""
    written = {name for text in sources().values() for name in re.findall(r'"(MIRRORPLANE_[A-Z0-9_]+)"', text)}
    assert written == {name for name in settings_of_template() if name.startswith("MIRRORPLANE_")}


def test_flex_consumption_takes_every_setting() -> None:
    assert [name for name in settings_of_template(**EVERYTHING) if REFUSED.fullmatch(name)] == []


def test_no_secret_stands_in_a_setting() -> None:
    settings = settings_of_template(**EVERYTHING)
    for name in ("MIRRORPLANE_WRAPPING_KEY", "MIRRORPLANE_WITNESS_STORAGE", "MIRRORPLANE_ALERT_WEBHOOKS"):
        assert settings[name].startswith("@Microsoft.KeyVault(")
    assert not any("AccountKey" in value or "SharedAccess" in value for value in settings.values())


def test_nodes_are_probed_only_from_a_known_address() -> None:
    assert settings_of_template()["MIRRORPLANE_CONTROL_PLANE_ADDRESSES"] == ""
    assert settings_of_template(networking="nat")["MIRRORPLANE_CONTROL_PLANE_ADDRESSES"] == "203.0.113.7/32"
