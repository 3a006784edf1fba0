"""The Custom Script extension of a Windows node: secrets in protected settings only, sizes, hashes, the password."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import pytest

from lab.arm.schema import BodyCheck, model_class
from shared.provisioning.cloudinit import BootDocumentTooLarge
from shared.provisioning.windows_artifacts import Artifact
from shared.provisioning.windows_boot import (
    MAX_COMMAND_CHARS,
    boot_command,
    boot_extension,
    boot_settings,
    one_time_password,
    windows_custom_data,
)
from tests.unit.infra.facts import faults
from tests.unit.infra.sent_bodies import sdk_version
from tests.unit.provisioning.test_specs import windows_plan
from tests.unit.windows.boot_samples import PARAMETERS, TOKEN

KIND = "Microsoft.Compute/virtualMachines/extensions"


def test_the_body_is_known_to_the_sdk_and_to_the_specification() -> None:
    body = boot_extension(windows_plan(), PARAMETERS).wanted
    BodyCheck("Microsoft.Compute").check(model_class("azure.mgmt.compute", "VirtualMachineExtension"), body)
    assert faults(f"{KIND}@{sdk_version(KIND)}", body) == []


def test_secrets_are_in_the_protected_settings_alone() -> None:
    body = boot_extension(windows_plan(), PARAMETERS).wanted
    protected = body["properties"].pop("protectedSettings")
    assert list(protected) == ["commandToExecute"]
    encoded = re.findall(r"-Settings '([A-Za-z0-9+/=]+)'", protected["commandToExecute"])
    assert json.loads(base64.b64decode(encoded[0])) == boot_settings(windows_plan(), PARAMETERS)
    assert body["properties"]["settings"] == {}
    assert TOKEN not in json.dumps(body)
    assert TOKEN not in windows_custom_data()
    assert TOKEN not in repr(PARAMETERS)


def test_the_command_survives_cmd() -> None:
    """Within one pair of double quotes, and without what cmd.exe expands there."""
    command = boot_command(windows_plan(), PARAMETERS)
    assert command.count('"') == 2
    assert not set("%!^\n\r") & set(command)
    assert len(command) < MAX_COMMAND_CHARS / 2


def test_a_command_that_is_too_long_is_refused() -> None:
    many = replace(windows_plan(), admin_addresses=tuple(f"198.51.{n // 256}.{n % 256}/32" for n in range(400)))
    with pytest.raises(BootDocumentTooLarge, match="fewer addresses"):
        boot_command(many, PARAMETERS)


@pytest.mark.parametrize(
    ("url", "sha256"),
    [("http://x.invalid/a", "0" * 64), ("https://x.invalid/a", ""), ("https://x.invalid/a", "A" * 64)],
)
def test_nothing_is_downloaded_without_https_and_a_hash(url: str, sha256: str) -> None:
    with pytest.raises(ValueError, match=r"x\.invalid"):
        Artifact(url, sha256)


def test_passwords_are_what_azure_takes_and_never_the_same() -> None:
    made = {one_time_password() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        kinds = [re.search(kind, password) for kind in ("[A-Z]", "[a-z]", "[0-9]", r"[^A-Za-z0-9]")]
        assert all(kinds)
        assert 12 <= len(password) <= 123
