"""The PowerShell of a Windows node's first boot, by its syntax tree: nothing here runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_powershell
from mirror_agent import contract, platform

from shared.provisioning.cloudinit import ProxySettings
from shared.provisioning.windows_boot import SCRIPT, boot_settings
from tests.unit.provisioning.test_specs import windows_plan
from tests.unit.windows.boot_samples import PARAMETERS

PLATFORM = Path(platform.__file__).parent
TEXT = SCRIPT.read_text(encoding="utf-8")
# Commands that Windows PowerShell 5.1 of Windows Server 2022 and 2025 has (Microsoft Learn: Microsoft.PowerShell.*,
# Storage, NetSecurity). Another one is misspelt, or has to be looked up and written down.
KNOWN = {
    "convertfrom-json", "convertto-json", "expand-archive", "foreach-object", "format-volume", "get-childitem",
    "get-content", "get-disk", "get-filehash", "get-netfirewallrule", "get-partition", "get-service", "initialize-disk",
    "invoke-webrequest", "join-path", "move-item", "new-item", "new-itemproperty", "new-netfirewallrule", "new-object",
    "new-partition",
    "new-service", "out-host", "out-null", "remove-item", "remove-netfirewallrule", "set-content", "set-disk",
    "set-partition", "set-strictmode", "start-process", "start-service", "start-sleep", "test-path", "where-object",
    "write-output",
}  # fmt: skip


@pytest.fixture(scope="module")
def root() -> tree_sitter.Node:
    language = tree_sitter.Language(tree_sitter_powershell.language())
    return tree_sitter.Parser(language).parse(TEXT.encode()).root_node


def everything(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.children:
        yield from everything(child)


def text(node: tree_sitter.Node) -> str:
    assert node.text is not None
    return node.text.decode()


def functions(root: tree_sitter.Node) -> dict[str, tree_sitter.Node]:
    found = {}
    for node in everything(root):
        if node.type == "function_statement":
            name = next(child for child in node.children if child.type == "function_name")
            found[text(name)] = node
    return found


def test_it_is_powershell(root: tree_sitter.Node) -> None:
    wrong = [
        (node.start_point.row + 1, text(node)[:60]) for node in everything(root) if node.is_error or node.is_missing
    ]
    assert wrong == []


def test_it_is_ascii_so_that_no_encoding_changes_it() -> None:
    """Windows PowerShell takes a file without a byte order mark for the machine's code page."""
    assert TEXT.isascii()


def test_every_command_exists(root: tree_sitter.Node) -> None:
    own = {name.lower() for name in functions(root)}
    used = {text(node).lower() for node in everything(root) if node.type == "command_name"}
    assert used - own - KNOWN == set()
    assert own <= used, "a function nobody calls"


def test_every_variable_is_set_before(root: tree_sitter.Node) -> None:
    """StrictMode ends the script at one that is not; a misspelt one would do so on the node."""
    names = {text(node).lower() for node in everything(root) if node.type == "variable"}
    set_somewhere = {match.lower() for match in re.findall(r"(\$[A-Za-z_:0-9]+)\s*=(?!=)", TEXT)}
    set_somewhere |= {match.lower() for match in re.findall(r"\[[A-Za-z\[\]]+\]\s*(\$[A-Za-z_0-9]+)", TEXT)}
    set_somewhere |= {match.lower() for match in re.findall(r"foreach \((\$[A-Za-z_]+) in", TEXT)}
    set_somewhere |= {"$protocol", "$port", "$_", "$null", "$true", "$false", "$lastexitcode"}
    used = {name for name in names if not name.startswith("$env:")}
    assert {name for name in used if name not in set_somewhere and not name.startswith("@")} == set()


def test_it_is_told_what_it_asks_for() -> None:
    needed = set(re.findall(r"'(\w+)'", TEXT[TEXT.index("$Needed = @(") : TEXT.index("$Started =")]))
    assert needed == set(boot_settings(windows_plan(), PARAMETERS))
    read = set(re.findall(r"\$(?:Given|given|read)\.(\w+)", TEXT)) - {"PSObject"}
    assert read <= needed | {"proxyUrl", "noProxy"}
    behind = replace(PARAMETERS, proxy=ProxySettings("http://proxy.example.invalid:3128", ("localhost",)))
    assert set(boot_settings(windows_plan(), behind)) - needed == {"proxyUrl", "noProxy"}
    assert needed - read <= {"pythonUrl", "pythonSha256", "pipUrl", "pipSha256", "winfspUrl", "winfspSha256"} | read


def test_every_download_is_compared_with_a_hash(root: tree_sitter.Node) -> None:
    calls = [node for node in everything(root) if node.type == "command"]
    fetching = [
        node for node in calls if text(node).startswith(("Invoke-WebRequest", "Invoke-RestMethod", "Start-Bits"))
    ]
    assert len(fetching) == 1
    save = text(functions(root)["Save-Verified"])
    assert text(fetching[0]) in save
    assert save.index("Test-Sha256 $partial") < save.index("Move-Item")
    assert len([node for node in calls if text(node).startswith("Save-Verified")]) == 4
    assert re.search(r"Save-Verified \$url \$wheel \$Given\.wheelSha256 @\{ Authorization = .* \} 0", TEXT), (
        "a redirect would carry the token away"
    )


def test_the_token_is_never_written_where_it_stays(root: tree_sitter.Node) -> None:
    uses = [line.strip() for line in TEXT.splitlines() if re.search(r"\.enrolmentToken", line)]
    assert len(uses) == 2
    assert any("Authorization" in line for line in uses)
    assert any(line.startswith("enrolmentToken") for line in uses)
    for node in everything(root):
        if node.type == "command" and text(node).startswith(("Write-Step", "Write-Output")):
            assert "Token" not in text(node)
            assert "$Settings" not in text(node)


def test_a_disk_with_partitions_is_never_formatted(root: tree_sitter.Node) -> None:
    disk = text(functions(root)["Initialize-DataDisk"])
    raw = disk.index("PartitionStyle -eq 'RAW'")
    assert disk.count("Format-Volume") == disk.count("Initialize-Disk ") == 1
    assert raw < disk.index("Initialize-Disk ") < disk.index("Format-Volume -Partition $made") < disk.index("return")
    assert "Clear-Disk" not in TEXT


def test_ports_names_and_places_are_those_of_the_agent() -> None:
    ports = {int(port) for port in re.findall(r"Port = (\d+);", TEXT)}
    assert ports == {contract.PROBE_PORT, contract.CONSOLE_PORT, contract.HEARTBEAT_PORT, contract.MIRROR_PORT}
    service = (PLATFORM / "windows_service.py").read_text(encoding="utf-8")
    assert f"$ServiceName = '{re.findall(r'^NAME: Final = .(.+).$', service, re.M)[0]}'" in TEXT
    assert "mirror_agent.platform.windows_service" in TEXT
    windows = (PLATFORM / "windows.py").read_text(encoding="utf-8")
    layout = dict(re.findall(r'(\w+_dir)="(\w+)"', windows))
    assert f"Join-Path $Home_ '{layout['state_dir']}'" in TEXT
    assert f"Join-Path $Home_ '{layout['config_dir']}\\agent.json'" in TEXT
    assert '/ "Mirrorplane"' in windows
    assert "Join-Path $env:ProgramData 'Mirrorplane'" in TEXT
