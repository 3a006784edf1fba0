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
    # Whose rule `when` is about; "" means: of whichever node.
    by: str = ""


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
    "writes-linger": 3,
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
    "application-starting",
    "await-promise",
    "first-start",
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
    "swap-withdrawn",
    "takeover",
    "takeover-at-start",
    "takeover-consult",
    "takeover-seal",
    "unpublished",
    "won-primary",
)


# Accidents that have to come together to do harm: (kinds, rule at whose beginning one of them strikes, seconds).
# `other` strikes the peer of the node the plot is about. Random schedules alone meet them once in a million seeds.
LINKS = ("heartbeats-cut", "stream-cut", "partition", "one-way")
PLOTS: tuple[tuple[tuple[tuple[str, ...], str, tuple[float, float]], ...], ...] = (
    # The peer is lost while its publication lingers, and the node is cut off while it withdraws it.
    (
        (("writes-linger",), "join-publish", (2.0, 9.0)),
        (LINKS, "join-publish", (6.0, 20.0)),
        (("isolated", "witness-cut", "freeze"), "join-withdrawn", (6.0, 20.0)),
    ),
    # A stop or a swap is given up while the hand-over lingers.
    (
        (("stop", "swap"), "serving-protected", (1.0, 4.0)),
        (("writes-linger",), "swap-prepare", (2.0, 9.0)),
        (("heartbeats-cut", "witness-cut", "agent-freeze"), "swap-publish", (1.0, 6.0)),
    ),
    # The new primary cannot read its record until the old one loses patience; both then act at once.
    (
        (("swap",), "serving-protected", (1.0, 1.0)),
        (("other witness-cut", "other witness-answers-lost"), "swap-prepare", (3.5, 5.5)),
        (("engine-stuck", "writes-linger"), "takeover-consult", (0.5, 3.0)),
    ),
    # The record lists the peer before the role has followed it: the disk is slow, and the node falls silent.
    (
        (("disk-slow", "disk-full"), "join-publish", (1.0, 8.0)),
        (("isolated", "freeze", "partition"), "adopt-record", (5.0, 15.0)),
    ),
    # Both lose their memory, and one of them stays away.
    (
        (("both-machines-crash",), "serving-protected", (1.0, 20.0)),
        (("machine-crash",), "joining", (3.0, 12.0)),
    ),
    # A primary that is cut off from its peer, to the last moment of its promise.
    ((("partition", "isolated", "one-way"), "serving-protected", (4.5, 12.0)),),
    # The agent dies before it can note what the witness has already written down.
    ((("agent-crash",), "first-start", (0.2, 6.0)), (("agent-crash",), "takeover", (0.2, 6.0))),
)


def _plot(draw: random.Random, at_s: float) -> list[Fault]:
    node = draw.choice("ab")
    faults: list[Fault] = []
    for kinds, when, (low, high) in draw.choice(PLOTS):
        kind = draw.choice(kinds)
        other = kind.startswith("other ")
        struck = ("b" if node == "a" else "a") if other else node
        seconds = round(draw.uniform(low, high), 3)
        by = node if other else ""
        faults.append(Fault(round(at_s, 3), kind.removeprefix("other "), struck, seconds, when, by))
    return faults


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
    if draw.random() < 0.25:
        faults += _plot(draw, draw.choice((0.0, draw.uniform(0.0, 40.0))))
    at_s = draw.choice((0.0, draw.uniform(0.0, 10.0), draw.uniform(0.0, 20.0)))
    while at_s < FAULTS_S:
        seconds = draw.choice((0.3, 1.0, 3.0, 6.0, 12.0)) * draw.uniform(0.5, 1.5)
        when = draw.choice(MOMENTS) if draw.random() < 0.3 else ""
        kind = draw.choices(names, weights)[0]
        faults.append(Fault(round(at_s, 3), kind, draw.choice("ab"), round(seconds, 3), when))
        at_s += draw.expovariate(1.0) * every_s
    return Schedule(seed, conditions, tuple(sorted(faults, key=lambda fault: fault.at_s)))


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
