"""One control plane per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control_plane_app import App, running_app


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    wheel = tmp_path / "mirror_agent-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK wheel")
    with running_app(wheel) as running:
        yield running
