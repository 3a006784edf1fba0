"""The way of every changing request, walked from the function index: one entry each, with who, why and what came of it.

A new function that changes something and leaves no entry fails here, and so does one that leaves two.
"""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from shared.api.endpoints import ENDPOINTS
from shared.model.principal import AccessRole
from tests.control_plane_app import App, functions

# Machines, not people: what they do is in the rows they write.
MACHINES: Final = {"node_enrol", "node_heartbeat", "node_certificate"}
# A POST because its question has a body; that these change nothing is checked below.
QUESTIONS: Final = {endpoint.name for endpoint in ENDPOINTS.values() if endpoint.dry}
# Its caller is the link's bearer; see below.
LINK: Final = "credential_redeem"


def changing() -> dict[str, tuple[str, str]]:
    """(method, route) of every function that is called by HTTP with another method than GET."""
    found = {}
    for name, entry in functions().items():
        trigger = entry.get_trigger()
        assert trigger is not None
        shown: dict[str, Any] = trigger.get_dict_repr()
        if shown["type"] != "httpTrigger":
            continue
        for method in (str(getattr(method, "value", method)) for method in shown["methods"]):
            if method != "GET":
                found[name] = (method, str(shown["route"]).removeprefix("api/"))
    return found


ACTIONS: Final = sorted(set(changing()) - MACHINES - QUESTIONS - {LINK})


def path_of(route: str) -> str:
    words = {"name": "pay", "nameAndAction": "pay:swap", "idAndAction": "0:acknowledge", "id": "0" * 16}
    return re.sub(r"\{(\w+)\}", lambda found: words[found[1]], route)


async def entries(app: App) -> list[dict[str, Any]]:
    return list((await app.send("GET", "journal?top=100")).body["value"])


def test_the_lists_name_functions_that_are_there() -> None:
    assert MACHINES | QUESTIONS | {LINK} <= set(changing())
    assert len(ACTIONS) >= 10


@pytest.mark.parametrize("name", ACTIONS)
async def test_an_action_leaves_one_entry_whatever_becomes_of_it(app: App, name: str) -> None:
    method, route = changing()[name]
    path, why = path_of(route), {"mirrorplane-reason": "because of this test"}
    await app.provisioned()
    bodies: tuple[tuple[object, str | None], ...] = (
        ({"reason": "because of this test"}, None),
        (b"{no json", None),
        ({"reason": "because of this test"}, await app.token(AccessRole.MONITOR)),
    )
    for body, token in bodies:
        app.clock.advance(1)
        before = await entries(app)
        reply = await app.send(method, path, body, headers=why, **({} if token is None else {"token": token}))
        after = await entries(app)
        assert len(after) == len(before) + 1, f"{name} answered {reply.status} and left {len(after) - len(before)} rows"
        entry = after[0]
        assert entry["what"].split(":")[0] == name
        assert entry["principalName"] == ("bootstrap token" if token is None else "Monitor")
        assert entry["reason"] == "because of this test"
        assert entry["status"] == reply.status
        refused = reply.headers.get("x-ms-error-code")
        assert entry["result"] == (refused or ("accepted" if "operation-id" in reply.headers else "done"))
    assert refused == "Forbidden", "a Monitor changes nothing"


async def test_the_download_behind_a_link_names_whom_it_was_made_for(app: App) -> None:
    await app.provisioned()
    made = await app.send("POST", "clusters/pay/credentials", {"name": "ann", "role": "Monitor"})
    secret = str(made.body["url"]).partition("/#/credential/")[2]
    for result in ("done", "CredentialLinkUsed"):
        app.clock.advance(1)
        before = await entries(app)
        reply = await app.send("POST", "credential-downloads", token=secret)
        after = await entries(app)
        assert len(after) == len(before) + 1
        assert (after[0]["principalName"], after[0]["status"], after[0]["result"]) == ("ann", reply.status, result)


@pytest.mark.parametrize("name", sorted(QUESTIONS))
async def test_a_question_changes_nothing(app: App, name: str) -> None:
    method, route = changing()[name]
    await app.provisioned()
    before = app.rows.everything()
    await app.send(method, path_of(route), {})
    assert app.rows.everything() == before
