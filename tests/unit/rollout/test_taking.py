"""Which field of a configuration is taken how: none is forgotten, and the page says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mirror_agent.contract import Application, MirrorPolicy, NodeConfiguration, Timing
from mirror_agent.node.configuration_change import TAKING, Taking, changed_fields, needs_new_beginning
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

PAGE = Path(__file__).parents[3] / "docs" / "upgrade.md"
GROUPS: dict[str, type[BaseModel]] = {
    "": NodeConfiguration,
    "application.": Application,
    "application.mirror.": MirrorPolicy,
    "timing.": Timing,
}
INNER = {"application", "timing", "application.mirror"}


def configuration(**changes: Any) -> NodeConfiguration:
    document: dict[str, Any] = {
        "version": 1,
        "clusterName": "pay",
        "clusterId": "id",
        "node": "a",
        "address": "10.0.0.4",
        "peer": {"name": "b", "addresses": ["10.0.0.5"]},
        "witness": {"endpoint": "https://x", "table": "t", "partitionKey": "p", "rowKey": "r", "sas": "s"},
        "application": {"name": "pay", "startPrim": "true", "replicatedPaths": [{"path": "/data/pay"}]},
    }
    for path, value in changes.items():
        place = document
        *groups, last = path.split("__")
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return NodeConfiguration.model_validate(document)


def test_every_field_is_named_once() -> None:
    fields = {f"{prefix}{name}" for prefix, model in GROUPS.items() for name in model.model_fields}
    assert TAKING.keys() == fields - INNER


def test_the_page_says_the_same() -> None:
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    page = {row[1].strip().strip("`"): row[2].strip() for row in rows if len(row) > 3}
    wanted = {".".join(to_camel(part) for part in name.split(".")): taking.value for name, taking in TAKING.items()}
    assert {name: page.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("changes", "waiting"),
    [
        ({}, ()),
        ({"version": 2, "failover": False}, ()),
        ({"application__checkers": [{"name": "up", "kind": "tcp", "port": 80}]}, ()),
        ({"timing__controlPlaneHeartbeatS": 5}, ()),
        ({"application__environment": {"A": "1"}}, ("application.environment",)),
        ({"application__mirror": {"resync": "everything"}}, ("application.mirror.resync",)),
        ({"timing__promiseS": 5, "failover": False}, ("timing.promise_s",)),
    ],
)
def test_what_a_running_agent_cannot_take(changes: dict[str, Any], waiting: tuple[str, ...]) -> None:
    assert needs_new_beginning(configuration(), configuration(**changes)) == waiting


def test_changes_are_told_by_their_fields() -> None:
    other = configuration(application__startPrim="false", witness__sas="other")
    assert changed_fields(configuration(), other) == ("witness", "application.start_prim")
    assert TAKING["witness"] is Taking.LIVE
