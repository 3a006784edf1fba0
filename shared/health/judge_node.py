"""One look at one node, without memory: what the fresh facts say, by a named rule. Hysteresis comes after (`settle`).

Good news needs two independent sources. Silence is one fact, never two: a node is called down only when a second
source agrees (probe, platform, or the serving peer). Bad news a node tells of itself is believed at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mirror_agent.contract import ApplicationState, Phase, Role

from shared.health.evidence import Evidence
from shared.health.facts import Beat
from shared.health.rules import NODE_RULES
from shared.health.verdict import Health
from shared.model.node_state import ProbeOutcome

ENOUGH: Final = 2
# Not held back by hysteresis: the node says it itself, or the platform has no such VM.
AT_ONCE: Final = frozenset({"application-failed", "vm-absent"})


@dataclass(frozen=True, slots=True)
class Judgement:
    state: Health
    rule: str
    sentence: str


def judged(state: Health, rule: str, detail: str = "") -> Judgement:
    sentence = NODE_RULES[rule]
    return Judgement(state, rule, f"{sentence} ({detail})" if detail else sentence)


def judge_node(found: Evidence, *, abstains: bool) -> Judgement:
    if found.last_beat is None:
        return judged(Health.UNKNOWN, "never-seen")
    if found.beat is not None:
        return _reporting(found, found.beat)
    if abstains:
        return judged(Health.UNKNOWN, "observer-just-started", _silence(found))
    return _silent(found)


def _reporting(found: Evidence, beat: Beat) -> Judgement:
    if beat.application is ApplicationState.FAILED:
        return judged(Health.DOWN, "application-failed", beat.sentence)
    if beat.mirror_error is not None:
        if beat.serves:
            return judged(Health.DEGRADED, "mirror-reports-error", beat.mirror_error)
        return judged(Health.DOWN, "replica-failed", beat.mirror_error)
    if found.not_running and found.power is not None:
        return judged(Health.UNKNOWN, "sources-contradict", f"power state {found.power.state}")
    if beat.role is Role.STOP:
        return judged(Health.DEGRADED, "module-stopped", beat.sentence)
    if beat.role is Role.WAIT:
        return judged(Health.DEGRADED, "module-waits", beat.sentence)
    if beat.role is Role.UP and beat.phase is not Phase.READY:
        if beat.phase is Phase.NOT_READY:
            return judged(Health.DOWN, "cannot-come-up", beat.sentence)
        return judged(Health.DEGRADED, "coming-up", beat.sentence)
    if found.probe is not None and found.probe_failed:
        return judged(Health.DEGRADED, "probe-path-broken", found.probe.reason)
    if beat.failing_checkers:
        return judged(Health.DEGRADED, "checker-failing", ", ".join(beat.failing_checkers))
    if beat.serves and beat.differences:
        return judged(Health.DEGRADED, "copies-differ", f"{beat.differences} differences stand")
    if beat.serves and beat.replica_slow:
        return judged(Health.DEGRADED, "replica-slow")
    if beat.serves and beat.probe_ok and found.probe is not None and found.probe.outcome is ProbeOutcome.STANDBY:
        return judged(Health.DEGRADED, "probe-disagrees", found.probe.reason)
    if len(found.supporting) < ENOUGH:
        return judged(Health.UNKNOWN, "not-enough-evidence", f"only {', '.join(sorted(found.supporting))}")
    if beat.role is Role.ALONE:
        return judged(Health.EXPOSED, "serves-alone", beat.sentence)
    return judged(Health.HEALTHY, "two-sources-agree", beat.sentence)


def _silent(found: Evidence) -> Judgement:
    if found.probe is not None and found.probe_answered:
        return judged(Health.DEGRADED, "silent-but-answering", f"{_silence(found)}; {found.probe.outcome.value}")
    if found.replicates:
        return judged(Health.DEGRADED, "silent-but-replicating", _silence(found))
    if found.seen_by:
        return judged(Health.DEGRADED, "silent-but-seen", f"{_silence(found)}; {', '.join(sorted(found.seen_by))}")
    if found.power is not None and found.power.state == "absent":
        return judged(Health.DOWN, "vm-absent", _silence(found))
    if found.power is not None and found.not_running:
        return judged(Health.DOWN, "vm-not-running", f"{_silence(found)}; power state {found.power.state}")
    if found.health is not None and found.health.state == "Unavailable":
        return judged(Health.DOWN, "platform-says-unavailable", f"{_silence(found)}; {found.health.summary}")
    if found.probe is not None and found.probe_failed:
        return judged(Health.DOWN, "silent-and-unreachable", f"{_silence(found)}; {found.probe.reason}")
    if found.left_out or found.recorded_out:
        return judged(Health.DOWN, "silent-and-unreplicated", _silence(found))
    if found.unseen:
        return judged(Health.DOWN, "silent-and-unseen", _silence(found))
    return judged(Health.UNKNOWN, "not-enough-evidence", _silence(found))


def _silence(found: Evidence) -> str:
    return "no heartbeat" if found.beat_age_s is None else f"no heartbeat for {found.beat_age_s:.0f} s"
