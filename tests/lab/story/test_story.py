"""The slice end to end, with real processes: provision while the Functions host is killed, fail over, delete, vanish.

One test, because the parts only mean something together: what one step leaves is what the next one starts from.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control import LabClient
from lab.demo.api import ControlPlane
from lab.demo.nodes import Nodes
from lab.demo.story import CLUSTER, Story
from lab.info import LabInfo
from lab.prerequisites import missing_for_browser
from tests.lab.own_lab import lab_command, own_lab
from tests.lab.story.maintenance import maintain_the_primary
from tests.lab.story.node_console import visit_the_node
from tests.lab.story.questions import question

pytestmark = pytest.mark.lab

HOST_KILLS = 3
PAUSE_BETWEEN_KILLS_S = 3.0
PAIRED_WITHIN_S = 60.0
SECRET_SHAPES = (
    re.compile(r"mp[en]?_[A-Za-z0-9-]+_[A-Za-z0-9_-]{16,}"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    re.compile(r"\bsig=[A-Za-z0-9%]{20,}"),
    re.compile(r"AccountKey=[A-Za-z0-9+/]{20,}"),
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabInfo]:
    with own_lab(tmp_path) as info:
        yield info


async def kill_the_host_again_and_again(info: LabInfo) -> None:
    for _ in range(HOST_KILLS):
        await asyncio.sleep(PAUSE_BETWEEN_KILLS_S)
        await LabClient(info.control_socket).acall("restart-host", kill=True)


def texts(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every log of the lab: services, consoles of the VMs, everything below their /var/log, the nodes' event logs."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (path.suffix in (".log", ".jsonl") or "var/log" in path.as_posix()):
            yield path, path.read_text(encoding="utf-8", errors="replace")


def traces_of(lab_id: str) -> list[str]:
    """Namespaces, links and mounts that carry the lab's name."""
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split("\n")
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout.split("\n")
    mounts = Path("/proc/mounts").read_text().split("\n")
    mark = re.compile(rf"\bmp-{lab_id}\b|mp{lab_id}[-_]|/mirrorplane[^ ]*/{lab_id}/")
    return [line for line in (*namespaces, *links, *mounts) if mark.search(line)]


async def verify_the_copies(nodes: Nodes) -> None:
    """The oracle at the end: the serving node compares both copies and finds nothing."""
    serving: list[str] = []
    async with asyncio.timeout(PAIRED_WITHIN_S):
        while len(serving) != 1:
            states = {node: await nodes.ask(node, "mirror", "status") for node in ("a", "b")}
            serving = [node for node, state in states.items() if state["acknowledging"] == "paired"]
            await asyncio.sleep(0.2)
    record = await nodes.ask(serving[0], "mirror", "verify", "--why", "the end of the story")
    assert (record["outcome"], record["differences"]) == ("identical", 0), record
    assert record["entries"] > 0


async def test_the_whole_story(lab: LabInfo, tmp_path: Path) -> None:
    assert lab.control_plane_url is not None
    said: list[str] = []
    async with ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca)) as api:
        story = Story(api, Nodes(lab, tmp_path, CLUSTER), app="ledger", build=tmp_path, say=said.append)
        killing = asyncio.create_task(kill_the_host_again_and_again(lab))
        result = await story.run()
        await killing
        print("\n".join(said))
        assert result.missing_writes == 0
        assert result.acknowledged_writes >= 600
        steps = [entry["what"] for entry in result.timeline]
        assert steps == [
            "power of the primary cut (epoch 2)",
            "the peer suspects",
            "the witness names the peer",
            "the directory is mounted, the application starts",
            "the application is up",
            "the probe answers OK",
            "first write acknowledged again",
        ]
        moments = [entry["after_s"] for entry in result.timeline]
        assert moments == sorted(moments), "cause comes before effect"
        for name, content in texts(lab.directory):
            for shape in SECRET_SHAPES:
                assert not shape.search(content), f"{name} contains something like a secret: {shape.pattern}"
        maintained = await maintain_the_primary(Nodes(lab, tmp_path, CLUSTER), result.address, tmp_path)
        print(
            f"announced reboot of the primary: outage {maintained.outage_s} s, in sync after {maintained.in_sync_s} s"
        )
        assert maintained.missing_writes == 0
        await question(Nodes(lab, tmp_path, CLUSTER))
        no_browser = missing_for_browser()
        if no_browser:
            print(f"the node's console is not visited: {no_browser[0]}")
        else:
            await visit_the_node(api, lab, CLUSTER, result.address, tmp_path)
        await verify_the_copies(Nodes(lab, tmp_path, CLUSTER))
        await story.delete()
    left = await LabClient(lab.control_socket).acall("nodes")
    assert left == [], "DELETE leaves no machine"
    resources = await asyncio.to_thread(lab_command, tmp_path, "status")
    assert "VM " not in resources
    assert "LB " not in resources
    await asyncio.to_thread(lab_command, tmp_path, "down")
    assert traces_of(lab.id) == []
    journal = [json.loads(line)["id"] for line in (tmp_path / "demo-journal.jsonl").read_text().splitlines()]
    assert len(set(journal)) == len(journal) == result.acknowledged_writes
