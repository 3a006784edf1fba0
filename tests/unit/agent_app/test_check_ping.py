"""The ping test on the loopback, and the format of its packets."""

from __future__ import annotations

import os

import pytest
from mirror_agent.app.check_ping import PingCheck, echo_request, is_reply
from mirror_agent.contract import Checker, CheckerAction, CheckerKind

TOKEN = bytes(range(16))


def ping(*addresses: str, timeout_s: float = 10.0, **more: object) -> Checker:
    return Checker.model_validate(
        {"name": "ping", "kind": CheckerKind.PING, "addresses": addresses, "timeout_s": timeout_s, **more}
    )


def test_it_only_tells_unless_somebody_says_otherwise() -> None:
    assert ping("127.0.0.1").action is CheckerAction.NONE
    assert ping("127.0.0.1", action="failover").action is CheckerAction.FAILOVER


def test_a_request_has_a_valid_checksum() -> None:
    packet = echo_request(4, 0x1234, 7, TOKEN)
    words = sum(int.from_bytes(packet[i : i + 2]) for i in range(0, len(packet), 2))
    assert (words >> 16) + (words & 0xFFFF) == 0xFFFF
    assert packet[:2] == b"\x08\x00"
    assert echo_request(6, 0x1234, 7, TOKEN)[:4] == b"\x80\x00\x00\x00"


def test_only_the_answer_to_this_request_counts() -> None:
    reply = b"\x00\x00" + echo_request(4, 1, 1, TOKEN)[2:]
    assert is_reply(4, reply, TOKEN)
    header = bytes([0x45]) + bytes(19)
    assert is_reply(4, header + reply, TOKEN), "a raw socket shows the IP header too"
    longer = bytes([0x46]) + bytes(23)
    assert is_reply(4, longer + reply, TOKEN), "with options"
    assert not is_reply(4, echo_request(4, 1, 1, TOKEN), TOKEN), "our own request on the loopback"
    assert not is_reply(4, reply, TOKEN[::-1]), "somebody else's"
    assert not is_reply(4, b"", TOKEN)
    assert is_reply(6, b"\x81" + echo_request(6, 1, 1, TOKEN)[1:], TOKEN)


@pytest.mark.skipif(os.geteuid() != 0, reason="echo sockets need root where ping_group_range is empty")
class TestOnTheLoopback:
    async def test_an_address_answers(self) -> None:
        finding = await PingCheck(ping("127.0.0.1"))()
        assert (finding.healthy, finding.message) == (True, "127.0.0.1 answers")

    async def test_one_of_several_is_enough(self) -> None:
        finding = await PingCheck(ping("255.255.255.255", "127.0.0.1"))()
        assert finding.healthy

    async def test_an_address_that_cannot_be_asked(self) -> None:
        finding = await PingCheck(ping("255.255.255.255"))()
        assert (finding.healthy, "255.255.255.255: Permission denied" in finding.message) == (False, True)

    async def test_silence_is_a_failure_in_time(self) -> None:
        finding = await PingCheck(ping("127.0.0.1", timeout_s=1e-9))()
        assert (finding.healthy, "no answer in 1e-09 s from 127.0.0.1" in finding.message) == (False, True)
