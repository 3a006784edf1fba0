"""azure-functions-doctor, a linter of Functions projects by somebody else, on what of the package it understands.

No failure, and no warning but those named here with the reason why it is none; one that no longer comes is taken out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.unit.infra.sent_bodies import ROOT

# Everything else in the package declares no function; reading it costs ten seconds and finds nothing.
LOOKED_AT: Final = ("function_app.py", "host.json", "requirements.txt", ".funcignore", "functions", "infra")
PYTHON: Final = "3.13"  # infra/modules/app.bicep, functionAppConfig
NO_FAULT: Final = {
    "check_programming_model_v2": "it looks for decorators of an `app` or a `bp`; ours is called `blueprint`",
    "check_native_dependency_risk": "cryptography comes by the remote build, as the hint recommends",
    "check_app_insights": "the setting is in infra/modules/app.bicep, where it does not look",
}


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What it says, by the name of its rule."""
    project = tmp_path_factory.mktemp("doctor")
    for name in LOOKED_AT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, project / name)
    doctor = Path(sys.executable).with_name("azure-functions-doctor")
    words = ("doctor", "--path", str(project), "--profile", "deploy", "--format", "json", "--target-python", PYTHON)
    done = subprocess.run([doctor, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {item["rule_id"]: item for section in json.loads(done.stdout)["results"] for item in section["items"]}


def test_no_finding_but_those_that_are_none(looked_at: dict[str, dict[str, Any]]) -> None:
    found = {rule: item["value"] for rule, item in looked_at.items() if item["status"] not in ("pass", "skip")}
    assert found.keys() == NO_FAULT.keys(), found


def test_it_has_looked_at_what_matters(looked_at: dict[str, dict[str, Any]]) -> None:
    """A check that is skipped finds nothing either."""
    wanted = {"Blueprint registration", "Decorator order", "Binding connection resolution", "host.json version"}
    wanted |= {"Flex Consumption runtime config", "Flex Consumption deployment storage", "Pinned requirements"}
    assert wanted <= {item["label"] for item in looked_at.values() if item["status"] == "pass"}
