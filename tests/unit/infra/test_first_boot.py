"""The first boot of a node, judged by what carries it out: cloud-init's own schema, systemd's own check.

The boot document is also what the lab boots (tests/lab/provisioning). The schema is of Debian 12's cloud-init 22.4, the
oldest among the images; `tools/setup.sh --tests` unpacks it.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import pytest

from shared.provisioning.cloudinit import AGENT_UNIT, TEMPLATES, BootParameters, ProxySettings, cloud_config
from tests.unit.infra.sent_bodies import ROOT

SCHEMA: Final = ROOT / "build" / "cloud-init" / "schema.json"
SYSTEMD: Final = shutil.which("systemd-analyze")
PLAIN: Final = BootParameters(
    cluster="pay",
    cluster_id="6f1d2c3b-0000-4000-8000-00000000abcd",
    node="a",
    control_plane_url="https://plane.example.org",
    enrolment_token="mpe_token",
    wheel_name="mirror_agent-0.1.0-py3-none-any.whl",
    wheel_sha256="ab" * 32,
    packages=("python3-venv", "ca-certificates"),
)
PROXIED: Final = dataclasses.replace(PLAIN, proxy=ProxySettings("http://proxy.example.org:3128", ("169.254.169.254",)))


def lacking(what: str) -> None:
    """A build server must have it; elsewhere the test is skipped and says why."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    if not SCHEMA.exists():
        lacking(f"{SCHEMA.relative_to(ROOT)} is not there: tools/setup.sh --tests fetches it (Debian's cloud-init)")
    found: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return found


def complaints(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """What `cloud-init schema` says; and keys no module knows, which only later versions of it tell."""
    found = [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft4Validator(schema).iter_errors(document)
    ]
    known = {name for module in schema["$defs"].values() for name in module.get("properties", {})}
    return found + [f"{name} is no key" for name in document if name not in known]


@pytest.mark.parametrize("parameters", [PLAIN, PROXIED], ids=["plain", "proxied"])
def test_cloud_init_takes_the_boot_document(schema: dict[str, Any], parameters: BootParameters) -> None:
    assert complaints(schema, cloud_config(parameters)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("runcmdd",), []),
        (("mounts",), "/data"),
        (("write_files", 0, "permission"), "0600"),
        (("write_files", 0, "permissions"), 600),
        (("disk_setup", "/dev/disk/azure/scsi1/lun0", "table_typ"), "gpt"),
        (("fs_setup", 0, "overwrite"), "never"),
        (("packages",), "python3-venv"),
    ],
)
def test_a_mistake_in_the_boot_document_is_seen(schema: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(cloud_config(PLAIN))
    holder: Any = document
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    assert complaints(schema, document)


@pytest.fixture
def node_root(tmp_path: Path) -> Path:
    """A node's files as far as systemd looks at them: the unit, what it starts, the distribution's own units."""
    if SYSTEMD is None:
        lacking("systemd-analyze is not installed (Debian: systemd)")
    units = Path("/usr/lib/systemd/system")
    if not units.is_dir():
        lacking(f"{units} is not there: the distribution's own units are needed")
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    shutil.copy(TEMPLATES / AGENT_UNIT, tmp_path / "etc/systemd/system")
    (tmp_path / "usr/lib/systemd").mkdir(parents=True)
    shutil.copytree(units, tmp_path / "usr/lib/systemd/system", symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    for program in ("opt/mirrorplane/venv/bin/python", "usr/bin/python3"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
    return tmp_path


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert SYSTEMD is not None
    command = [SYSTEMD, *arguments, f"--root={root}", AGENT_UNIT]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_nothing_wrong_with_the_unit(node_root: Path) -> None:
    done = analyze(node_root, "verify", "--man=no")
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_sees_a_mistake_in_the_unit(node_root: Path) -> None:
    unit = node_root / "etc/systemd/system" / AGENT_UNIT
    unit.write_text(unit.read_text(encoding="utf-8").replace("RestartSec=1", "RestartSecs=1"), encoding="utf-8")
    assert "RestartSecs" in analyze(node_root, "verify", "--man=no").stderr


def test_the_hardening_of_the_unit_is_what_systemd_makes_of_it(node_root: Path) -> None:
    """Most of systemd's list would hide the mirror's mounts or close /dev/fuse (the unit says which); what can be had
    without that is had."""
    done = analyze(node_root, "security", "--offline=true", "--json=short", "--no-pager")
    rows = json.loads(done.stdout)
    had = {row["json_field"] for row in rows if row["set"]}
    for wanted in (
        "CapabilityBoundingSet_CAP_SYS_MODULE",
        "CapabilityBoundingSet_CAP_SYS_RAWIO",
        "CapabilityBoundingSet_CAP_SYS_TIME",
        "CapabilityBoundingSet_CAP_SYSLOG",
        "CapabilityBoundingSet_CAP_MAC",
        "LockPersonality",
        "RestrictRealtime",
        "KeyringMode",
    ):
        assert any(field.startswith(wanted) for field in had), f"{wanted} is not had: {sorted(had)}"
