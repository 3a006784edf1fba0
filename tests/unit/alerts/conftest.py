"""One control plane per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.control_plane_app import App, running_app


@pytest.fixture
def app() -> Iterator[App]:
    with running_app() as running:
        yield running
