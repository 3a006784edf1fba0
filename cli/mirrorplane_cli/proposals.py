"""Before a cluster is made or changed: what it would cost, and every change it would make in Azure."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any, Final

from mirrorplane_cli.clusters import read_cluster
from mirrorplane_cli.outcome import ExitCode, Failed
from mirrorplane_cli.session import Session

ITEMS: Final = {"RESOURCE": "name", "SKU": "sku", "ZONE": "zone", "PER MONTH": "monthlyCost"}
CHANGES: Final = {"ACTION": "action", "RESOURCE": "name", "PROPERTY": "path", "NOW": "before", "THEN": "after"}


def estimate(session: Session, given: Namespace) -> None:
    found = _ask(session, "estimate", given)
    if session.screen.form == "json":
        session.screen.json(found)
        return
    prices = found["prices"]
    session.screen.rows(found["resources"], ITEMS)
    session.screen.line(f"\n{found['monthlyCost']:.2f} {prices['currency']} a month, without tax and traffic")
    if not found["complete"]:
        session.screen.line(f"not in it, as the table has no price: {', '.join(found['unpriced'])}")
    session.screen.line(f"prices of {prices['region']} as of {prices['date']}: {prices['source']}")
    needed = ", ".join(f"{quota['needed']} {quota['name']}" for quota in found["quotas"])
    session.screen.line(f"quotas: {needed}")


def validate(session: Session, given: Namespace) -> None:
    """Exit code 1 when the request would be refused, or something in Azure stands in its way."""
    found = _ask(session, "validate", given)
    if session.screen.form == "json":
        session.screen.json(found)
    else:
        session.screen.rows(_lines(found["changes"]), CHANGES)
    if not found["valid"]:
        problems = "; ".join(f"{problem['code']}: {problem['message']}" for problem in found["problems"])
        raise Failed(ExitCode.REFUSED, problems)


def _ask(session: Session, word: str, given: Namespace) -> Any:
    body = {"name": given.name, "cluster": read_cluster(given.file)}
    return session.api.send("POST", f"clusters:{word}", body).body


def _lines(changes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A line for each property that would change, and one for a resource without such."""
    for change in changes:
        yield from ({**change, **difference} for difference in change["differences"] or [{}])
