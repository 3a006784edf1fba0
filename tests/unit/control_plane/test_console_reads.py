"""What the console's pages read: who I am, the fleet, one cluster whole, its story; and the static files."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import azure.functions as func
import pytest
from mirror_agent.contract import ApplicationState, Phase, Role

from shared.api.fleet import read_fleet
from shared.console import files
from shared.console.board import FRESH_S, STALE_S, Board, Reading
from shared.console.lines import Line, lines_of, text_of
from shared.console.safety import Safety, safety
from shared.health.verdict import Health
from shared.model.audit import AuditRecord, TrackRecord
from shared.model.cluster import ProvisioningState
from shared.model.node_state import ProbeOutcome, ProbeResult
from shared.model.principal import AccessRole
from shared.store.board import BOARD
from shared.store.ports import Unavailable
from tests.control_plane_app import App, functions
from tests.control_plane_samples import NOW, heartbeat, node_state


def track(state: str, sentence: str = "because") -> TrackRecord:
    return TrackRecord(state=state, rule="some-rule", sentence=sentence, since=NOW, seen=state, seen_since=NOW)


async def audited(app: App, name: str, state: str) -> None:
    await app.provisioned(name)
    record = await app.record(name)
    verdict = AuditRecord(
        cluster_id=record.id,
        cluster=name,
        audited_at=NOW,
        run_id="run",
        verdict=track(state),
        nodes={"a": track("healthy")},
        serving="a",
    )
    await app.plane.store.audits.put(verdict, None)


@pytest.mark.parametrize("role", list(AccessRole))
async def test_me(app: App, role: AccessRole) -> None:
    reply = await app.send("GET", "me", token=await app.token(role))
    assert (reply.body["role"], reply.body["name"], reply.body["kind"]) == (role.value, role.value, "token")


# --- the fleet -------------------------------------------------------------------------------------------------------
async def test_the_fleet_is_shown_worst_first(app: App) -> None:
    for name, state in (("calm", "healthy"), ("gone", "down"), ("lone", "exposed")):
        await audited(app, name, state)
    await app.provisioned("new")
    body = (await app.send("GET", "fleet")).body
    assert [entry["cluster"] for entry in body["value"]] == ["gone", "lone", "new", "calm"]
    assert body["counts"] == {"healthy": 1, "down": 1, "exposed": 1, "unknown": 1}
    assert body["value"][2]["rule"] == "not-audited"
    assert "nextLink" not in body


async def test_the_fleet_is_searched_filtered_and_paged(app: App) -> None:
    for name in ("pay-1", "pay-2", "pay-3", "shop"):
        await audited(app, name, "down" if name == "pay-2" else "healthy")
    found = (await app.send("GET", "fleet?search=PAY&order=name&top=2")).body
    assert ([entry["cluster"] for entry in found["value"]], found["matching"]) == (["pay-1", "pay-2"], 3)
    following = found["nextLink"].split("/api/")[1]
    assert [entry["cluster"] for entry in (await app.send("GET", following)).body["value"]] == ["pay-3"]
    down = (await app.send("GET", "fleet?verdict=down")).body
    assert [entry["cluster"] for entry in down["value"]] == ["pay-2"]


@pytest.mark.parametrize("query", ["verdict=sick", "order=random", "continue=x", "top=0"])
async def test_a_wrong_parameter_of_the_fleet_is_named(app: App, query: str) -> None:
    reply = await app.send("GET", f"fleet?{query}")
    assert (reply.status, reply.code, reply.target) == (400, "InvalidParameter", query.partition("=")[0])


async def test_a_deleted_cluster_is_not_in_the_fleet(app: App) -> None:
    await audited(app, "gone", "healthy")
    found = await app.plane.store.clusters.get("gone")
    assert found is not None
    await app.plane.store.clusters.delete(found.value, found.etag)
    assert (await app.send("GET", "fleet")).body["value"] == []


async def test_the_board_is_read_anew_when_it_is_old_and_nobody_waits_for_it(app: App) -> None:
    now_s = 100.0
    board = Board(monotonic_s=lambda: now_s)
    reads: list[Reading] = []
    read_twice = asyncio.Event()

    async def read() -> Reading:
        reads.append(await read_fleet(app.plane))
        if len(reads) == 2:
            read_twice.set()
        return reads[-1]

    first = await board.look(read)
    assert await board.look(read) is first
    assert len(reads) == 1
    await app.provisioned("new")
    now_s += FRESH_S
    assert await board.look(read) is first
    async with asyncio.timeout(30):
        await read_twice.wait()
    now_s += STALE_S
    assert [entry.cluster for entry in (await board.look(read)).briefs] == ["new"]


async def test_a_board_that_cannot_be_read_says_so(app: App) -> None:
    app.rows.fail("scan_keys", "clusters", Unavailable("away"))
    assert (await app.send("GET", "fleet")).code == "StorageUnavailable"
    assert (await app.send("GET", "fleet")).status == 200


# --- one cluster -----------------------------------------------------------------------------------------------------
async def test_the_overview_holds_what_the_page_shows(app: App) -> None:
    record = await app.provisioned()
    credential = await app.enrolled()
    await app.beat(credential)
    await app.plane.store.witness.ensure(record.id, "a")
    body = (await app.send("GET", "clusters/pay/overview")).body
    assert body["cluster"]["name"] == "pay"
    assert body["reports"]["a"]["heartbeat"]["sentence"] == "PRIM, peer in sync"
    assert body["safety"] == {
        "state": "in-sync",
        "sentence": "Every acknowledged write is on both nodes; node a serves.",
        "serving": "a",
        "epoch": 3,
        "since": None,
        "up": [],
    }
    assert body["witness"]["inSync"] == "a"
    assert (body["operation"], body["alerts"]) == (None, [])


async def test_an_unchanged_overview_costs_a_304(app: App) -> None:
    await app.provisioned()
    first = await app.send("GET", "clusters/pay/overview")
    app.clock.advance(1)
    again = await app.send("GET", "clusters/pay/overview", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.content) == (304, b"")
    await app.beat(await app.enrolled())
    changed = await app.send("GET", "clusters/pay/overview", headers={"if-none-match": first.headers["etag"]})
    assert changed.status == 200


async def test_an_operation_at_work_is_in_the_overview(app: App) -> None:
    await app.put()
    body = (await app.send("GET", "clusters/pay/overview")).body
    assert (body["operation"]["kind"], body["operation"]["status"]) == ("create", "NotStarted")


async def test_the_overview_of_nothing(app: App) -> None:
    assert (await app.send("GET", "clusters/none/overview")).code == "ClusterNotFound"
    assert (await app.send("GET", "clusters/none/history")).code == "ClusterNotFound"


async def test_the_history_tells_roles_and_operators_together(app: App) -> None:
    await app.provisioned()
    credential = await app.enrolled()
    await app.beat(credential, heartbeat(sequence=1, role=Role.SECOND, probe_ok=False))
    app.clock.advance(5)
    await app.beat(
        credential,
        heartbeat(sequence=2, role=Role.WAIT, probe_ok=False),
        heartbeat(sequence=3, role=Role.PRIM, epoch=4),
        heartbeat(sequence=4, role=Role.PRIM, epoch=4),
    )
    app.clock.advance(5)
    await app.send("POST", "clusters/pay:swap", {"reason": "patch day"})
    lines = (await app.send("GET", "clusters/pay/history")).body["value"]
    assert [line["title"] for line in lines] == [
        "bootstrap token: swap",
        "Node a: WAIT → PRIM",
        "Node a: SECOND → WAIT",
        "Node a: start → SECOND",
        "bootstrap token: create or change",
    ]
    assert (lines[0]["detail"], lines[0]["kind"]) == ("patch day", "operator")
    assert (lines[1]["detail"], lines[1]["rule"]) == ("epoch 4: PRIM, peer in sync", "keep-serving")


async def test_a_repeated_post_is_one_line(app: App) -> None:
    await app.provisioned()
    credential = await app.enrolled()
    for _ in range(3):
        await app.beat(credential, heartbeat(sequence=1))
    lines = (await app.send("GET", "clusters/pay/history")).body["value"]
    assert [line["title"] for line in lines if line["kind"] == "role"] == ["Node a: start → PRIM"]


async def test_a_long_history_is_paged_without_a_gap(app: App) -> None:
    await app.provisioned()
    credential = await app.enrolled()
    for number in range(1, 161):
        app.clock.advance(1)
        await app.beat(credential, heartbeat(sequence=number, epoch=number))
    titles: list[str] = []
    path = "clusters/pay/history"
    while path:
        body = (await app.send("GET", path)).body
        titles += [line["detail"].partition(":")[0] for line in body["value"] if line["kind"] == "role"]
        path = body.get("nextLink", "").partition("/api/")[2]
    assert titles == [f"epoch {number}" for number in range(160, 0, -1)]


async def test_a_quiet_week_is_a_page_without_lines(app: App) -> None:
    await app.provisioned()
    app.clock.advance(10 * 86400)
    first = (await app.send("GET", "clusters/pay/history")).body
    assert first["value"] == []
    older = (await app.send("GET", first["nextLink"].partition("/api/")[2])).body
    assert [line["title"] for line in older["value"]] == ["bootstrap token: create or change"]
    assert "nextLink" not in older


# --- is the data safe ------------------------------------------------------------------------------------------------
def test_safety_in_words() -> None:
    prim = node_state("c", "a")
    second = node_state("c", "b", role=Role.SECOND, application=ApplicationState.STOPPED)
    assert safety({"a": prim, "b": second}, NOW, 15).state is Safety.IN_SYNC
    alone = node_state("c", "a", role=Role.ALONE, in_sync=("a",), probe_ok=True, exposed_for_s=60)
    seen = safety({"a": alone, "b": second}, NOW, 15)
    assert (seen.state, seen.serving) == (Safety.EXPOSED, "a")
    assert seen.since is not None
    assert (NOW - seen.since).total_seconds() == 60
    waiting = node_state("c", "a", role=Role.WAIT, phase=Phase.NOT_READY, probe_ok=False)
    assert safety({"a": waiting, "b": second}, NOW, 15).state is Safety.NOT_SERVING
    assert safety({}, NOW, 15).sentence == "No node has reported yet."
    late = NOW.replace(minute=5)
    assert safety({"a": prim}, late, 15).sentence == "Node a is silent."
    assert safety({"a": prim, "b": second}, late, 15).sentence == "Nodes a and b are silent."
    assert safety({"a": prim, "b": node_state("c", "b")}, NOW, 15).state is Safety.UNKNOWN


def test_last_words_of_an_older_epoch_hide_no_takeover() -> None:
    dead = node_state("c", "a")
    taken = node_state(
        "c",
        "b",
        epoch=4,
        role=Role.ALONE,
        in_sync=("b",),
        probe_ok=False,
        application=ApplicationState.STARTING,
        exposed_for_s=1,
    )
    begun = safety({"a": dead, "b": taken}, NOW, 15)
    assert (begun.state, begun.serving, begun.epoch) == (Safety.EXPOSED, None, 4)
    serving = node_state("c", "b", epoch=4, role=Role.ALONE, in_sync=("b",), probe_ok=True, exposed_for_s=2)
    assert safety({"a": dead, "b": serving}, NOW, 15).serving == "b"
    # The replica hears of a new epoch first: its primary serves all the same.
    ahead = node_state("c", "b", epoch=4, role=Role.SECOND, application=ApplicationState.STOPPED)
    assert safety({"a": dead, "b": ahead}, NOW, 15).state is Safety.IN_SYNC


def test_a_swap_in_the_middle() -> None:
    starting = node_state("c", "b", epoch=4, role=Role.PRIM, probe_ok=False, application=ApplicationState.STARTING)
    seen = safety({"a": node_state("c", "a", role=Role.SECOND, probe_ok=False), "b": starting}, NOW, 15)
    assert (seen.state, seen.serving) == (Safety.NOT_SERVING, None)


# --- the last hours ---------------------------------------------------------------------------------------------------
async def test_the_strips_show_roles_gaps_and_unanswered_probes(app: App) -> None:
    record = await app.provisioned()
    credential = await app.enrolled()
    number = 0
    for minute in range(60):
        if minute not in range(20, 30):
            number += 1
            role = Role.SECOND if minute < 40 else Role.PRIM
            await app.beat(credential, heartbeat(sequence=number, role=role))
        outcome = ProbeOutcome.TIMEOUT if minute == 25 else ProbeOutcome.STANDBY
        probe = ProbeResult(cluster_id=record.id, node="a", at=app.clock(), outcome=outcome)
        await app.plane.store.probes.append([probe])
        app.clock.advance(60)
    body = (await app.send("GET", "clusters/pay/strips?hours=1")).body
    assert (body["pieceS"], body["pieces"], body["complete"]) == (60.0, 60, True)
    beats = body["nodes"]["a"]["beats"]
    assert [index for index, piece in enumerate(beats) if not piece["beats"]] == list(range(20, 30))
    assert (beats[0]["role"], beats[59]["role"]) == ("SECOND", "PRIM")
    unanswered = [index for index, piece in enumerate(body["nodes"]["a"]["probes"]) if piece["worst"]]
    assert unanswered == [25]
    assert not any(piece["beats"] for piece in body["nodes"]["b"]["beats"])


@pytest.mark.parametrize("hours", ["0", "7", "x", "-1"])
async def test_hours_out_of_bounds(app: App, hours: str) -> None:
    await app.provisioned()
    assert (await app.send("GET", f"clusters/pay/strips?hours={hours}")).target == "hours"


# --- static files ----------------------------------------------------------------------------------------------------
async def get_static(name: str, path: str | None = None, **headers: str) -> func.HttpResponse:
    values = {} if path is None else {"path": path}
    request = func.HttpRequest("GET", "https://x/", headers=headers, route_params=values, body=b"")
    handler = functions()[name].get_user_function()
    answer: func.HttpResponse = await handler(request)
    return answer


async def test_the_page_forbids_what_a_console_never_needs() -> None:
    answer = await get_static("console_page")
    assert (answer.status_code, answer.mimetype) == (200, "text/html; charset=utf-8")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    again = await get_static("console_page", **{"if-none-match": answer.headers["ETag"]})
    assert (again.status_code, again.get_body()) == (304, b"")


@pytest.mark.parametrize("path", ["../host.json", "%2e%2e/host.json", "none.js", "", "/etc/passwd", "pages"])
async def test_no_path_leaves_the_directory(path: str) -> None:
    answer = await get_static("console_file", path)
    assert (answer.status_code, answer.get_body()) == (404, b"")


def test_a_file_of_an_unknown_kind_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        files.load(tmp_path)


# --- the board that an audit posts -----------------------------------------------------------------------------------
async def test_after_an_audit_the_fleet_is_read_in_one_query(app: App) -> None:
    for name in ("one", "two", "three"):
        await app.provisioned(name)
    await app.fire("health_audit", None)
    posted = await app.plane.store.fleet.posted()
    assert posted is not None
    assert [line.cluster for line in lines_of(posted.text, posted.changes)] == ["one", "three", "two"]
    app.rows.fail("scan_range", "audit", Unavailable("this would be the long way"))
    body = (await app.send("GET", "fleet?order=name")).body
    assert [(entry["cluster"], entry["rule"]) for entry in body["value"]] == [
        (name, "cluster-never-seen") for name in ("one", "three", "two")
    ]


async def test_what_comes_and_goes_between_audits_is_on_the_board(app: App) -> None:
    await app.provisioned("old")
    await app.fire("health_audit", None)
    await app.provisioned("new")
    found = await app.plane.store.clusters.get("old")
    assert found is not None
    await app.plane.store.clusters.delete(found.value, found.etag)
    body = (await app.send("GET", "fleet")).body
    assert [(entry["cluster"], entry["rule"]) for entry in body["value"]] == [("new", "not-audited")]
    app.clock.advance(30)
    await app.fire("health_audit", None)
    posted = await app.plane.store.fleet.posted()
    assert posted is not None
    assert posted.changes == {}, "the audit has seen them"


async def test_a_cluster_that_is_being_deleted_stays_on_the_board(app: App) -> None:
    for name in ("one", "two"):
        await app.provisioned(name)
    ending = await app.plane.store.clusters.get("two")
    assert ending is not None
    deleting = ending.value.model_copy(update={"state": ProvisioningState.DELETING})
    await app.plane.store.clusters.replace(deleting, ending.etag)
    await app.fire("health_audit", None)
    body = (await app.send("GET", "fleet?order=name")).body
    assert [entry["rule"] for entry in body["value"]] == ["cluster-never-seen", "being-deleted"]


async def test_a_change_while_an_audit_posts_is_not_forgotten(app: App) -> None:
    board = app.plane.store.fleet
    noted = await board.noted()
    await app.provisioned("late")
    await board.post("run", text_of([]), noted)
    posted = await board.posted()
    assert posted is not None
    assert posted.changes == {"late": True}


async def test_a_long_board_is_posted_in_parts_and_replaced_whole(app: App) -> None:
    board = app.plane.store.fleet
    noise = random.Random(7)
    lines = [Line(f"c{number:05d}", Health.HEALTHY, "in-sync", noise.randbytes(60).hex()) for number in range(9000)]
    await board.post("first", text_of(lines), await board.noted())
    posted = await board.posted()
    assert posted is not None
    assert [entry.line() for entry in lines_of(posted.text, {})] == lines
    await board.post("second", text_of(lines[:1]), await board.noted())
    posted = await board.posted()
    assert posted is not None
    assert [line.cluster for line in lines_of(posted.text, {"c00000": False, "x": True})] == ["x"]
    assert [key for _, key in await app.rows.scan_keys(BOARD, "board", "board!", 100)] == ["head", "part|second|000"]


def test_a_line_survives_the_text() -> None:
    line = Line("c", Health.EXPOSED, "r", "ä", NOW, "b", {"a": (Health.DOWN, "gone")}, ("maintenance: x",))
    assert tuple(entry.line() for entry in lines_of(text_of([line, Line("d", Health.UNKNOWN, "r", "s")]), {})) == (
        line,
        Line("d", Health.UNKNOWN, "r", "s"),
    )
