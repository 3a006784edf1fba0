"""`python -m lab.demo [ledger|postgres]`: starts a lab, runs the story, writes build/demo.json, takes the lab away.

Environment: RUNS=20 repeats the whole story, KEEP=1 leaves lab and cluster up. Exit status 1 when a write is missing or
a step fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from lab import lifetime
from lab.demo.api import ControlPlane, DemoFailed
from lab.demo.cluster import NAMES
from lab.demo.nodes import Nodes
from lab.demo.story import CLUSTER, Result, Story
from lab.info import LabInfo, find_lab, labs_below
from lab.paths import REPOSITORY, state_root

BUILD: Final = REPOSITORY / "build"


def say(line: str) -> None:
    print(line, flush=True)


async def tell(info: LabInfo, state: Path, app: str, *, keep: bool) -> Result:
    assert info.control_plane_url is not None
    async with ControlPlane(info.control_plane_url, info.read_tokens().admin, str(info.ca)) as api:
        story = Story(api, Nodes(info, state, CLUSTER), app=app, build=BUILD, say=say)
        result = await story.run()
        if not keep:
            await story.delete()
        return result


def summary(results: list[Result]) -> dict[str, Any]:
    """The last run's document; with several runs also every run and the extremes."""
    document = results[-1].document()
    document["acknowledged_writes"] = sum(result.acknowledged_writes for result in results)
    document["missing_writes"] = sum(result.missing_writes for result in results)
    if len(results) > 1:
        document["runs"] = [result.document() for result in results]
        for figure in ("unplanned_outage_s", "planned_outage_s", "resync_s", "provision_s"):
            values = sorted(float(getattr(result, figure)) for result in results)
            document[f"{figure}_median"] = statistics.median(values)
            document[f"{figure}_max"] = values[-1]
    return document


def print_summary(document: dict[str, Any], runs: int, seconds: float) -> None:
    say("")
    say(f"{runs} run{'s' if runs > 1 else ''} of the {document['app']} demo in {seconds:.0f} s:")
    say(f"  acknowledged writes   {document['acknowledged_writes']}")
    say(f"  missing writes        {document['missing_writes']}")
    for label, figure in (
        ("unplanned outage", "unplanned_outage_s"),
        ("planned outage", "planned_outage_s"),
        ("resynchronised in", "resync_s"),
        ("provisioned in", "provision_s"),
    ):
        extremes = f"   (median {document[f'{figure}_median']}, max {document[f'{figure}_max']})" if runs > 1 else ""
        say(f"  {label:<21} {document[figure]} s{extremes}")
    say(f"  figures: {(BUILD / 'demo.json').relative_to(REPOSITORY)}")


def print_keep(info: LabInfo) -> None:
    token = info.read_tokens().admin  # of this lab, which only this machine reaches
    say("")
    say("the lab stays up (KEEP=1); try:")
    say(f"  the console: {info.control_plane_url}/#/clusters/{CLUSTER}")
    say(f"    sign in with the token {token}")
    say(f"    and open the cluster {CLUSTER}; the browser has to trust {info.ca}")
    say(f"  TOKEN={token}")
    say(
        f'  curl --cacert {info.ca} -H "Authorization: Bearer $TOKEN" '
        f"'{info.control_plane_url}/api/clusters/{CLUSTER}?api-version=2026-11-01'"
    )
    for words in (
        "status",
        f"exec {CLUSTER}/a -- mirrorctl why",
        f"kill {CLUSTER}/a",
        "down",
    ):
        say(f"  .venv/bin/python -m lab --lab {info.id} {words}")


def main(arguments: list[str]) -> int:
    app = arguments[0] if arguments else "ledger"
    if app not in NAMES:
        print(f"no demo application {app!r}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    runs, keep = int(os.environ.get("RUNS") or 1), bool(os.environ.get("KEEP"))
    BUILD.mkdir(exist_ok=True)
    state = state_root().resolve()
    began = time.monotonic()
    results: list[Result] = []
    failed = ""
    lab_id: str | None = None
    try:
        others = {owner.lab_id for owner in labs_below(state)}
        status = lifetime.start_detached(["--state", str(state), "up"], state)
        if status:
            return status
        lab_id = next(owner.lab_id for owner in labs_below(state) if owner.alive and owner.lab_id not in others)
        info = find_lab(state, lab_id)
        for number in range(1, runs + 1):
            if runs > 1:
                say(f"--- run {number} of {runs}")
            results.append(asyncio.run(tell(info, state, app, keep=keep and number == runs)))
            document = summary(results)
            (BUILD / "demo.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except lifetime.CannotRun as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except DemoFailed as error:
        failed = str(error)
    except KeyboardInterrupt:
        failed = "interrupted"
    finally:
        if lab_id is not None and not keep:
            lifetime.take_down(state, lab_id, say)
    if failed:
        print(f"demo: {failed}", file=sys.stderr)
        return 1
    print_summary(document, len(results), time.monotonic() - began)
    if keep:
        print_keep(info)
    return 1 if document["missing_writes"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
