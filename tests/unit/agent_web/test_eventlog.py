"""The event log: order, durability, rotation, what survives a restart, and no secrets."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from mirror_agent.eventlog import MAX_EVENT_BYTES, EventLog
from mirror_agent.redaction import redact, redact_text

from tests.portable import assert_private


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_reach_file_and_standard_error_in_order(tmp_path: Path) -> None:
    stderr = io.StringIO()
    log = EventLog(tmp_path / "events.jsonl", stderr=stderr)
    log.record("agent.started", version="1")
    log.record_decision("decision", rule="peer-lost", epoch=3)
    assert log.flush()
    log.close()
    events = lines(tmp_path / "events.jsonl")
    assert [(event["seq"], event["kind"]) for event in events] == [(1, "agent.started"), (2, "decision")]
    assert events[1]["epoch"] == 3
    assert stderr.getvalue() == (tmp_path / "events.jsonl").read_text()
    assert_private(tmp_path / "events.jsonl")


def test_a_restart_goes_on_counting_and_still_knows_the_past(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = EventLog(path, stderr=io.StringIO())
    first.record("one")
    first.close()
    with path.open("a") as stream:
        stream.write('{"seq": 2, "kind": "torn')  # power loss in the middle of a line
    second = EventLog(path, stderr=io.StringIO())
    second.record("two")
    assert second.flush()
    second.close()
    assert [event["kind"] for event in second.tail(10)] == ["one", "two"]
    assert [event["seq"] for event in second.tail(10)] == [1, 2]


def test_tail_and_after(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", stderr=io.StringIO())
    for number in range(5):
        log.record("tick", number=number)
    assert [event["number"] for event in log.tail(2)] == [3, 4]
    assert log.tail(0) == []
    assert [event["seq"] for event in log.after(2, limit=2)] == [3, 4]
    assert log.after(5) == []
    log.close()


def test_the_file_set_is_bounded(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", stderr=io.StringIO(), max_file_bytes=2000, kept=2)
    for _ in range(100):
        log.record("tick", text="x" * 200)
        assert log.flush()
    log.close()
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * 2600


def test_a_huge_event_is_cut_and_still_a_line_of_json(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", stderr=io.StringIO())
    log.record("huge", text="y" * (2 * MAX_EVENT_BYTES))
    assert log.flush()
    log.close()
    (event,) = lines(tmp_path / "events.jsonl")
    assert event["kind"] == "huge"
    assert "cut" in event


def test_a_broken_disk_costs_the_file_only(tmp_path: Path) -> None:
    stderr = io.StringIO()
    path = tmp_path / "events.jsonl"
    log = EventLog(path, stderr=stderr)
    path.mkdir()
    log.record("one")
    log.record_decision("two")
    assert log.flush()
    log.close()
    kinds = [json.loads(line)["kind"] for line in stderr.getvalue().splitlines()]
    assert kinds[0] == "eventlog.file-failed"
    assert kinds[-1] == "two"
    assert [event["kind"] for event in log.tail(5)] == ["one", "two"]


def test_secrets_do_not_reach_the_log(tmp_path: Path) -> None:
    stderr = io.StringIO()
    log = EventLog(tmp_path / "events.jsonl", stderr=stderr)
    log.record(
        "request.failed",
        sas="sv=1&sig=VERYSECRET1",
        nodeCredential="VERYSECRET2",
        error="GET https://x.table.core.windows.net/witness?sv=1&sig=VERYSECRET3%3D: refused",
        headers={"Authorization": "Bearer VERYSECRET4aaaaaaa"},
        nested=[{"token": "VERYSECRET5"}],
    )
    assert log.flush()
    log.close()
    written = (tmp_path / "events.jsonl").read_text() + stderr.getvalue() + json.dumps(log.tail(5))
    assert "VERYSECRET" not in written
    assert "refused" in written


@pytest.mark.parametrize(
    "text",
    [
        "sv=2020-01-01&sig=hunter2hunter2%3D&se=x",
        "Authorization: Bearer hunter2hunter2",
        "token mp_ab12_hunter2hunter2 is bad",
        "used mpe_6f1e-11_00ff00ff00ff00ff_hunter2hunter2",
        "as mpn_6f1e-11_a_hunter2hunter2",
        "password=hunter2hunter2",
        "AccountName=x;AccountKey=hunter2hunter2==;EndpointSuffix=y",
        "https://user:hunter2hunter2@host/path",
        "-----BEGIN EC PRIVATE KEY-----\nhunter2hunter2\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nhunter2hunter2 (cut)",
    ],
)
def test_the_shape_of_a_secret_is_recognised(text: str) -> None:
    assert "hunter2" not in redact_text(text)


def test_ordinary_words_stay() -> None:
    body = {"tokens": 3, "peer": "b", "certificate": "x", "secretary": "ann", "ok": True, "credential": None, "n": [1]}
    assert redact(body) == body
    assert redact_text("the signature of sig 5 is fine, task=9") == "the signature of sig 5 is fine, task=9"
