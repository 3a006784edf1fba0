"""A schedule of faults as data: drawn from a seed, written to a file, read back, and replayed.

A fault strikes at its time, or, with `when`, as soon after it as the node's decision begins to be that rule: the worst
moments are the ones between two steps of a join, a swap or a takeover, and nobody hits them by the clock.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

FAULTS_S = 60.0


@dataclass(frozen=True)
class Fault:
    """`kind` is a name in `faults.KINDS`; `seconds` how long it lasts, or until the node comes back."""

    at_s: float
    kind: str
    node: str = "a"
    seconds: float = 0.0
    when: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Conditions:
    """What the whole schedule goes through, next to its faults. Probabilities, and clock rates (1 = true)."""

    loss: float = 0.0
    witness_trouble: float = 0.0
    linger: float = 0.05
    call_fails: float = 0.01
    twice: float = 0.0
    crawl: float = 0.0
    app_fails: dict[str, float] = field(default_factory=lambda: {"a": 0.0, "b": 0.0})
    rates: dict[str, float] = field(default_factory=lambda: {"a": 1.0, "b": 1.0})
    # Rates outside the assumption of docs/safety.md, and jumps: only the data's invariants are required to hold.
    wild_clocks: bool = False


@dataclass(frozen=True)
class Schedule:
    """Everything that decides a run: the same schedule replays exactly. `found`: what it once brought to light."""

    seed: int
    conditions: Conditions = Conditions()
    faults: tuple[Fault, ...] = ()
    found: str = ""

    def without(self, faults: set[int]) -> Schedule:
        return replace(self, faults=tuple(f for i, f in enumerate(self.faults) if i not in faults))


# kind -> weight. `FATAL` ones lose data on purpose or need an operator: they are rarer and not in every schedule.
PLAIN = {
    "partition": 8,
    "one-way": 6,
    "heartbeats-cut": 5,
    "stream-cut": 5,
    "witness-cut": 8,
    "witness-answers-lost": 6,
    "witness-busy": 3,
    "isolated": 8,
    "network-crawls": 3,
    "agent-crash": 9,
    "agent-freeze": 4,
    "engine-freeze": 4,
    "freeze": 7,
    "engine-crash": 5,
    "engine-stuck": 3,
    "disk-full": 3,
    "disk-slow": 3,
    "application-crash": 4,
    "application-flaps": 1,
    "swap": 10,
    "restart": 2,
    "stop": 6,
    "failover-off": 2,
    "leave": 3,
    "both-agents-crash": 2,
}
MACHINES = {"machine-crash": 9, "both-machines-crash": 4, "reboot": 3}
OVERRIDES = {"force": 6, "disk-replaced": 5}
CLOCKS = {"clock-jump": 14}

# Rules at whose beginning it is worst to be hit.
MOMENTS = (
    "adopt-record",
    "await-promise",
    "handed-over",
    "join-prepare",
    "join-publish",
    "join-require-peer",
    "join-withdrawn",
    "joined-in-sync",
    "leaving",
    "mount-front",
    "peer-does-not-serve",
    "prepare",
    "promise-expired",
    "publish-alone",
    "raise-epoch",
    "release",
    "resume-as-primary",
    "seal-before-mount",
    "stop-drain",
    "suspect-peer",
    "swap-done",
    "swap-drain",
    "swap-prepare",
    "swap-publish",
    "swap-stop-application",
    "takeover",
    "takeover-at-start",
    "takeover-consult",
    "takeover-seal",
    "unpublished",
    "won-primary",
)


def generate(seed: int) -> Schedule:
    """The schedule of a seed."""
    draw = random.Random(f"schedule/{seed}")
    wild = draw.random() < 0.08
    spread = 0.5 if wild else draw.choice((0.0, 0.0, 0.003, 0.0045))
    conditions = Conditions(
        loss=draw.choice((0.0, 0.0, 0.02, 0.1)),
        witness_trouble=draw.choice((0.0, 0.0, 0.1, 0.4)),
        linger=draw.choice((0.0, 0.05, 0.05, 0.3)),
        call_fails=draw.choice((0.0, 0.01, 0.01, 0.1)),
        twice=draw.choice((0.0, 0.0, 0.1)),
        crawl=draw.choice((0.0, 0.0, 0.0, 0.01)),
        app_fails={name: draw.choice((0.0, 0.0, 0.0, 0.1)) for name in "ab"},
        rates={name: 1.0 + draw.uniform(-spread, 2 * spread if wild else spread) for name in "ab"},
        wild_clocks=wild,
    )
    kinds = dict(PLAIN)
    if draw.random() < 0.5:
        kinds |= MACHINES
    if draw.random() < 0.12:
        kinds |= OVERRIDES
    if wild:
        kinds |= CLOCKS
    names, weights = list(kinds), list(kinds.values())
    every_s = draw.choice((3.0, 6.0, 12.0))
    faults: list[Fault] = []
    at_s = draw.uniform(0.0, 20.0)
    while at_s < FAULTS_S:
        seconds = draw.choice((0.3, 1.0, 3.0, 6.0, 12.0)) * draw.uniform(0.5, 1.5)
        when = draw.choice(MOMENTS) if draw.random() < 0.3 else ""
        kind = draw.choices(names, weights)[0]
        faults.append(Fault(round(at_s, 3), kind, draw.choice("ab"), round(seconds, 3), when))
        at_s += draw.expovariate(1.0) * every_s
    return Schedule(seed, conditions, tuple(faults))


def to_text(schedule: Schedule) -> str:
    """The schedule as a file a person can read; only what differs from the defaults."""
    plain = asdict(Conditions())
    conditions = {key: value for key, value in asdict(schedule.conditions).items() if value != plain[key]}
    empty = asdict(Fault(0.0, ""))
    faults = [{k: v for k, v in asdict(f).items() if v != empty[k] or k in ("at_s", "node")} for f in schedule.faults]
    lines = ",\n  ".join(json.dumps(fault) for fault in faults)
    told = {"found": schedule.found, "seed": schedule.seed, "conditions": conditions}
    head = json.dumps(told, indent=1).removesuffix("\n}")
    return f'{head},\n "faults": [\n  {lines}\n ]\n}}\n'


def from_text(text: str) -> Schedule:
    content = json.loads(text)
    faults = tuple(Fault(**fault) for fault in content["faults"])
    return Schedule(int(content["seed"]), Conditions(**content["conditions"]), faults, content["found"])


def load(path: Path) -> Schedule:
    return from_text(path.read_text(encoding="utf-8"))
