"""Every scenario in `remediation/` is decided as its file says, and every quiet rule and every step has one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.remediation.rules import PEOPLE, QUIET, STEPS
from tests.golden.remediation_scene import files, play

FILES = files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_scenario_is_decided_as_written(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert set(content) - {"farm"} == {"tells", "looks"}
    assert play(path) == [part["decides"] for part in content["looks"]]


def test_every_rule_of_the_planner_has_a_scenario() -> None:
    shown = {
        words.partition(":")[0]
        for path in FILES
        for part in json.loads(path.read_text(encoding="utf-8"))["looks"]
        for words in part["decides"]
    }
    assert len(FILES) >= 28
    assert {*QUIET, *PEOPLE, *STEPS} - shown == set()
