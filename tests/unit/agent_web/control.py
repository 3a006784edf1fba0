"""A node that answers the interfaces' questions and writes down what it was asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror_agent.web.actions import NodeRequest, RequestOutcome
from mirror_agent.web.mirror_control import MirrorRequest


@dataclass
class SampleControl:
    outcome: RequestOutcome = field(default_factory=lambda: RequestOutcome("accepted", "swapping"))
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    confirmations: list[str] = field(default_factory=list)
    broken: bool = False

    def status(self) -> dict[str, object]:
        if self.broken:
            raise RuntimeError("broken; password=VERYSECRET")
        return {
            "cluster": "demo",
            "node": "a",
            "role": "ALONE",
            "epoch": 4,
            "witness": {"sas": "VERYSECRET", "reachable": True},
        }

    def why(self) -> dict[str, object]:
        return {"rule": "peer-lost", "sentence": "serving alone", "inputs": [{"peer": "silent"}]}

    def drill(self) -> dict[str, object]:
        permissions = [
            {"act": "promote", "allowed": True, "sentence": "It would.", "rule": "takeover", "supposed": "silence"},
            {"act": "resync", "allowed": False, "sentence": "No\u001b[31m need.", "rule": "", "supposed": ""},
        ]
        return {"node": "a", "role": "ALONE", "permissions": permissions}

    def history(self, limit: int) -> list[dict[str, object]]:
        events: list[dict[str, object]] = [
            {"seq": number, "utc": "2026-11-01T00:00:00Z", "kind": "tick"} for number in range(100)
        ]
        return events[-limit:]

    async def request(self, request: NodeRequest) -> RequestOutcome:
        self.requests.append((request.action.value, request.who, request.why))
        self.confirmations.append(request.confirm)
        return self.outcome


@dataclass
class SampleMirror:
    """Two copies: a verify is under way for `polls` looks, then `record` is how it ended."""

    outcome: RequestOutcome = field(default_factory=lambda: RequestOutcome("accepted", "begun"))
    record: dict[str, object] = field(default_factory=dict)
    kept: list[dict[str, object]] = field(default_factory=list)
    requests: list[MirrorRequest] = field(default_factory=list)
    polls: int = 0

    def mirror(self) -> dict[str, object]:
        running, self.polls = self.polls > 0, max(0, self.polls - 1)
        progress = {"running": running, "entries": 3, "doneBytes": 10, "totalBytes": 20, "found": 0}
        return {"node": "a", "link": "live", "verify": progress}

    async def verified(self) -> dict[str, object]:
        return self.record

    async def quarantine(self) -> list[dict[str, object]]:
        return self.kept

    def metrics(self) -> str:
        return "# TYPE mirrorplane_node_epoch gauge\nmirrorplane_node_epoch 4\n"

    async def operate(self, request: MirrorRequest) -> RequestOutcome:
        self.requests.append(request)
        return self.outcome
