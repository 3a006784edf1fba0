"""The metrics are what Prometheus reads, carry what the node knows, and stand in docs/metrics.md."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mirror_agent.contract import ApplicationState, CheckerReport, Heartbeat, Phase, Role
from mirror_agent.mirror.counters import LATENCY_BOUNDS_S
from mirror_agent.mirror.status import LatencyStatus, MirrorStatus, VerifyStatus
from mirror_agent.node.metrics import METRICS, Scrape, metrics_text
from mirror_agent.web.prometheus import Family, Sample, Type, family_lines, number

ROOT = Path(__file__).parents[3]
_SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (\S+)')


def scrape() -> Scrape:
    beat = Heartbeat(
        node="a", boot_id="boot", agent_start_id="start", sequence=1, sent_utc="2026-11-22T15:00:00Z", role=Role.PRIM,
        phase=Phase.READY, epoch=7, in_sync=("a", "b"), rule="serving", sentence="",
        application=ApplicationState.RUNNING, probe_ok=True,
        checkers=(CheckerReport(name="web", healthy=False), CheckerReport(name="new", healthy=None)),
    )  # fmt: skip
    counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
    counts[3], counts[-1] = 5, 1
    mirror = MirrorStatus(
        mode="primary", link="live", acknowledging="paired", operations=12, replicated_bytes=3 << 30, ring_bytes=64,
        ack_latency=LatencyStatus(tuple(counts), 0.25),
        verify=VerifyStatus(outcome="different", ended_utc="2026-11-22T15:00:00+00:00", differences=2),
    )  # fmt: skip
    return Scrape('de"mo', "b", True, beat, mirror)


def samples(text: str) -> dict[tuple[str, str], float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            labels = match[2].replace('cluster="de\\"mo",node="a"', "").lstrip(",")
            assert (match[1], labels) not in found, line
            found[match[1], labels] = float(match[3])
    return found


def test_a_serving_node_tells_what_it_knows() -> None:
    found = samples(metrics_text(scrape()))
    assert found["mirrorplane_node_epoch", ""] == 7
    assert found["mirrorplane_node_role", 'role="PRIM"'] == 1
    assert found["mirrorplane_node_role", 'role="ALONE"'] == 0
    assert found["mirrorplane_mirror_operations_total", ""] == 12
    assert found["mirrorplane_mirror_replicated_bytes_total", ""] == 3 << 30
    assert found["mirrorplane_mirror_verify_differences", ""] == 2
    assert found["mirrorplane_mirror_verify_last_end_timestamp_seconds", ""] == 1795359600
    assert found["mirrorplane_checker_healthy", 'checker="web"'] == 0
    assert ("mirrorplane_checker_healthy", 'checker="new"') not in found
    assert ("mirrorplane_mirror_dirty_bytes", "") not in found


def test_the_histogram_is_cumulative_and_ends_with_everything() -> None:
    found = samples(metrics_text(scrape()))
    buckets = [
        (float(labels[4:-1]), value)
        for (name, labels), value in found.items()
        if name == "mirrorplane_mirror_acknowledgement_seconds_bucket"
    ]
    assert buckets == sorted(buckets)
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert buckets[-1] == (math.inf, 6)
    assert found["mirrorplane_mirror_acknowledgement_seconds_count", ""] == 6
    assert found["mirrorplane_mirror_acknowledgement_seconds_sum", ""] == 0.25


def test_a_stopped_node_has_metrics_as_well() -> None:
    found = samples(metrics_text(replace(scrape(), mirror=MirrorStatus())))
    assert found["mirrorplane_mirror_link", 'link="none"'] == 1
    assert not any(name.startswith("mirrorplane_mirror_acknowledgement") for name, _ in found)


def test_every_family_is_told_once_with_help_and_type() -> None:
    names = [metric.family.name for metric in METRICS]
    assert len(names) == len(set(names))
    text = metrics_text(scrape())
    for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE):
        assert text.count(f"# HELP {name} ") == text.count(f"# TYPE {name} ") == 1


def test_labels_are_escaped_and_numbers_exact() -> None:
    family = Family("some_thing", Type.GAUGE, "a\nb")
    assert family_lines(family, [Sample({"x": 'a"b\\c\nd'}, 0.1)], {}) == [
        "# HELP some_thing a\\nb",
        "# TYPE some_thing gauge",
        'some_thing{x="a\\"b\\\\c\\nd"} 0.1',
    ]
    assert [number(value) for value in (3.0, 2**53 - 1, 1e300, math.nan, -math.inf)] == [
        "3", "9007199254740991", "1e+300", "NaN", "-Inf",
    ]  # fmt: skip
    with pytest.raises(AssertionError, match="_total"):
        Family("things", Type.COUNTER, "")


def test_the_document_is_in_step() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "metrics_doc.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
