"""What decides has no clock, no I/O, no randomness and no log; what acts is elsewhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "remediation"
PURE = ("rules", "model", "sight", "watch", "plan", "settle", "policy", "last_look", "commands", "journal")
FORBIDDEN = ("time", "asyncio", "os", "random", "secrets", "logging", "uuid", "socket", "shared.structured_log")
FORBIDDEN_PREFIXES = ("shared.azure", "azure", "aiohttp", "shared.api.plane", "shared.composition")


@pytest.mark.parametrize("name", PURE)
def test_a_deciding_module_is_pure(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{name} waits for something"
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            assert module not in FORBIDDEN
            assert not module.startswith(FORBIDDEN_PREFIXES)
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("utcnow", "today"), f"{name} asks a clock"
