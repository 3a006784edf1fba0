"""Packed inode records: against a plain model, and mapped a second time as by a successor."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from mirror_agent.mirror.slots import FIRST_SLOT, NOWHERE, Slots

HANDLE = (8).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"12345678"
FREED_BEFORE_REUSE = 1024


@pytest.fixture
def slots() -> Iterator[Slots]:
    table = Slots(2)
    yield table
    table.close()


def test_like_a_dictionary(slots: Slots) -> None:
    seed = random.Random(7)
    model: dict[int, int] = {}
    given: set[int] = set()
    for _ in range(20_000):
        key = seed.randrange(1, 3000) | seed.choice((0, 1 << 20, 1 << 40))  # many share a head of the index
        slot = slots.find(key)
        assert (slot != NOWHERE) == (key in model)
        if slot == NOWHERE:
            slot = slots.add(key, 8)
            assert slots.id(slot) not in given
            given.add(slots.id(slot))
            model[key] = slots.id(slot)
        else:
            assert slots.id(slot) == model[key]
            if seed.random() < 0.5:
                slots.free(slot)
                assert slots.slot_of(model.pop(key)) == NOWHERE
    assert slots.used == len(model)
    assert sorted(slots.key(slot) for slot in slots.everything()) == sorted(model)


def test_a_record_keeps_what_it_is_told(slots: Slots) -> None:
    slot = slots.add(77, 4)
    assert slots.handle(slot) is None
    assert slots.set_handle(slot, HANDLE)
    slots.set_flags(slot, 1)
    assert not slots.flushed(slot)
    slots.set_flushed(slot)
    slots.set_bound(slot, 5)
    slots.set_synced(slot, 0xFFFF_FFFF)
    assert slots.add_references(slot, 3) == 3
    assert (slots.handle(slot), slots.shape(slot), slots.marks(slot)) == (HANDLE, 0x104, (5, 0xFFFF_FFFF))
    assert slots.flushed(slot)
    assert slots.add_references(slot, -5) == 0
    assert not slots.set_handle(slot, bytes(8 + 25))


def test_a_successor_maps_the_same_table(slots: Slots) -> None:
    slot = slots.add(77, 8)
    slots.set_handle(slot, HANDLE)
    slots.set_flushed(slot)
    slots.note = 9
    again = Slots(2, os.dup(slots.descriptor))
    try:
        assert again.note == 9
        assert again.find(77) == slot
        assert again.slot_of(slots.id(slot)) == slot
        assert again.handle(slot) == HANDLE
        assert again.flushed(slot)
        assert again.add(78, 8) == slot + 1
    finally:
        again.close()


def test_a_foreign_table_is_refused() -> None:
    descriptor = os.memfd_create("foreign")
    os.ftruncate(descriptor, 1 << 33)
    with pytest.raises(ValueError, match="version"):
        Slots(0, descriptor)
    os.close(descriptor)


def test_an_unlisted_record_is_reached_by_its_id_only(slots: Slots) -> None:
    slot = slots.add(77, 8)
    slots.unlist(slot)
    slots.unlist(slot)
    other = slots.add(77, 8)
    assert slots.find(77) == other
    assert slots.slot_of(slots.id(slot)) == slot
    slots.free(slot)
    assert slots.find(77) == other


def test_ids_differ_between_tables_of_one_process(slots: Slots) -> None:
    other = Slots(2)
    try:
        assert other.id(other.add(1, 8)) != slots.id(slots.add(1, 8))
    finally:
        other.close()


def test_freed_slots_rest_before_they_are_used_again(slots: Slots) -> None:
    for _ in range(FREED_BEFORE_REUSE + 1):
        slots.free(slots.add(1, 8))
    assert slots.add(1, 8) == FIRST_SLOT
