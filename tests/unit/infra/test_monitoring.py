"""Grafana dashboard and Azure workbook: they parse, and name only what the product really tells."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb_kql
import promql_parser
import pytest
from mirror_agent.node.metrics import METRICS as NODE_METRICS
from mirror_agent.web.prometheus import Type

from shared.api.endpoints import ENDPOINTS
from shared.metrics.families import METRICS as FLEET_METRICS
from shared.telemetry import Span, recorded_by
from tests.control_plane_app import App, running_app

MONITORING = Path(__file__).parents[3] / "infra" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana-mirrorplane.json").read_text(encoding="utf-8"))
WORKBOOK: dict[str, Any] = json.loads((MONITORING / "workbook.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TEXT, QUERY, PARAMETERS = 1, 3, 9
CONTENT_VERSION = {QUERY: "KqlItem/1.0", PARAMETERS: "KqlParameterItem/1.0"}


def labels_of_metrics() -> dict[str, set[str]]:
    """Every name that can be asked for, and the labels its samples have."""
    found = {metric.name: set(metric.labels) for metric in FLEET_METRICS}
    for metric in NODE_METRICS:
        labels = {"cluster", "node", *filter(None, [metric.labels])}
        name = metric.family.name
        if metric.family.type is Type.HISTOGRAM:
            found |= {f"{name}_bucket": labels, f"{name}_sum": labels - {"le"}, f"{name}_count": labels - {"le"}}
        else:
            found[name] = labels
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_parses_and_asks_for_metrics_and_labels_there_are(expression: str) -> None:
    promql_parser.parse(expression.replace("$cluster", "pay"))
    known = labels_of_metrics()
    names = set(re.findall(r"mirrorplane_\w+", expression))
    assert names, "a panel shows something of ours"
    assert names <= set(known), names - set(known)
    for name, matchers in re.findall(r"(mirrorplane_\w+)\{([^}]*)\}", expression):
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert asked <= known[name], f"{name} has no label {asked - known[name]}"
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", expression))))
    assert grouped <= set().union(*(known[name] for name in names))


def test_legends_name_labels_there_are() -> None:
    known = labels_of_metrics()
    for panel in PANELS:
        for target in panel["targets"]:
            names = re.findall(r"mirrorplane_\w+", target["expr"])
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert labels <= set().union(*(known[name] for name in names)), panel["title"]


def test_the_dashboard_is_whole() -> None:
    assert (DASHBOARD["title"], DASHBOARD["uid"], DASHBOARD["schemaVersion"]) == ("Mirrorplane", "mirrorplane", 39)
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "cluster"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used <= variables | {"__all"}
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not mine & cells, f"{panel['title']} lies over another panel"
        cells |= mine
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}", "no data source of one installation"
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


def workbook_queries() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, text, and the item or parameter it belongs to."""
    for item in WORKBOOK["items"]:
        if item["type"] == QUERY:
            yield item["name"], item["content"]["query"], item["content"]
        if item["type"] == PARAMETERS:
            for parameter in item["content"]["parameters"]:
                if "query" in parameter:
                    yield parameter["name"], parameter["query"], parameter


QUERIES = list(workbook_queries())


@pytest.mark.parametrize(
    ("name", "query"), [(name, query) for name, query, _ in QUERIES], ids=[one[0] for one in QUERIES]
)
def test_every_query_is_kql_over_a_table_there_is(name: str, query: str) -> None:
    parsed = duckdb_kql.parse(query)
    assert parsed.ok, parsed.diagnostics
    assert query.split("\n", 1)[0] in {"AppRequests", "resources"}


@pytest.mark.parametrize("broken", ["AppRequests | wher x == 1", "AppRequests | summarize count( by x"])
def test_the_grammar_refuses_what_is_no_kql(broken: str) -> None:
    with pytest.raises(duckdb_kql.KqlSyntaxError):
        duckdb_kql.parse(broken)


def test_the_workbook_is_whole() -> None:
    assert WORKBOOK["version"] == "Notebook/1.0"
    assert WORKBOOK["$schema"].endswith("/schema/workbook.json")
    names = [item["name"] for item in WORKBOOK["items"]]
    assert len(set(names)) == len(names)
    parameters = [
        one for item in WORKBOOK["items"] if item["type"] == PARAMETERS for one in item["content"]["parameters"]
    ]
    identities = [str(uuid.UUID(one["id"])) for one in parameters]
    assert len(set(identities)) == len(identities)
    defined = {one["name"] for one in parameters}
    used = set(re.findall(r"\{(\w+)\}", json.dumps(WORKBOOK["items"])))
    used |= {item["content"].get("timeContextFromParameter", "TimeRange") for item in WORKBOOK["items"]}
    assert used == defined
    for item in WORKBOOK["items"]:
        assert item["type"] in (TEXT, QUERY, PARAMETERS)
        if item["type"] == TEXT:
            assert item["content"]["json"].strip()
        else:
            assert item["content"]["version"] == CONTENT_VERSION[item["type"]]
    kinds = {(one["queryType"], one["resourceType"]) for _, _, one in QUERIES}
    assert kinds == {(0, "microsoft.operationalinsights/workspaces"), (1, "microsoft.resourcegraph/resources")}


async def test_the_workbook_asks_for_what_spans_say() -> None:
    said: list[Span] = []
    with running_app() as app, recorded_by(said.append):
        await _something_of_everything(app)
    attributes = {name for span in said for name in span.attributes}
    text = "\n".join(query for _, query, _ in QUERIES)
    asked = set(re.findall(r'Properties\["([^"]+)"\]', text))
    assert asked
    assert asked <= attributes, asked - attributes
    assert set(re.findall(r'Name == "(\w+)"', text)) <= {span.name for span in said}
    named = set(re.findall(r'"(node_\w+)"', text))
    assert named <= set(ENDPOINTS)


async def _something_of_everything(app: App) -> None:
    await app.provisioned()
    await app.send("GET", "clusters/none")
    await app.fire("health_audit", None)
