"""`mirrorctl mirror …` and `mirrorctl metrics`: the two copies, as an operator sees and mends them.

Exit codes: 0 fine; 1 the copies differ, or the node refused; 2 wrong usage (and those of `mirrorctl` for a node that
does not answer). A verify is waited for, with its progress on standard error; Ctrl-C leaves it running.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mirror_agent.cli_output import plain, show
from mirror_agent.web import mirror_control
from mirror_agent.web.local_client import ACTION_TIMEOUT_S, ask

OK: Final = 0
DIFFERENT: Final = 1

VERBS: Final = {
    "status": "link, counters, and the last verify",
    "verify": "compare both copies while the application goes on: verify [--repair]",
    "resync": "make the replica anew from this node's copy; this node serves alone meanwhile",
    "quarantine": "what was kept before it was replaced: quarantine list | quarantine restore ID TARGET",
}
QUARANTINE_VERBS: Final = {
    "list": "everything that was kept on this node, oldest first",
    "restore": "write one kept thing to a new path: restore ID TARGET",
}
_POLL_S: Final = 0.5
_MIB: Final = 1024 * 1024


def add_mirror(parser: argparse.ArgumentParser, output: argparse.ArgumentParser) -> None:
    """The words below `mirrorctl mirror`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {
        name: verbs.add_parser(
            name, help=sentence, description=sentence, parents=[] if name == "quarantine" else [output]
        )
        for name, sentence in VERBS.items()
    }
    for name in ("verify", "resync"):
        _why(made[name])
    made["verify"].add_argument(
        "--repair", action="store_true", help="replace what differs on the replica; it is kept there in quarantine"
    )
    made["verify"].add_argument(
        "--rate", type=_rate, metavar="MIB_S", default=0.0, help="read at most so many MiB/s of each copy"
    )
    made["verify"].add_argument("--stop", action="store_true", help="end the verify that is under way")
    made["verify"].add_argument("--no-wait", action="store_true", help="begin it, and do not wait for its end")
    below = made["quarantine"].add_subparsers(dest="quarantine_verb", required=True, metavar="VERB")
    for name, sentence in QUARANTINE_VERBS.items():
        verb = below.add_parser(name, help=sentence, description=sentence, parents=[output])
        if name == "restore":
            verb.add_argument("id", metavar="ID", help="as `list` shows it")
            verb.add_argument("target", metavar="TARGET", help="a path that does not exist yet")
            _why(verb)


def _why(parser: argparse.ArgumentParser) -> None:
    why = "written into the history beside your name"
    parser.add_argument("--reason", "--why", dest="reason", metavar="TEXT", default="", help=why)


def _rate(word: str) -> float:
    try:
        rate = float(word)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e9:
        raise argparse.ArgumentTypeError(f"{word!r} is no rate in MiB/s; give a positive number, for example 50")
    return rate


def run_mirror(path: Path, options: argparse.Namespace) -> int:
    match options.verb:
        case "status":
            show(ask(path, mirror_control.STATUS), options.output)
            return OK
        case "verify":
            return _verify(path, options)
        case "resync":
            return _order(path, mirror_control.RESYNC, options)
        case _ if options.quarantine_verb == "list":
            return _kept(path, options)
        case _:
            return _order(
                path, mirror_control.RESTORE, options, kept=options.id, target=str(Path(options.target).absolute())
            )


def run_metrics(path: Path) -> int:
    sys.stdout.write(ask(path, mirror_control.METRICS))
    return OK


def _order(path: Path, op: str, options: argparse.Namespace, **fields: object) -> int:
    outcome = ask(path, op, timeout_s=ACTION_TIMEOUT_S, requestedBy="mirrorctl", reason=options.reason, **fields)
    show(outcome, options.output)
    return OK if outcome["status"] in ("accepted", "succeeded") else DIFFERENT


def _verify(path: Path, options: argparse.Namespace) -> int:
    if options.stop:
        return _order(path, mirror_control.VERIFY_STOP, options)
    op = mirror_control.REPAIR if options.repair else mirror_control.VERIFY
    rate = options.rate * _MIB
    if options.no_wait:
        return _order(path, op, options, rateBytesPerS=rate)
    outcome = ask(
        path, op, timeout_s=ACTION_TIMEOUT_S, requestedBy="mirrorctl", reason=options.reason, rateBytesPerS=rate
    )
    if outcome["status"] != "accepted":
        show(outcome, options.output)
        return DIFFERENT
    _wait(lambda: ask(path, mirror_control.STATUS)["verify"])
    record = ask(path, mirror_control.VERIFIED)
    if options.output == "json":
        show(record, "json")
    else:
        for line in verify_lines(record):
            print(line)
    return OK if record["outcome"] == "identical" else DIFFERENT


def _wait(look: Callable[[], Mapping[str, Any] | None]) -> None:
    told = ""
    while (verify := look()) and verify["running"]:
        share = 100 * verify["doneBytes"] / max(1, verify["totalBytes"])
        now = (
            f"{verify['entries']} entries, {verify['doneBytes'] / _MIB:.0f} of {verify['totalBytes'] / _MIB:.0f} MiB "
            f"found so far ({share:.0f} %), {verify['found']} differences"
        )
        if now != told and sys.stderr.isatty():
            print(f"\r\033[K{now}", end="", file=sys.stderr, flush=True)
            told = now
        time.sleep(_POLL_S)
    if told:
        print(file=sys.stderr)


def verify_lines(record: Mapping[str, Any]) -> list[str]:
    """One difference a line, then the verdict."""
    lines = []
    for one in record["listed"]:
        where = "" if one["offset_bytes"] is None else f" bytes {one['offset_bytes']}+{one['length_bytes']}"
        detail = f" ({one['detail']})" if one["detail"] else ""
        repaired = ", repaired" if one["repaired"] else ""
        lines.append(plain(f"{one['kind']:<10} {one['path']}{where}{detail}{repaired}"))
    if record["found"] > len(record["listed"]):
        lines.append(f"… and {record['found'] - len(record['listed'])} more")
    looked = f"{record['entries']} entries, {record['content_bytes']} bytes compared"
    counts = f"{record['found']} differences found, {record['repaired']} repaired, {record['differences']} stand"
    reason = f": {plain(record['reason'])}" if record["reason"] else ""
    return [*lines, f"{record['outcome']}{reason}; {looked}; {counts}"]


def _kept(path: Path, options: argparse.Namespace) -> int:
    kept = ask(path, mirror_control.QUARANTINE)
    if options.output == "json":
        show(kept, "json")
        return OK
    for one in kept:
        where = f" at {one['offset']}" if one["kind"] == "range" else ""
        what = f"{one['at_utc']:<20.20}  {one['kind']:<5}  {one['size_bytes']:>12}  {one['path']}{where}"
        print(plain(f"{one['id']:<60}  {what}"))
    if not kept:
        print("nothing is kept on this node", file=sys.stderr)
    return OK
