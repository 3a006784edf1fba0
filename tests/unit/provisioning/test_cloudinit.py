"""The boot document: small, complete, understood by a strict reader, and it never formats a disk that holds data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.vm.cloudinit import parse
from lab.vm.guest.unitfile import parse_unit
from shared.provisioning.cloudinit import (
    AGENT_UNIT,
    MAX_CUSTOM_DATA_BASE64_BYTES,
    TEMPLATES,
    BootDocumentTooLarge,
    BootParameters,
    ProxySettings,
    render,
)

PARAMETERS = BootParameters(
    cluster="pay",
    cluster_id="6f1d2c3b-0000-4000-8000-00000000abcd",
    node="a",
    control_plane_url="https://plane.example.org",
    enrolment_token="mpe_token",
    wheel_name="mirror_agent-0.1.0-py3-none-any.whl",
    wheel_sha256="ab" * 32,
    packages=("python3-venv", "ca-certificates", "python3-venv"),
)


def document(**changes: Any) -> dict[str, Any]:
    text = render(dataclasses.replace(PARAMETERS, **changes))
    header, _, body = text.partition("\n")
    assert header == "#cloud-config"
    result: dict[str, Any] = yaml.safe_load(body)
    assert result == json.loads(body), "cloud-init reads YAML: both readings must agree"
    return result


def test_is_accepted_by_the_strict_reader_of_the_lab() -> None:
    plan = parse(render(PARAMETERS).encode())
    assert [mount.mount_point for mount in plan.mounts] == ["/data"]


def test_is_far_from_the_limit() -> None:
    assert len(render(PARAMETERS)) * 4 / 3 < MAX_CUSTOM_DATA_BASE64_BYTES / 2


def test_a_document_that_azure_would_refuse_is_refused_here() -> None:
    with pytest.raises(BootDocumentTooLarge, match="65535"):
        render(dataclasses.replace(PARAMETERS, packages=tuple(f"package-{n}-{'x' * 60}" for n in range(700))))


def test_the_token_is_in_one_private_file_only() -> None:
    found = document()
    holders = [entry for entry in found["write_files"] if "mpe_token" in entry["content"]]
    assert [entry["path"] for entry in holders] == ["/var/lib/mirrorplane/bootstrap.json"]
    assert holders[0]["permissions"] == "0600"
    assert json.dumps(found).count("mpe_token") == 1
    assert "mpe_token" not in repr(PARAMETERS)


def test_a_disk_with_data_is_never_formatted() -> None:
    found = document()
    assert [setup["overwrite"] for setup in found["disk_setup"].values()] == [False]
    assert [(setup["overwrite"], setup["partition"]) for setup in found["fs_setup"]] == [(False, "auto")]


def test_the_service_is_enabled_before_the_bootstrap_may_be_cut_short() -> None:
    assert document()["runcmd"] == [
        ["systemctl", "enable", AGENT_UNIT],
        ["/usr/bin/python3", "/var/lib/mirrorplane/bootstrap.py"],
        ["systemctl", "enable", "--now", AGENT_UNIT],
    ]


def test_behind_a_proxy_packages_bootstrap_and_agent_use_it() -> None:
    proxy = ProxySettings("http://proxy.example.org:3128", ("169.254.169.254", "10.0.0.4"))
    found = document(proxy=proxy)
    assert found["apt"] == {"http_proxy": proxy.url, "https_proxy": proxy.url}
    drop_in = next(entry for entry in found["write_files"] if entry["path"].endswith(".service.d/proxy.conf"))
    assert 'Environment="HTTPS_PROXY=http://proxy.example.org:3128"' in drop_in["content"].splitlines()
    assert 'Environment="no_proxy=169.254.169.254,10.0.0.4"' in drop_in["content"].splitlines()
    _enable, bootstrap, _start = found["runcmd"]
    assert bootstrap[0] == "env"
    assert "https_proxy=http://proxy.example.org:3128" in bootstrap
    assert bootstrap[-2:] == ["/usr/bin/python3", "/var/lib/mirrorplane/bootstrap.py"]
    assert "proxy" not in json.dumps(document())


def test_packages_are_listed_once() -> None:
    assert document()["packages"] == ["python3-venv", "ca-certificates"]


def test_the_unit_starts_the_supervisor_and_keeps_mounts_visible() -> None:
    text = (TEMPLATES / AGENT_UNIT).read_text()
    unit = parse_unit(AGENT_UNIT, Path(AGENT_UNIT), text)
    assert unit.start[0].argv == ("/opt/mirrorplane/venv/bin/python", "-m", "mirror_agent.supervisor")
    assert unit.start_before[0].argv == ("/usr/bin/python3", "/var/lib/mirrorplane/bootstrap.py")
    assert unit.restart == "always"
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for word in ("ProtectSystem", "PrivateTmp", "PrivateDevices", "ReadWritePaths", "PrivateMounts", "ProtectClock"):
        assert not any(line.startswith(word) for line in lines), f"{word} would hide mounts or close /dev/fuse"
