"""A node that answers the interfaces' questions and writes down what it was asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror_agent.contract import CommandAction
from mirror_agent.web.local_api import RequestOutcome


@dataclass
class SampleControl:
    outcome: RequestOutcome = field(default_factory=lambda: RequestOutcome("accepted", "swapping"))
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    broken: bool = False

    def status(self) -> dict[str, object]:
        if self.broken:
            raise RuntimeError("broken; password=VERYSECRET")
        return {"node": "a", "role": "ALONE", "epoch": 4, "witness": {"sas": "VERYSECRET", "reachable": True}}

    def why(self) -> dict[str, object]:
        return {"rule": "peer-lost", "sentence": "serving alone", "inputs": [{"peer": "silent"}]}

    def history(self, limit: int) -> list[dict[str, object]]:
        events: list[dict[str, object]] = [
            {"seq": number, "utc": "2026-11-01T00:00:00Z", "kind": "tick"} for number in range(100)
        ]
        return events[-limit:]

    async def request(self, action: CommandAction, requested_by: str, reason: str) -> RequestOutcome:
        self.requests.append((action.value, requested_by, reason))
        return self.outcome
