"""Which wheel an upgrade without a version means."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.rollout.releases import NoSuchRelease, chosen


def _wheel(directory: Path, version: str) -> Path:
    path = directory / f"mirror_agent-{version}-py3-none-any.whl"
    path.write_bytes(version.encode())
    return path


def test_without_a_version_only_the_configured_wheel_is_meant(tmp_path: Path) -> None:
    _wheel(tmp_path, "0.9.0")
    configured = _wheel(tmp_path, "1.2.0")
    assert chosen(configured, None).version == "1.2.0"


def test_a_configured_wheel_that_is_missing_is_not_replaced_by_another(tmp_path: Path) -> None:
    _wheel(tmp_path, "0.9.0")
    missing = tmp_path / "mirror_agent-1.3.0-py3-none-any.whl"
    with pytest.raises(NoSuchRelease, match=r"1\.3\.0"):
        chosen(missing, None)
    assert chosen(missing, "0.9.0").version == "0.9.0"
