"""Two nodes' consoles for browsers: the real servers, certificates and way between them; what the nodes say is set by
the test, in the shape in which `node.report` says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirror_agent.contract import Checker, CheckerReport, MirrorReport, VerifyReport
from mirror_agent.eventlog import Event
from mirror_agent.web.actions import NodeRequest, RequestOutcome
from mirror_agent.web.mirror_control import MirrorRequest
from mirror_agent.web.shown_configuration import shown_configuration

from tests.agent_samples import application, configuration
from tests.unit.agent_web.consoles import Consoles, NodeParts

if TYPE_CHECKING:
    from playwright._impl._api_structures import ClientCertificate

CLUSTER: Final = "demo"
_RULES: Final = {
    "PRIM": ("serving-protected", "The application serves here and the peer holds every acknowledged write."),
    "ALONE": ("serving-exposed", "The application serves here without a synchronised peer."),
    "SECOND": ("in-sync", "This node is in the in-sync set and replicates: it can take over."),
    "WAIT": ("not-in-sync", "This node does not hold every acknowledged write and must not take over."),
}


@dataclass
class StagedNode:
    """Says what it was told to say, and remembers what it was asked for."""

    name: str
    role: str
    phase: str = "ready"
    epoch: int = 3
    in_sync: tuple[str, ...] = ("a", "b")
    exposed_for_s: float | None = None
    mirror_report: MirrorReport = field(
        default_factory=lambda: MirrorReport(mode="none", link="none", acknowledging="")
    )
    peer_role: str = "SECOND"
    peer_alive: bool = True
    asked: list[NodeRequest | MirrorRequest] = field(default_factory=list)

    def status(self) -> dict[str, object]:
        serves = self.role in ("PRIM", "ALONE")
        rule, sentence = _RULES[self.role]
        other = "b" if self.name == "a" else "a"
        primary = self.name if serves else other
        checkers = [CheckerReport(name="server", healthy=True), CheckerReport(name="answers", healthy=True)]
        return {
            "cluster": CLUSTER,
            "node": self.name,
            "role": self.role,
            "phase": self.phase,
            "epoch": self.epoch,
            "rule": rule,
            "sentence": sentence,
            "inSync": list(self.in_sync),
            "exposedForS": self.exposed_for_s,
            "application": {"state": "running" if serves else "stopped", "error": "", "restartsInWindow": 0},
            "probe": {"ok": serves, "reason": "" if serves else f"this node is {self.role}"},
            "peer": {
                "name": other,
                "alive": self.peer_alive,
                "role": self.peer_role,
                "phase": "ready",
                "epoch": self.epoch,
                "paths": {"10.0.0.5": "answers" if self.peer_alive else "TimeoutError"},
            },
            "promise": {"held": serves},
            "witness": {"epoch": self.epoch, "primary": primary, "inSync": list(self.in_sync), "failure": ""},
            "mirror": self.mirror_report.model_dump(mode="json", by_alias=True),
            "checkers": [report.model_dump(by_alias=True) for report in checkers] if serves else [],
            "failover": {"on": True, "serial": 0, "who": "", "why": "", "agreed": True},
            "checkersSwitch": {"on": True, "serial": 0, "who": "", "why": ""},
            "trusted": True,
        }

    def why(self) -> dict[str, object]:
        return {"rule": _RULES[self.role][0], "sentence": _RULES[self.role][1]}

    def drill(self) -> dict[str, object]:
        serves = self.role in ("PRIM", "ALONE")
        supposed = "the peer vanishes, its promise and ours expire, the witness answers"
        takes = self.role == "SECOND"
        promote = (
            {"act": "promote", "allowed": False, "sentence": f"This node serves already, as {self.role}."}
            if serves
            else {"act": "promote", "allowed": takes, "sentence": _RULES[self.role][1], "supposed": supposed}
        )
        swap = (
            {"act": "swap", "allowed": self.role == "PRIM", "sentence": "The application is stopped, then handed over."}
            if serves
            else {
                "act": "swap",
                "allowed": False,
                "sentence": f"A swap is ordered on the serving node; this one is {self.role}.",
            }
        )
        plain: dict[str, Any] = {"rule": "", "supposed": ""}
        return {"node": self.name, "role": self.role, "permissions": [{**plain, **promote}, {**plain, **swap}]}

    def history(self, limit: int) -> list[dict[str, object]]:
        return []

    async def request(self, request: NodeRequest) -> RequestOutcome:
        self.asked.append(request)
        return RequestOutcome("succeeded", f"{request.action.value} is done")

    def mirror(self) -> dict[str, object]:
        return {"node": self.name, **self.mirror_report.model_dump(mode="json", by_alias=True)}

    async def verified(self) -> dict[str, object]:
        return {}

    async def quarantine(self) -> list[dict[str, object]]:
        kept = {"id": "20261122T170000-4/1", "kind": "content", "path": "/data/ledger/ledger.db", "size_bytes": 1 << 20}
        return [{**kept, "at_utc": "2026-11-22T17:00:00Z"}]

    def metrics(self) -> str:
        return ""

    async def operate(self, request: MirrorRequest) -> RequestOutcome:
        self.asked.append(request)
        return RequestOutcome("accepted", "it has begun")


def parts_of(node: StagedNode) -> NodeParts:
    checker = Checker(name="server", kind="process", match="ledger")
    sample = configuration(application=application(start_prim="/opt/ledger/start.sh\n", checkers=(checker,)))
    kinds = ("agent.start", "decision", "witness.write", "application.started", "probe.ok", "control-plane.connected")
    events: list[Event] = [
        {"seq": number, "utc": f"2026-11-22T17:00:{number:02d}Z", "kind": kind, "node": node.name, "epoch": 3}
        for number, kind in enumerate(kinds, start=1)
    ]
    return NodeParts(node, node, events=events, shown=shown_configuration(sample))


def in_sync() -> dict[str, StagedNode]:
    """Node a is PRIM; its last verify found nothing."""
    verify = VerifyReport(outcome="identical", ended_utc="2026-11-22T03:00:00Z", entries=812, total_bytes=700 << 20)
    primary = MirrorReport(
        mode="primary",
        link="live",
        acknowledging="paired",
        operations=48_211,
        replicated_bytes=734_003_200,
        operations_per_s=120.4,
        replicated_bytes_per_s=1_400_000,
        ack_latency_ms_p50=0.6,
        ack_latency_ms_p99=2.4,
        in_flight_bytes=8192,
        verify=verify,
    )
    replica = MirrorReport(mode="replica", link="live", acknowledging="none", verify=verify)
    return {
        "a": StagedNode("a", "PRIM", mirror_report=primary),
        "b": StagedNode("b", "SECOND", mirror_report=replica, peer_role="PRIM"),
    }


def exposed() -> dict[str, StagedNode]:
    """Node b serves alone and has changed 312 files since; a waits."""
    alone = MirrorReport(mode="primary", link="lost", acknowledging="solo", dirty_files=312, dirty_bytes=40 << 20)
    waiting = MirrorReport(mode="none", link="none", acknowledging="none")
    return {
        "a": StagedNode("a", "WAIT", "not-ready", 4, ("b",), mirror_report=waiting, peer_role="ALONE"),
        "b": StagedNode("b", "ALONE", "ready", 4, ("b",), 180.0, alone, peer_role="WAIT"),
    }


def certificate(running: Consoles, node: str, role: str) -> ClientCertificate:
    """For a browser, of a person `ann` with this role."""
    file, key = running.authority.issue("ann", role)
    return {"origin": running.urls[node], "certPath": file, "keyPath": key}
