"""What a verify says on the wire survives the round trip; its limits hold for the worst of names and details."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirror_agent.mirror import limits, verify_wire
from mirror_agent.mirror.verify_wire import Finding, Kind, Verdict
from mirror_agent.mirror.wire import WireError

NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
FINDINGS = st.builds(
    Finding,
    st.sampled_from(Kind),
    st.text(max_size=verify_wire.MAX_DETAIL_CHARS),
    st.one_of(st.just(b""), NAMES),
    st.integers(0, limits.BLOCKS_PER_SUM - 1),
    st.booleans(),
)


@given(st.lists(FINDINGS, max_size=verify_wire.MAX_FINDINGS))
def test_findings_round_trip(findings: list[Finding]) -> None:
    assert verify_wire.parse_found(verify_wire.found_payload(findings)) == findings


def test_too_many_findings_are_counted() -> None:
    findings = [Finding(Kind.EXTRA, "", b"%d" % number) for number in range(100)]
    told = verify_wire.parse_found(verify_wire.found_payload(findings))
    assert len(told) == verify_wire.MAX_FINDINGS
    assert told[-1].detail == "and 68 more like it"


@given(st.lists(NAMES, max_size=50))
def test_names_round_trip(names: list[bytes]) -> None:
    payloads = verify_wire.names_payloads(names)
    assert [name for payload in payloads for name in verify_wire.parse_names(memoryview(payload))] == names


def test_many_names_take_several_frames() -> None:
    names = [b"%0255d" % number for number in range(3000)]
    payloads = verify_wire.names_payloads(names)
    assert len(payloads) > 1
    assert all(len(payload) < limits.MAX_FRAME_BYTES // 2 for payload in payloads)


def test_a_verdict_round_trips_and_refuses_nonsense() -> None:
    verdict = Verdict("2026-11-22T15:00:00+00:00", 2, 1, 1000, 1 << 40, True)
    payload = verify_wire.verdict_payload(verdict)
    assert verify_wire.parse_verdict(memoryview(payload)) == verdict
    for key, value in (("differences", -1), ("entries", True), ("at_utc", "x" * 41)):
        wrong = json.dumps({**json.loads(payload), key: value}).encode()
        with pytest.raises(WireError):
            verify_wire.parse_verdict(memoryview(wrong))
