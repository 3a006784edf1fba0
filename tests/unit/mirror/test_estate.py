"""The estate: what was put is there for a successor, each once, whatever the engine before was in the middle of."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from mirror_agent.mirror.estate import Estate, Kind, drain, estate_sockets, is_empty


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = estate_sockets()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def belongings() -> Iterator[list[int]]:
    fds = [os.memfd_create(f"thing-{number}") for number in range(8)]
    yield fds
    for fd in fds:
        os.close(fd)


def left(ends: tuple[socket.socket, socket.socket]) -> dict[tuple[Kind, int], int]:
    """What a successor finds: (kind, key) and the inode it leads to."""
    found: dict[tuple[Kind, int], int] = {}
    for heirloom in Estate(*ends).inherit():
        assert (heirloom.kind, heirloom.key) not in found
        found[(heirloom.kind, heirloom.key)] = os.fstat(heirloom.fd).st_ino
        os.close(heirloom.fd)
    return found


def numbers(fds: list[int]) -> list[int]:
    return [os.fstat(fd).st_ino for fd in fds]


def test_what_was_put_is_found_by_every_successor(
    sockets: tuple[socket.socket, socket.socket], belongings: list[int]
) -> None:
    estate = Estate(*sockets)
    assert is_empty(sockets[1])
    for key, fd in enumerate(belongings):
        assert estate.put(Kind.ORPHAN, key, fd)
    assert not is_empty(sockets[1])
    expected = {(Kind.ORPHAN, key): number for key, number in enumerate(numbers(belongings))}
    assert left(sockets) == expected
    assert left(sockets) == expected


def test_an_interrupted_round_leaves_nothing_out_and_nothing_twice(
    sockets: tuple[socket.socket, socket.socket], belongings: list[int]
) -> None:
    """A round that was cut off after a copy, before what it copied was taken away."""
    estate = Estate(*sockets)
    for key, fd in enumerate(belongings):
        estate.put(Kind.TABLE, key, fd)
    interrupted = Estate(*sockets)
    interrupted._send(Kind.END, 77, None)
    interrupted._send(Kind.TABLE, 0, belongings[0])
    assert left(sockets) == {(Kind.TABLE, key): number for key, number in enumerate(numbers(belongings))}


def test_what_is_dropped_is_weeded_out_and_the_rest_stays(
    sockets: tuple[socket.socket, socket.socket], belongings: list[int]
) -> None:
    estate = Estate(*sockets)
    estate.put(Kind.CONNECTION, 0, belongings[0])
    for key in range(5000):
        estate.put(Kind.ORPHAN, key, belongings[1])
        if key != 3:
            estate.drop(Kind.ORPHAN, key)
    found = left(sockets)
    assert found[(Kind.CONNECTION, 0)] == numbers(belongings)[0]
    assert (Kind.ORPHAN, 3) in found
    assert len(found) < 1000


def test_a_full_estate_says_so_and_takes_again_after_a_drop(
    sockets: tuple[socket.socket, socket.socket], belongings: list[int]
) -> None:
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    estate = Estate(*sockets)
    key = 0
    while estate.put(Kind.ORPHAN, key, belongings[0]):
        key += 1
        assert key < 10_000
    for gone in range(key):
        estate.drop(Kind.ORPHAN, gone)
    assert estate.put(Kind.ORPHAN, key, belongings[0])


def test_nothing_is_left_after_the_end(sockets: tuple[socket.socket, socket.socket], belongings: list[int]) -> None:
    estate = Estate(*sockets)
    reader, writer = os.pipe()
    estate.put(Kind.CONNECTION, 0, writer)
    os.close(writer)
    estate.clear()
    assert is_empty(sockets[1])
    assert os.read(reader, 1) == b"", "nobody has the other end any more"
    estate.put(Kind.CONNECTION, 0, belongings[0])
    drain(sockets[1])
    assert is_empty(sockets[1])
    os.close(reader)
