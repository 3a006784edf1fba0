"""`mirrorctl why`, `history` and `drill` on both nodes of a running pair: each says what is so, and changes nothing."""

from __future__ import annotations

from typing import Any

from lab.demo.nodes import Nodes

# role → the rule at rest, and the answers of the drill: act → (allowed, the rules of which one decides, "" for none)
EXPECTED: dict[str, tuple[str, dict[str, tuple[bool, tuple[str, ...]]]]] = {
    "PRIM": (
        "serving-protected",
        {
            "promote": (False, ("",)),
            "swap": (True, ("swap-stop-application",)),
            "resync": (False, ("",)),
            "exclude-peer": (True, ("publish-alone",)),
            "fence-self": (True, ("",)),
        },
    ),
    "SECOND": (
        "in-sync",
        {
            "promote": (True, ("takeover-seal", "takeover")),
            "swap": (False, ("",)),
            "resync": (False, ("",)),
            "exclude-peer": (False, ("",)),
            "fence-self": (True, ("",)),
        },
    ),
}


async def question(nodes: Nodes) -> None:
    """The pair is PRIM and SECOND, in sync."""
    before = {node: await nodes.ask(node, "status") for node in ("a", "b")}
    assert sorted(status["role"] for status in before.values()) == ["PRIM", "SECOND"]
    for node, status in before.items():
        rule, answers = EXPECTED[status["role"]]
        await _why(nodes, node, rule)
        await _history(nodes, node, status["role"])
        drilled = await nodes.ask(node, "drill")
        found = {entry["act"]: entry for entry in drilled["permissions"]}
        assert found.keys() == answers.keys()
        for act, (allowed, rules) in answers.items():
            entry = found[act]
            assert (entry["allowed"], entry["rule"] in rules) == (allowed, True), entry
            assert entry["sentence"].endswith((".", "]", ")")), entry
        assert "nothing was changed" in await nodes.run(node, "mirrorctl", "drill")
    after = {node: await nodes.ask(node, "status") for node in ("a", "b")}
    assert _standing(after) == _standing(before), "a drill must change nothing"


async def _why(nodes: Nodes, node: str, rule: str) -> None:
    said = await nodes.ask(node, "why")
    assert said["rule"] == rule, said
    assert said["facts"]["witness"]["inSync"] == ["a", "b"], said["facts"]
    assert said["sentence"] in await nodes.run(node, "mirrorctl", "why")


async def _history(nodes: Nodes, node: str, role: str) -> None:
    """The newest decision explains the role; every decision has its rule and its sentence."""
    decisions = [event for event in await nodes.events(node, 0.0) if event["kind"] == "decision"]
    assert decisions[-1]["role"] == role
    assert all(event["rule"] and event["sentence"] for event in decisions)
    written = await nodes.run(node, "mirrorctl", "history", "--limit", "5")
    assert len(written.splitlines()) == 5


def _standing(status: dict[str, Any]) -> dict[str, tuple[str, str, int]]:
    return {node: (one["role"], one["phase"], one["epoch"]) for node, one in status.items()}
