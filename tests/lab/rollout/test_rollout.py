"""A cluster of the previous release is upgraded while clients write, then its configuration is changed; and two
releases that are broken leave it as it is.

Passed: no acknowledged write is missing, the longest gap of each change is at most that of a planned swap (the longest
of SWAPS in the same run: one swap differs from the next), both nodes have what they should have; a broken release
changes nothing, and the operation says why. Figures, with what the nodes did in each longest gap: build/rollout.json.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pytest

from lab.faults.model import Case, Primary, Result, Service
from lab.faults.perform import Performer, settled
from lab.faults.report import circumstances
from lab.faults.stage import Stage, wanted
from lab.paths import REPOSITORY
from lab.wheels import GIVEN
from tests.lab.own_lab import own_lab
from tests.lab.rollout.changes import (
    Change,
    api_of,
    configuration,
    other_application,
    other_checkers,
    swap,
    upgrade,
)
from tests.lab.rollout.gaps import acknowledged, longest, story
from tests.lab.rollout.releases import DIES, LACKS_A_FILE, PRESENT, PREVIOUS, release

BUILD: Final = REPOSITORY / "build"
SWAPS: Final = 5
# A planned swap takes a second; a machine that other work saturates makes more of it, without meaning.
SWAP_LIMIT_S: Final = 10.0
pytestmark = [pytest.mark.lab, pytest.mark.azurite, pytest.mark.rollout]


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A lab whose control plane boots nodes with the previous release and has the others beside it."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv(GIVEN, str(await asyncio.to_thread(release, wheels, tmp_path, PREVIOUS)))
    state = tmp_path / "lab"
    others = asyncio.create_task(asyncio.to_thread(build_others, wheels, tmp_path))
    with own_lab(state) as info:
        await others
        stage = Stage(info, state, say)
        try:
            await stage.provision()
            await settled(stage)
            yield stage
        finally:
            stage.close()


def build_others(wheels: Path, scratch: Path) -> None:
    for version in (PRESENT, DIES, LACKS_A_FILE):
        release(wheels, scratch, version)


def say(text: str) -> None:
    print(text, flush=True)


async def test_a_cluster_is_upgraded_and_reconfigured_while_clients_write(stage: Stage) -> None:
    BUILD.mkdir(exist_ok=True)
    spec = await spec_of(stage)
    assert await versions(stage) == {"a": PREVIOUS, "b": PREVIOUS}
    performer = await Performer.begin(stage, BUILD)
    figures = Figures(stage, performer)

    swaps = [
        await figures.run(f"a planned swap, the measure ({number} of {SWAPS})", swap(), Primary.CHANGES, SWAP_LIMIT_S)
        for number in range(1, SWAPS + 1)
    ]
    one_swap_s = max(result.outage_s for result in swaps)

    forward = upgrade(PRESENT)
    upgraded = await figures.run("from the previous release to this one", forward, Primary.CHANGES, SWAP_LIMIT_S)
    assert forward.operation["status"] == "Succeeded", forward.operation
    assert await versions(stage) == {"a": PRESENT, "b": PRESENT}

    spec = other_checkers(spec)
    live = configuration(spec)
    await figures.run("other thresholds of the checkers", live, Primary.STAYS, None)
    assert live.operation["status"] == "Succeeded", live.operation
    rolled = configuration(other_application(spec))
    changed = await figures.run("another environment and promise", rolled, Primary.CHANGES, SWAP_LIMIT_S)
    assert rolled.operation["status"] == "Succeeded", rolled.operation
    assert await in_use(stage)

    broken = upgrade(LACKS_A_FILE)
    await figures.run("a release that lacks a file", broken, Primary.STAYS, None)
    assert (broken.operation["status"], broken.operation["error"]["code"]) == ("Failed", "NodeRefused")
    assert "not_there" in broken.operation["error"]["message"]
    dies = upgrade(DIES)
    await figures.run("a release that does not come up", dies, Primary.STAYS, None)
    assert (dies.operation["status"], dies.operation["error"]["code"]) == ("Failed", "NodeReturned")
    assert DIES in dies.operation["error"]["message"]
    assert await versions(stage) == {"a": PRESENT, "b": PRESENT}
    for result in (upgraded, changed):
        assert result.outage_s <= one_swap_s, f"{result.name}: {result.outage_s} s; a planned swap: {one_swap_s} s"


class Figures:
    """Every case's result, written down as it comes."""

    def __init__(self, stage: Stage, performer: Performer) -> None:
        self._stage = stage
        self._performer = performer
        self._rows: list[dict[str, Any]] = []

    async def run(self, name: str, change: Change, primary: Primary, limit_s: float | None) -> Result:
        """Fails when the judge finds something. `limit_s` None: the service must not be broken at all."""
        say(f"  {name}")
        service = Service.UNBROKEN if limit_s is None else Service.PLANNED
        case = Case(name, "rollout", "No write is lost.", change, service=service, primary=primary, limit_s=limit_s)
        stage, first_id, began_wall = self._stage, self._stage.next_id, time.time()
        result, proof = await self._performer.perform(case, 1)
        seconds = f"{result.outage_s:.2f} s without an answer, {result.acknowledged_writes} writes, "
        say(f"  {name}: {seconds}{result.lost_writes} lost, {result.duration_s:.0f} s")
        error = change.operation.get("error") or {}
        row = asdict(result) | {"operation": change.operation.get("status"), "why": error.get("message", "")}
        gap = longest(acknowledged(BUILD / f"{stage.cluster}-journal.jsonl", first_id))
        if gap is not None:
            events = [event for node in ("a", "b") for event in stage.events(node, began_wall)]
            row["gap"] = {"through": gap.through, "story": story(gap, events)}
        self._rows.append(row)
        document = {"made": circumstances(), "cases": self._rows}
        (BUILD / "rollout.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        assert not result.findings, json.dumps({"findings": result.findings, "evidence": proof}, indent=1, default=str)
        # The primary changes once: by the swap, and not again.
        assert result.primary_changes == (1 if primary is Primary.CHANGES else 0)
        return result


async def spec_of(stage: Stage) -> dict[str, Any]:
    """The body of the PUT that made the cluster, with the key it was made with."""
    async with api_of(stage) as api:
        compute = (await api.cluster(stage.cluster))["compute"]
    document = wanted()
    return document | {"compute": document["compute"] | {"sshPublicKey": compute["sshPublicKey"]}}


async def versions(stage: Stage) -> dict[str, str]:
    """Asked of the nodes themselves."""
    found = {}
    for node in ("a", "b"):
        place = stage.places[node]
        link = place.os_disk / "upper/opt/mirrorplane/venv"
        (package,) = (link.parent / link.readlink()).glob("lib/python3*/site-packages/mirror_agent-*.dist-info")
        found[node] = package.name.removeprefix("mirror_agent-").removesuffix(".dist-info")
    return found


async def in_use(stage: Stage) -> bool:
    """Both nodes say in their heartbeats that the newest configuration is in force."""
    async with api_of(stage) as api:
        beats = [
            (await api.call("GET", f"/clusters/{stage.cluster}/heartbeats?node={node}&top=1"))[1]["value"][0]
            for node in ("a", "b")
        ]
    reports = [beat["rollout"] for beat in beats]
    assert {report["stage"] for report in reports} == {"done"}, reports
    return len({report["configurationInUse"] for report in reports}) == 1
