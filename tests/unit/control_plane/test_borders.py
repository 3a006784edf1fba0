"""The borders of the control plane, as imports: who may talk to storage, to Azure, to the agent."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STORAGE = ("azure.data", "azure.storage")
ARM = ("azure.mgmt", "azure.monitor", "azure.eventgrid")


def _imports(*packages: str) -> Iterator[tuple[str, str]]:
    """(file, imported module), also of imports inside functions."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text(), name)):
                match node:
                    case ast.Import(names=names):
                        yield from ((name, alias.name) for alias in names)
                    case ast.ImportFrom(module=str(module), names=names):
                        yield name, module
                        yield from ((name, f"{module}.{alias.name}") for alias in names)


def _strangers(modules: tuple[str, ...], allowed: str, *packages: str) -> list[tuple[str, str]]:
    return [
        (path, module)
        for path, module in _imports(*packages)
        if any(module == name or module.startswith(f"{name}.") for name in modules) and not path.startswith(allowed)
    ]


def test_only_the_store_talks_to_storage() -> None:
    assert _strangers(STORAGE, "shared/store/", "shared", "functions") == []


def test_only_shared_azure_talks_to_arm() -> None:
    assert _strangers(ARM, "shared/azure/", "shared", "functions") == []


def test_the_domain_does_not_know_its_triggers() -> None:
    assert _strangers(("azure.functions", "functions"), "functions/", "shared") == []


def test_the_control_plane_knows_only_the_contract_of_the_agent_and_how_certificates_are_made() -> None:
    """Certificates are issued by one code: a pair without a control plane issues them on its nodes."""
    issuing = {"mirror_agent.authority", "mirror_agent.client_certificates"}
    named = {
        (place, ".".join(module.split(".")[:2]))
        for place, module in _imports("shared", "functions")
        if module.startswith("mirror_agent")
    }
    assert {module for _, module in named} == {"mirror_agent.contract", *issuing}
    assert {place for place, module in named if module in issuing} == {
        "shared/security/authority.py",
        "shared/security/client_certificates.py",
    }


@pytest.mark.parametrize("package", ["shared/model", "shared/health"])
def test_models_and_verdicts_are_pure(package: str) -> None:
    impure = ("time", "asyncio", "threading", "socket", "ssl", "os", "random", "secrets", "logging", "subprocess")
    assert _strangers((*impure, "aiohttp", "azure", "uuid", "shared.store", "shared.azure"), "-", package) == []


def test_functions_decide_nothing() -> None:
    """No condition and no loop in a trigger module: parse, one call into shared/, answer."""
    deciding = (ast.If, ast.IfExp, ast.While, ast.For)
    files = sorted((ROOT / "functions").glob("*.py"))
    found = [
        file.name for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, deciding)
    ]
    assert found == []
