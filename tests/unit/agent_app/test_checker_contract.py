"""What the configuration of a checker may say, and what it is told when it makes no sense."""

from __future__ import annotations

import os

import pytest
from mirror_agent.contract import Checker, CheckerWhen
from pydantic import ValidationError

from tests.agent_samples import SAMPLE_PATH, application


def checker(**body: object) -> Checker:
    return Checker.model_validate({"name": "sample", **body})


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "process", "match": "x"},
        {"kind": "process", "unit": "postgresql@15-main.service"},
        {"kind": "disk", "path": "/data"},
        {"kind": "disk", "path": "/data", "minFreePercent": 10, "minFreeBytes": 1, "when": "both", "action": "stop"},
        {"kind": "ping", "addresses": ["10.0.0.9", "::1"]},
        {"kind": "custom", "command": "true", "when": "second", "action": "none"},
    ],
)
def test_what_is_possible(body: dict[str, object]) -> None:
    made = checker(**body)
    assert Checker.model_validate_json(made.model_dump_json(by_alias=True)) == made
    assert Checker.model_validate_json(made.model_dump_json(by_alias=True), strict=True) == made  # as in a PUT


def test_the_place_is_the_serving_node_unless_it_is_said() -> None:
    assert checker(kind="tcp", port=1).when is CheckerWhen.PRIM


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"kind": "process"}, "needs 'match'"),
        ({"kind": "process", "unit": "../x.service"}, "unit"),
        ({"kind": "process", "unit": "x.service", "match": "x"}, "takes the place of 'match'"),
        ({"kind": "tcp", "port": 1, "unit": "x.service"}, "belongs to kind 'process'"),
        ({"kind": "disk"}, "needs 'path'"),
        ({"kind": "disk", "path": "data"}, "no absolute path"),
        ({"kind": "disk", "path": "/data", "minFreePercent": 100}, "less than 100"),
        ({"kind": "ping"}, "needs 'addresses'"),
        ({"kind": "ping", "addresses": ["gateway"]}, "not a valid IPv4 or IPv6 address"),
        ({"kind": "ping", "addresses": ["10.0.0.1"] * 5}, "at most 4"),
        ({"kind": "disk", "path": "/data", "when": "second"}, "'restart' means nothing"),
        ({"kind": "disk", "path": "/data", "when": "second", "action": "failover"}, "'failover' means nothing"),
    ],
)
def test_what_is_not(body: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        checker(**body)


@pytest.mark.parametrize("below", ["", os.sep, f"{os.sep}below"])
def test_a_disk_checker_never_writes_into_a_replicated_path(below: str) -> None:
    with pytest.raises(ValidationError, match="replicated path"):
        application(checkers=(checker(kind="disk", path=f"{SAMPLE_PATH}{below}"),))
    above, beside = os.path.dirname(SAMPLE_PATH), f"{SAMPLE_PATH}2"
    application(checkers=(checker(kind="disk", path=above), checker(kind="disk", path=beside, name="other")))
