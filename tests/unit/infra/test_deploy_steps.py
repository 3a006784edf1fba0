"""docs/deploy.md and azd's hooks speak of what there is, and the hooks do what they say."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.unit.infra.sent_bodies import EVENTS, INFRA, ROOT, template

TEXT: Final = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
ENVIRONMENT: Final = {
    name
    for entry in template("main.parameters.json")["parameters"].values()
    for name in re.findall(r"\$\{(\w+)", entry["value"])
}


def test_every_file_it_names_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
    for path in re.findall(r"(?<![\w/])(?:infra|tools)/[\w./-]+\.(?:json|py|bicep|sh)", TEXT):
        assert (ROOT / path).exists(), path


def test_every_variable_and_parameter_it_names_is_one() -> None:
    outputs = {"MIRRORPLANE_URL"}
    assert set(re.findall(r"\bMIRRORPLANE_[A-Z0-9_]+", TEXT)) - ENVIRONMENT - outputs == set()
    parameters = set(template("azuredeploy.json")["parameters"]) | set(template("events.json")["parameters"])
    parameters |= set(template("cluster/azuredeploy.json")["parameters"])
    assert set(re.findall(r"[` ](\w+)=", TEXT)) - {"token"} <= parameters
    assert set(EVENTS) - {"tags"} == set(re.findall(r"(\w+Name)=…", TEXT))


def test_azd_runs_hooks_that_are_there() -> None:
    project = yaml.safe_load((ROOT / "azure.yaml").read_text(encoding="utf-8"))
    for hook in project["hooks"].values():
        assert os.access(ROOT / hook["run"], os.X_OK), hook["run"]
    service = project["services"]["control-plane"]
    assert (ROOT / service["hooks"]["prepackage"]["run"].split()[1]).exists()
    assert (INFRA / f"{project['infra']['module']}.bicep").exists()


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Programs `azd` and `az` that write down how they were called."""
    for name in ("azd", "az"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >> {tmp_path}/asked\n', encoding="utf-8")
        program.chmod(0o755)
    (tmp_path / "asked").write_text("", encoding="utf-8")
    return tmp_path / "asked"


def run(hook: str, asked: Path, **environment: str) -> str:
    path = f"{asked.parent}:{os.environ['PATH']}"
    command = ["sh", str(INFRA / "hooks" / hook)]
    done = subprocess.run(
        command, env={"PATH": path, **environment}, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_secrets_are_made_once_and_the_key_is_forgotten_when_the_vault_has_it(asked: Path) -> None:
    printed = run("preprovision.sh", asked)
    made = dict(re.findall(r"azd env set (\w+) (\S+)", asked.read_text(encoding="utf-8")))
    assert len(base64.b64decode(made["MIRRORPLANE_WRAPPING_KEY"], validate=True)) == 32
    token = printed.split()[-1]
    assert made["MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256"] == hashlib.sha256(token.encode()).hexdigest()
    assert set(made) <= ENVIRONMENT

    run("postprovision.sh", asked)
    last = asked.read_text(encoding="utf-8").splitlines()[-2:]
    assert last == ["azd env set MIRRORPLANE_WRAPPING_KEY ", "azd env set MIRRORPLANE_WRAPPING_KEY_IN_VAULT true"]

    asked.write_text("", encoding="utf-8")
    # The second time, also after somebody took the first token away.
    kept = {"MIRRORPLANE_WRAPPING_KEY_IN_VAULT": "true", "MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256": ""}
    assert run("preprovision.sh", asked, **kept) == ""
    assert asked.read_text(encoding="utf-8") == ""


def test_platform_events_are_subscribed_with_the_outputs_of_main(asked: Path) -> None:
    outputs = set(re.findall(r"^output (AZURE_\w+)", (INFRA / "main.bicep").read_text(encoding="utf-8"), re.MULTILINE))
    run("postdeploy.sh", asked, **{name: f"the-{name}" for name in outputs})
    said = asked.read_text(encoding="utf-8")
    assert "--template-file infra/events.json" in said
    given = dict(re.findall(r"(\w+)=the-(\w+)", said))
    assert set(given) == set(EVENTS) - {"tags"}
