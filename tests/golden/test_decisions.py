"""Every situation in `decisions/` is decided as its file says; `python -m tests.golden.regenerate` shows a change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mirror_agent.core.rules import RULES

from tests.golden.situation import DECISIONS, UnreadableSituation, decided, files, state_of

FILES = files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(DECISIONS).with_suffix("").as_posix())
def test_the_situation_is_decided_as_written(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert set(content) == {"base", "facts", "decides"}
    assert decided(path) == content["decides"]


def test_no_two_files_tell_the_same_situation() -> None:
    told = [path.read_text(encoding="utf-8") for path in FILES]
    assert len(FILES) >= 100
    assert len({json.dumps([c["base"], c["facts"]]) for c in map(json.loads, told)}) == len(FILES)


def test_every_rule_has_a_situation() -> None:
    shown = {json.loads(path.read_text(encoding="utf-8"))["decides"]["rule"] for path in FILES}
    assert set(RULES) - shown == set()


@pytest.mark.parametrize("facts", [{"peer rolle": "PRIM"}, {"peer heard": "yesterday"}, {"record": "whatever"}])
def test_a_fact_that_cannot_be_read_is_refused(facts: dict[str, str]) -> None:
    with pytest.raises(UnreadableSituation):
        state_of("a serves alone", facts)
