"""Golden stories of the audit: files a person can read, in tests/golden/verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.verdict_story import play

STORIES = sorted((Path(__file__).parent / "verdicts").glob("*.json"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    story = json.loads(path.read_text(encoding="utf-8"))
    for number, (expected, found) in enumerate(play(story)):
        assert {name: found[name] for name in expected} == expected, f"{story['title']}: step {number}"


def test_there_are_enough_stories() -> None:
    assert len(STORIES) >= 18
