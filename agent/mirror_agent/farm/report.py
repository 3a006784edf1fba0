"""What a farm node tells others about itself: heartbeats, the probe's body, `mirrorctl` answers, metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import (
    MAX_SENTENCE_CHARS,
    ApplicationState,
    CertificateReport,
    FarmConfiguration,
    Heartbeat,
    NodeName,
    RolloutReport,
)
from mirror_agent.farm.model import recent_failures
from mirror_agent.farm.neighbours import Neighbours, Told
from mirror_agent.farm.node import FarmNode
from mirror_agent.mirror.status import MirrorStatus
from mirror_agent.node.metrics import METRICS, Scrape
from mirror_agent.node.report import agent_status, certificate_status
from mirror_agent.node.switches import Switches
from mirror_agent.web.probe import ProbeAnswer
from mirror_agent.web.prometheus import family_lines

# What those of a pair's metrics are about that a farm node does not have.
_OF_A_PAIR: Final = ("mirrorplane_mirror_", "mirrorplane_peer_")
_OF_A_RECORD: Final = ("mirrorplane_node_epoch", "mirrorplane_node_in_sync", "mirrorplane_node_exposed_seconds")
FARM_METRICS: Final = tuple(
    metric
    for metric in METRICS
    if not metric.family.name.startswith(_OF_A_PAIR) and metric.family.name not in _OF_A_RECORD
)


class FarmReporter:
    """Reads the node and its parts; changes nothing but its own heartbeat counter."""

    def __init__(
        self,
        node: FarmNode,
        configuration: FarmConfiguration,
        *,
        checkers: NodeCheckers,
        switches: Switches,
        neighbours: Neighbours,
        certificate: Callable[[], CertificateReport | None],
        rollout: Callable[[], RolloutReport | None] = lambda: None,
        boot_id: str,
        start_id: str,
    ) -> None:
        self._node = node
        self._configuration = configuration
        self._checkers = checkers
        self._switches = switches
        self._neighbours = neighbours
        self._certificate = certificate
        self._rollout = rollout
        self._boot_id = boot_id
        self._start_id = start_id
        self._sequence = 0

    @property
    def node(self) -> NodeName:
        return self._configuration.node

    def heartbeat(self) -> Heartbeat:
        """The state of this moment for the control plane."""
        self._sequence += 1
        return self._beat()

    def _beat(self) -> Heartbeat:
        state, decision = self._node.state, self._node.decision
        return Heartbeat(
            node=self._configuration.node,
            boot_id=self._boot_id,
            agent_start_id=self._start_id,
            sequence=self._sequence,
            sent_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
            role=decision.role,
            phase=decision.phase,
            epoch=0,
            rule=decision.rule,
            sentence=decision.sentence[:MAX_SENTENCE_CHARS],
            application=ApplicationState(state.app.value),
            probe_ok=decision.serves,  # what the probe answers; asking it would be told as a probe
            checkers=self._checkers.reports(),
            restarts_in_window=recent_failures(state, self._node.now),
            checkers_on=self._switches.checkers.on,
            certificate=self._certificate(),
            rollout=self._rollout(),
            peers_up=self._neighbours.serving() if self._neighbours.asked else None,
        )

    def word(self) -> Told:
        """For the other nodes."""
        decision = self._node.decision
        return Told(
            node=self._configuration.node,
            role=decision.role,
            phase=decision.phase,
            serves=decision.serves,
            sentence=decision.sentence[:MAX_SENTENCE_CHARS],
        )

    def probe_answer(self) -> ProbeAnswer:
        ok, reason = self._node.probe()
        decision = self._node.decision
        return ProbeAnswer(
            ok=ok,
            role=decision.role,
            phase=decision.phase,
            epoch=0,
            reason=reason,
            health={"application": self._node.state.app.value},
        )

    def status(self) -> dict[str, object]:
        """For `mirrorctl status` and the node's console."""
        state, decision = self._node.state, self._node.decision
        ok, reason = self._node.probe()
        return {
            "cluster": self._configuration.cluster_name,
            "kind": self._configuration.kind,
            "node": self._configuration.node,
            "role": decision.role.value,
            "phase": decision.phase.value,
            "rule": decision.rule,
            "sentence": decision.sentence,
            "application": {
                "state": state.app.value,
                "error": state.app_error,
                "restartsInWindow": recent_failures(state, self._node.now),
            },
            "probe": {"ok": ok, "reason": reason},
            "others": self._others(),
            "checkers": [report.model_dump(by_alias=True) for report in self._checkers.reports()],
            "checkersSwitch": asdict(self._switches.checkers),
            "agent": agent_status(self._rollout()),
            "certificate": certificate_status(self._certificate(), datetime.now(UTC)),
        }

    def _others(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        for one in self._neighbours.known():
            alive, told = self._neighbours.alive(one), one.told
            found.append(
                {
                    "node": one.name,
                    "address": one.address,
                    "alive": alive,
                    "role": told.role.value if told else None,
                    "phase": told.phase.value if told else None,
                    "serves": bool(alive and told and told.serves),
                    "sentence": told.sentence if told and alive else one.failure,
                }
            )
        return found

    def why(self) -> dict[str, object]:
        """The last decision and the facts it was taken from."""
        decision, state = self._node.decision, self._node.state
        return {
            "rule": decision.rule,
            "sentence": decision.sentence,
            "role": decision.role.value,
            "phase": decision.phase.value,
            "action": decision.action.value,
            "wish": state.wish.value,
            "facts": self.status(),
        }

    def metrics(self) -> str:
        """Prometheus text: what a pair's node tells, without copies, peer and record."""
        beat = self._beat()
        scrape = Scrape(
            cluster=self._configuration.cluster_name,
            peer=self._configuration.peers[0].name,
            peer_alive=False,
            beat=beat,
            mirror=MirrorStatus(),
        )
        common = {"cluster": scrape.cluster, "node": beat.node}
        lines = [
            line for metric in FARM_METRICS for line in family_lines(metric.family, metric.samples(scrape), common)
        ]
        return "\n".join(lines) + "\n"
