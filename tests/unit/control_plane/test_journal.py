"""Every changing request of a principal leaves exactly one entry: who, what, why, with which result."""

from __future__ import annotations

from typing import Any

import pytest

from shared.api.endpoint import Guard
from shared.api.endpoints import ENDPOINTS
from shared.model.principal import AccessRole
from shared.store.journal import JOURNAL
from shared.store.ports import Unavailable
from tests.control_plane_app import App


async def entries(app: App, query: str = "") -> list[dict[str, Any]]:
    reply = await app.send("GET", f"journal{query}")
    assert reply.status == 200
    return list(reply.body["value"])


async def test_an_accepted_wish_is_noted_with_its_operation(app: App) -> None:
    reply = await app.put()
    (entry,) = await entries(app)
    assert (entry["what"], entry["target"], entry["cluster"]) == ("cluster_put", "pay", "pay")
    assert (entry["result"], entry["status"], entry["principal"]) == ("accepted", 201, "bootstrap:bootstrap")
    assert entry["operationId"] == reply.headers["operation-id"]


async def test_the_reason_of_an_action_is_kept(app: App) -> None:
    await app.provisioned()
    credential = await app.enrolled()
    await app.beat(credential)
    app.clock.advance(1)
    token = await app.token(AccessRole.CONTROL)
    reply = await app.send("POST", "clusters/pay:swap", {"reason": "patch \n day"}, token=token)
    assert reply.status == 202, reply.content
    entry = (await entries(app))[0]
    assert (entry["what"], entry["reason"], entry["principalName"]) == ("cluster_action:swap", "patch day", "Control")


async def test_a_header_gives_the_reason_where_no_body_can(app: App) -> None:
    await app.provisioned()
    app.clock.advance(1)
    await app.send("DELETE", "clusters/pay", headers={"mirrorplane-reason": "moved to another region"})
    assert (await entries(app))[0]["reason"] == "moved to another region"


async def test_a_refusal_is_noted_with_its_code(app: App) -> None:
    token = await app.token(AccessRole.MONITOR)
    assert (await app.send("DELETE", "clusters/pay", token=token)).status == 403
    (entry,) = await entries(app)
    assert (entry["result"], entry["status"], entry["what"]) == ("Forbidden", 403, "cluster_delete")


async def test_reading_and_strangers_leave_no_entry(app: App) -> None:
    await app.send("GET", "clusters")
    await app.send("DELETE", "clusters/pay", token="mp_unknown")
    await app.send("DELETE", "clusters/pay", token=None)
    assert await entries(app) == []


async def test_every_changing_endpoint_of_a_principal_is_in_the_journal(app: App) -> None:
    links = Guard.CREDENTIAL_LINK  # its entry names whom the link was made for; see test_credentials
    changing = [endpoint for endpoint in ENDPOINTS.values() if endpoint.changes and endpoint.guard is not links]
    assert {endpoint.method for endpoint in changing} == {"PUT", "POST", "DELETE"}
    for count, endpoint in enumerate(changing, start=1):
        path = endpoint.route.replace("{name}", "pay").replace("{nameAndAction}", "pay:swap")
        path = path.replace("{idAndAction}", "0:acknowledge").replace("{id}", "0" * 16)
        await app.send(endpoint.method, path, {})
        assert len(await entries(app)) == count


async def test_entries_of_one_cluster_and_pages(app: App) -> None:
    for name in ("pay", "shop", "pay"):
        app.clock.advance(1)
        await app.send("DELETE", f"clusters/{name}")
    assert [entry["cluster"] for entry in await entries(app, "?cluster=pay")] == ["pay", "pay"]
    first = await app.send("GET", "journal?top=2")
    assert [entry["cluster"] for entry in first.body["value"]] == ["pay", "shop"]
    following = first.body["nextLink"].split("/api/")[1]
    assert [entry["cluster"] for entry in (await app.send("GET", following)).body["value"]] == ["pay"]


async def test_a_journal_that_cannot_be_written_does_not_undo_the_answer(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.rows.fail("upsert", JOURNAL, Unavailable("storage is away"))
    assert (await app.put()).status == 201
    assert "journal_not_written" in caplog.text


async def test_no_secret_of_a_body_reaches_the_journal(app: App) -> None:
    reply = await app.send("POST", "tokens", {"name": "ci", "role": "Monitor"})
    token = reply.body["token"]
    assert token not in app.rows.everything()
    (entry,) = await entries(app)
    assert (entry["what"], entry["result"]) == ("token_create", "done")


async def test_old_entries_are_removed(app: App) -> None:
    await app.put()
    app.clock.advance(401 * 86400)
    await app.send("DELETE", "clusters/shop")
    await app.fire("retention", None)
    assert [entry["target"] for entry in await entries(app)] == ["shop"]


async def test_a_reason_that_is_no_text_is_kept_as_far_as_it_goes(app: App) -> None:
    await app.put()
    app.clock.advance(1)
    reply = await app.send("POST", "clusters/pay:swap", b'{"reason": "half \\ud800 pair"}')
    assert reply.status == 400
    entry = (await entries(app))[0]
    assert (entry["reason"], entry["status"]) == ("half ? pair", 400)


async def test_access_given_to_a_cluster_is_in_its_story(app: App) -> None:
    await app.provisioned()
    app.clock.advance(1)
    await app.send("POST", "clusters/pay/credentials", {"name": "ann", "role": "Monitor"})
    assert [entry["what"] for entry in await entries(app, "?cluster=pay")] == ["credential_create", "cluster_put"]
    lines = (await app.send("GET", "clusters/pay/history")).body["value"]
    assert lines[0]["title"] == "bootstrap token: offer access to the nodes"
