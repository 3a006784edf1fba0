"""Every scenario plays as its file says; together they show every rule of the life cycle, of muting and of telling."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.alerts.rules import ALERTS, MUTES, STEPS
from shared.model.alert import NoticeReason
from tests.golden.alerts.scenario import UnreadableScenario, content_of, delivery, files, played

FILES = files()
# Shown elsewhere: rules of other engineers' findings (raised by hand), and steps that leave no word in a scenario.
SILENT_STEPS = {"unchanged", "held-by-unknown", "forgotten", "recurred", "worsened"}
RAISED = {"remediation-needs-a-person", "drift", "certificate-expires", "delivery-failed", "watchdog"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_the_scenario_plays_as_written(path: Path) -> None:
    content = content_of(path)
    assert set(content) == {"story", "steps"}
    assert await played(content["steps"]) == content["steps"]


def _everything() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in FILES)


def test_there_are_enough_and_every_rule_is_shown() -> None:
    text = _everything()
    assert len(FILES) >= 15
    assert {rule for rule in ALERTS if f'"{rule} ' not in text} <= RAISED
    shown = set(re.findall(r"[(]([a-z-]+)[,)]", text))
    assert set(STEPS) - shown <= SILENT_STEPS
    assert {mute for mute in MUTES if f", {mute})" not in text} == set()
    assert {reason for reason in NoticeReason if f" {reason.value} [" not in text} == set()


def test_a_word_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnreadableScenario):
        delivery("weather pay-a rain", 1)
