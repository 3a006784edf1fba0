"""What an order would do, in sentences made of what both nodes say; what is not known is said, not guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mirror_agent.contract import MirrorReport
from mirror_agent.web.dry_run import Sight, dry_run

from tests.lab.browser.node_stage import StagedNode, exposed, in_sync


def sight(nodes: dict[str, StagedNode], me: str, *, peer_answers: bool = True) -> Sight:
    mine, other = nodes[me], nodes["b" if me == "a" else "a"]
    if not peer_answers:
        return Sight(mine.status(), mine.drill(), None, None)
    return Sight(mine.status(), mine.drill(), other.status(), other.drill())


def test_a_forced_start_names_what_would_be_lost_and_where_it_is_kept() -> None:
    words = " ".join(dry_run("force", sight(exposed(), "a")))
    assert "epoch 4" in words
    assert "only node b holds every acknowledged write; node a does not" in words
    assert "changes of 312 files (40.0 MiB)" in words
    assert "it has been alone for 3 min" in words
    assert "kept in node b's quarantine" in words


def test_a_forced_start_beside_a_silent_peer_does_not_guess() -> None:
    words = " ".join(dry_run("force", sight(exposed(), "a", peer_answers=False)))
    assert "Node b does not answer: how far node a is behind is not known." in words
    assert "files" not in words


def test_a_peer_that_cannot_count_is_said() -> None:
    nodes = exposed()
    nodes["b"] = replace(nodes["b"], mirror_report=MirrorReport(mode="primary", link="lost", acknowledging="solo"))
    assert "does not say how much it changed" in " ".join(dry_run("force", sight(nodes, "a")))


def test_a_forced_start_that_is_not_needed_says_so() -> None:
    assert "nothing would be lost" in dry_run("force", sight(in_sync(), "b"))[0]
    assert dry_run("force", sight(in_sync(), "a")) == ("Node a serves already.",)


@pytest.mark.parametrize(
    ("nodes", "me", "first"),
    [
        (in_sync(), "a", "The application stops here and node b, which holds every acknowledged write, takes over."),
        (in_sync(), "b", "Node a goes on serving, alone: the data is exposed until node b is back."),
        (exposed(), "b", "Nobody serves any more: node a is not in the recorded in-sync set and must not take over."),
        (exposed(), "a", "Node a does not serve, and does not hold a complete copy: clients notice nothing."),
    ],
)
def test_a_stop_says_who_serves_after_it(nodes: dict[str, StagedNode], me: str, first: str) -> None:
    assert dry_run("stop", sight(nodes, me))[0] == first
    assert dry_run("stopstart", sight(nodes, me))[0] == first


def test_the_peers_own_word_is_asked_for_a_takeover() -> None:
    assert dry_run("stop", sight(in_sync(), "a"))[1].startswith("Node b says: This node is in the in-sync set")
    assert len(dry_run("stop", sight(in_sync(), "a", peer_answers=False))) == 1


def test_orders_on_the_copies_and_the_switch() -> None:
    assert "serves alone" in " ".join(dry_run("mirror-resync", sight(in_sync(), "a")))
    assert "quarantine" in " ".join(dry_run("mirror-repair", sight(in_sync(), "a")))
    assert dry_run("failover-off", sight(in_sync(), "b")) == ("If node a dies now, nobody serves until a person acts.",)
    assert dry_run("checkers-off", sight(in_sync(), "a")) == ()
