"""Reads a scenario of `remediation/` and plays it: a file says what becomes true, for how long, and what is decided.

`{"tells": …, "looks": [{"for_s": 180, "now": {"b role": "WAIT", "sick": ["b"]}, "decides": ["rule", "rule: step"]}]}`
`"farm": 3` beside `tells` makes it a farm of three nodes that all serve.
Facts stay true until they are changed; audits come every 30 s; what is planned is carried out at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from mirror_agent.contract import Role

from shared.model.node_state import ProbeOutcome
from shared.remediation.model import Decision
from tests.remediation_samples import NodeScene, Scene, Watcher, changed, farm_scene

FOLDER: Final = Path(__file__).parent / "remediation"
_NODE_WORDS: Final[dict[str, Callable[[Any], Any]]] = {
    "role": Role,
    "age_s": lambda value: value,
    "probe": lambda value: None if value is None else ProbeOutcome(value),
    "power": str,
    "customer_initiated": bool,
    "boot_id": str,
}
assert set(_NODE_WORDS) == set(NodeScene.__dataclass_fields__)


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def play(path: Path) -> list[list[str]]:
    """What is decided in each part of the scenario, repetitions left out."""
    content = json.loads(path.read_text(encoding="utf-8"))
    watcher, scene = Watcher(), farm_scene(content["farm"]) if "farm" in content else Scene()
    told = []
    for part in content["looks"]:
        watcher.now += timedelta(seconds=part.get("after_s", 0))
        scene = _with(scene, part.get("now", {}), watcher)
        decisions = watcher.watch(scene, part["for_s"], every_s=part.get("every_s", 30.0))
        told.append([_words(decision) for decision in decisions])
    return told


def _words(decision: Decision) -> str:
    if decision.action is None:
        return decision.rule
    return f"{decision.rule}: {decision.action.step.value} on {decision.action.node}"


def _with(scene: Scene, facts: dict[str, Any], watcher: Watcher) -> Scene:
    for word, value in facts.items():
        head, _, field = word.partition(" ")
        if field:
            scene = changed(scene, **{head: {field: _NODE_WORDS[field](value)}})
            continue
        match word:
            case "sick" | "unknown" | "sacred" | "paused_by":
                scene = changed(scene, **{word: tuple(value)})
            case "witness":
                scene = changed(scene, witness=None if value is None else (value[0], tuple(value[1])))
            case "busy_zones":
                scene = changed(scene, busy_zones=frozenset(value))
            case "changed_s_ago":
                scene = changed(scene, changed_at=watcher.now - timedelta(seconds=value))
            case "serving" | "storm" | "policy" | "changing" | "generation" | "minimum_healthy":
                scene = changed(scene, **{word: value})
            case _:
                raise ValueError(f"{word!r} is no word of a scenario; see NodeScene and Scene")
    return scene
