"""The generation record survives, is refused when damaged or foreign, and the configuration refuses nonsense."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mirror_agent.mirror.config import MirrorConfig, MirrorConfigError, MirroredPath, MirrorLimits, config_from_json
from mirror_agent.mirror.state import MARKER, RECORD, Point, StateStore

CONFIG = MirrorConfig(
    cluster_id="c",
    node="a",
    peer="b",
    peer_addresses=("10.0.0.5",),
    listen_address="10.0.0.4",
    paths=(MirroredPath("/data/app", "ordered"),),
    state_dir="/var/lib/x",
    quarantine_dir="/var/lib/y",
    certificate_file="/c",
    key_file="/k",
    ca_file="/ca",
    peer_san="b.c.mirror",
)


def test_record_survives_a_restart(tmp_path: Path) -> None:
    store = StateStore(str(tmp_path), "c")
    assert store.generation.epoch == 0
    store.record(epoch=7, role="replica", point=Point("s", 42))
    again = StateStore(str(tmp_path), "c").generation
    assert (again.epoch, again.role, again.point) == (7, "replica", Point("s", 42))
    StateStore(str(tmp_path), "c").record_epoch(8)
    assert StateStore(str(tmp_path), "c").generation.point == Point("s", 42)


def test_damaged_or_foreign_record_counts_as_none(tmp_path: Path) -> None:
    StateStore(str(tmp_path), "c").record(epoch=7, role="primary", point=Point("s", 1))
    assert StateStore(str(tmp_path), "other").generation.point is None
    text = (tmp_path / RECORD).read_text()
    for damaged in (text.replace("7", "9"), text[:20], "[]", ""):
        (tmp_path / RECORD).write_text(damaged)
        assert StateStore(str(tmp_path), "c").generation.epoch == 0


def test_marker(tmp_path: Path) -> None:
    store = StateStore(str(tmp_path), "c")
    assert not store.inconsistent
    store.mark_inconsistent("why", "boot-1")
    assert StateStore(str(tmp_path), "c").inconsistent
    assert (tmp_path / MARKER).read_text() == "boot-1\nwhy\n"
    store.clear_inconsistent()
    store.clear_inconsistent()
    assert not store.inconsistent


def test_a_copy_is_torn_from_the_first_loss_of_power_in_a_resync_to_the_end_of_one(tmp_path: Path) -> None:
    store = StateStore(str(tmp_path), "c")
    assert not store.torn("boot-1")
    store.mark_inconsistent("a resync began", "boot-1")
    assert not store.torn("boot-1")
    again = StateStore(str(tmp_path), "c")
    assert again.torn("boot-2")
    again.mark_inconsistent("the next one began", "boot-2")
    assert StateStore(str(tmp_path), "c").torn("boot-2"), "what the first one wrote may still be there in part"
    again.clear_inconsistent()
    assert not StateStore(str(tmp_path), "c").torn("boot-3")


def test_a_mark_without_a_boot_counts_as_torn(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("resync of stream x has not ended\n")
    assert StateStore(str(tmp_path), "c").torn("boot-1")


def test_configuration_round_trips() -> None:
    assert config_from_json(CONFIG.to_json()) == CONFIG


def test_configuration_names_the_nearest_word() -> None:
    document = json.loads(CONFIG.to_json())
    with pytest.raises(MirrorConfigError, match="did you mean 'peer_addresses'"):
        config_from_json(json.dumps({**document, "peer_adresses": []}))
    with pytest.raises(MirrorConfigError, match="did you mean 'strict'"):
        MirroredPath("/data", "stricht")
    with pytest.raises(MirrorConfigError, match="plain absolute"):
        MirroredPath("/data/../etc")
    for text in ("{}", "[]", "no json"):
        with pytest.raises(MirrorConfigError):
            config_from_json(text)


def test_configuration_refuses_contradictions() -> None:
    with pytest.raises(MirrorConfigError, match="itself"):
        replace(CONFIG, peer="a")
    with pytest.raises(MirrorConfigError, match="twice"):
        replace(CONFIG, paths=(MirroredPath("/x"), MirroredPath("/x")))
    with pytest.raises(MirrorConfigError, match="ring_bytes"):
        MirrorLimits(ring_bytes=1000)
    with pytest.raises(MirrorConfigError, match="heartbeats"):
        MirrorLimits(peer_silence_s=0.6)
