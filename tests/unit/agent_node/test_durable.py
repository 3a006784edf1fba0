"""Two slots: a torn or damaged write costs the newer state, never both; a power cut costs trust."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mirror_agent.core.model import Durable, Epoch
from mirror_agent.node.durable import DurableError, DurableStore

FIRST = Durable(complete_epoch=Epoch(3), complete=True, identity="d1")
SECOND = replace(FIRST, complete_epoch=Epoch(4), prepared=Epoch(4))


def test_a_new_node_has_no_state(tmp_path: Path) -> None:
    assert DurableStore(tmp_path, boot_id="b1").load() is None


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    store = DurableStore(tmp_path, boot_id="b1")
    store.save(FIRST)
    store.save(SECOND)
    assert DurableStore(tmp_path, boot_id="b1").load() == SECOND


@pytest.mark.parametrize("damage", [b"", b"torn", b"00000000\n{}"])
def test_a_torn_slot_costs_only_the_newer_state(tmp_path: Path, damage: bytes) -> None:
    store = DurableStore(tmp_path, boot_id="b1")
    store.save(FIRST)
    store.save(SECOND)
    (tmp_path / "node-state.0").write_bytes(damage)  # the second save went to slot 0
    again = DurableStore(tmp_path, boot_id="b1")
    assert again.load() == FIRST
    again.save(SECOND)
    assert DurableStore(tmp_path, boot_id="b1").load() == SECOND


def test_two_damaged_slots_are_refused_not_guessed(tmp_path: Path) -> None:
    store = DurableStore(tmp_path, boot_id="b1")
    store.save(FIRST)
    for slot in tmp_path.glob("node-state.*"):
        slot.write_bytes(b"x")
    with pytest.raises(DurableError, match=r"node-state\.0.*resynchronise"):
        DurableStore(tmp_path, boot_id="b1").load()


@pytest.mark.parametrize(
    ("orderly", "boot", "trusted"), [(False, "b1", True), (False, "b2", False), (True, "b2", True)]
)
def test_only_an_orderly_stop_survives_a_restart_of_the_machine_with_trust(
    tmp_path: Path, orderly: bool, boot: str, trusted: bool
) -> None:
    DurableStore(tmp_path, boot_id="b1").save(FIRST, orderly=orderly)
    loaded = DurableStore(tmp_path, boot_id=boot).load()
    assert loaded == replace(FIRST, trusted=trusted)


def test_lost_trust_stays_lost_until_the_node_is_in_sync_again(tmp_path: Path) -> None:
    DurableStore(tmp_path, boot_id="b1").save(FIRST)
    store = DurableStore(tmp_path, boot_id="b2")
    loaded = store.load()
    assert loaded is not None
    store.save(loaded)
    again = DurableStore(tmp_path, boot_id="b2").load()
    assert again is not None
    assert not again.trusted
