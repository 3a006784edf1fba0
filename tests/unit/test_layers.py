"""Who may import which part of the `azure` namespace: import-linter sees external packages only by their first name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORAGE = ("azure.data", "azure.storage")
MANAGEMENT = ("azure.mgmt", "azure.monitor", "azure.eventgrid", "azure.identity")
TRIGGERS = ("azure.functions",)

# (package folder, forbidden prefixes, folders below it that may)
RULES = [
    ("shared", TRIGGERS, ()),
    ("shared", STORAGE, ("shared/store",)),
    ("shared", MANAGEMENT, ("shared/azure", "shared/store", "shared/composition.py")),
    ("functions", STORAGE + MANAGEMENT, ()),
    ("agent/mirror_agent", TRIGGERS + MANAGEMENT, ()),
    ("agent/mirror_agent", STORAGE, ("agent/mirror_agent/net",)),
]


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("folder", "forbidden", "allowed"), RULES)
def test_only_its_owner_imports_an_sdk(folder: str, forbidden: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    files = [file for file in (ROOT / folder).rglob("*.py") if "build" not in file.parts]
    assert files, f"{folder} is empty: the rule checks nothing"
    for file in files:
        name = file.relative_to(ROOT).as_posix()
        if any(name == place or name.startswith(f"{place}/") for place in allowed):
            continue
        found = [module for module in imports(file) if module.startswith(forbidden)]
        assert not found, f"{name} imports {sorted(set(found))}; only {allowed or 'nobody'} may"


def test_the_management_sdks_are_imported_only_when_needed() -> None:
    """Importing azure-mgmt-network costs up to 1.8 s; no module may do it at its top (except for types)."""
    for file in (ROOT / "shared" / "azure").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
                assert not module.startswith("azure.mgmt."), f"{file.name}:{node.lineno} imports {module} at its top"
