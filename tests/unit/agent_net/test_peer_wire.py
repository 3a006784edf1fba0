"""Messages between the nodes: what is refused, and which of two paths brought the news."""

from __future__ import annotations

import json

import pytest
from mirror_agent.core.events import Beat
from mirror_agent.core.model import NOBODY, Epoch, Node, Phase, Role
from mirror_agent.net.peer_wire import (
    MAX_LINE_BYTES,
    MAX_WHO_CHARS,
    MAX_WHY_CHARS,
    Freshness,
    Message,
    ProtocolError,
    Stamp,
    Switch,
    decode,
    encode,
)


def beat(node: str = "b", role: Role = Role.SECOND, epoch: int = 4) -> Beat:
    return Beat(
        node=Node(node),
        role=role,
        phase=Phase.READY,
        epoch=Epoch(epoch),
        leaving=False,
        trusted=True,
        prepared=Epoch(epoch),
        prepare=Epoch(0),
        record_epoch=Epoch(epoch),
        record_primary=NOBODY,
        record_in_sync=frozenset({Node("a"), Node("b")}),
    )


def message(at_s: float = 1.0, boot: str = "boot-1") -> Message:
    return Message(7, beat(), Stamp(boot, at_s), Switch(True, 3, "ann", "why"), promise_s=4.0)


def test_a_message_survives_the_wire() -> None:
    assert decode(encode("c-1", message()), "c-1", "b") == message()


def test_the_longest_switch_fits() -> None:
    longest = Switch(False, 2**53, "\x01" * MAX_WHO_CHARS, "\x01" * MAX_WHY_CHARS)
    line = encode("c" * 64, Message(2**53, beat(), Stamp("x" * 64, 1e9), longest))
    assert len(line) <= MAX_LINE_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"cluster": "c-2"},
        {"beat": {}},
        {"seq": "x"},
        {"stamp": None},
        {"stamp": {"boot": "b", "at_s": float("nan")}},
        {"failover": {"on": "perhaps"}},
        {"promise_s": float("inf")},
        {"promise_s": -1},
    ],
)
def test_what_is_not_this_protocol_is_refused(change: dict[str, object]) -> None:
    body = json.loads(encode("c-1", message())) | change
    with pytest.raises(ProtocolError):
        decode(json.dumps(body).encode(), "c-1", "b")


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b"not json", b'{"v":1}', b"\xff"])
def test_rubbish_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(line, "c-1", "b")


def _from_release(version: str | None) -> bytes:
    document = json.loads(encode("c-1", message()))
    if version is None:
        del document["agent"]
    else:
        document["agent"] = version
    return json.dumps(document).encode()


@pytest.mark.parametrize("version", ["0.0.9", "0.2.0", None])
def test_a_release_beside_this_one_is_heard(version: str | None) -> None:
    assert decode(_from_release(version), "c-1", "b") == message()


@pytest.mark.parametrize("version", ["0.3.0", "1.0.0", "", "none"])
def test_a_release_too_far_away_is_refused_with_both_versions(version: str) -> None:
    with pytest.raises(ProtocolError, match=rf"node b .*{version}.*") as refused:
        decode(_from_release(version), "c-1", "b")
    assert "0.1.0" in str(refused.value) or "versions are like" in str(refused.value)


def test_another_node_is_refused() -> None:
    with pytest.raises(ProtocolError, match="expected 'a'"):
        decode(encode("c-1", message()), "c-1", "a")


def test_only_what_is_newer_than_everything_heard_is_news() -> None:
    freshness = Freshness()
    assert freshness.is_news(Stamp("boot-1", 10.0))
    assert not freshness.is_news(Stamp("boot-1", 10.0)), "the same again"
    assert not freshness.is_news(Stamp("boot-1", 9.9)), "overtaken on the other path"
    assert freshness.is_news(Stamp("boot-1", 10.1))
    assert freshness.is_news(Stamp("boot-2", 1.0)), "the peer's machine has restarted"
    assert not freshness.is_news(Stamp("boot-1", 10.2)), "the machine of before has nothing to say any more"
    assert freshness.is_news(Stamp("boot-2", 1.1))


def test_the_newer_switch_holds_on_both_nodes() -> None:
    old, new = Switch(True, 3, "ann"), Switch(False, 4, "bob")
    assert new.is_newer_than(old)
    assert not old.is_newer_than(new)
    one, other = Switch(True, 4, "ann"), Switch(False, 4, "bob")
    assert one.is_newer_than(other) != other.is_newer_than(one), "of two at the same time both nodes choose the same"
    assert not new.is_newer_than(new)
