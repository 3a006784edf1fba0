"""`python -m tests.lab.torture PART …`: hard tests of the mirror that take longer than `make test` may.

    fsx        random operations against a model, engines killed at random moments
    databases  PostgreSQL and SQLite, the primary's machine switched off at random moments
    worktree   git, tar and a build on the mount
    directory  one directory with 100,000 entries
    memory     both engines and the application in a control group with little memory
    million    what a million files cost in memory (--replica: resynchronised first)
    plain      the tester on an ordinary directory: shows that the model is right
    summary    what the runs in build/torture.json came to; --record writes bench/results/torture.json

Each run adds a row to build/torture.json; what the engines say goes to build/torture/engines.log. Exit code 1 when
something was not clean. A failure names the command that runs it again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.lab.torture import databases, fsx, many_entries, memory, million, plain, results, worktree


def main() -> int:
    options = _parser().parse_args()
    if options.part == "summary":
        return _summary(options)
    log = Path("build/torture/engines.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)
    good = True
    for seed in options.seeds:
        good = _run(options, seed) and good
        if not good and options.part == "fsx" and options.minimise:
            print(f"shortest prefix of seed {seed} that still fails: {_minimise(options, seed)} operations", flush=True)
            break
    return 0 if good else 1


def _minimise(options: argparse.Namespace, seed: int) -> int:
    """By halves; a prefix counts as good after three clean runs, because an engine dies at another moment each time."""
    good, bad = 0, int(options.operations)
    while bad - good > max(50, bad // 50):
        options.operations = (good + bad) // 2
        if all(_run(options, seed) for _ in range(3)):
            good = options.operations
        else:
            bad = options.operations
    return bad


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("fsx", "databases", "worktree", "directory", "memory", "million", "plain"):
        part = parts.add_parser(name)
        part.add_argument("--seeds", type=_range, default=[0], help="one number or FIRST-LAST")
        part.add_argument("--mode", choices=("strict", "ordered"), default="strict")
        part.add_argument("--directory", type=Path, default=None, help="where the copies lie (default: TMPDIR)")
    for name in ("fsx", "plain"):
        parts.choices[name].add_argument("--operations", type=int, default=20_000)
    parts.choices["fsx"].add_argument("--accidents", type=int, default=5)
    parts.choices["fsx"].add_argument("--drivers", type=int, default=2)
    parts.choices["fsx"].add_argument("--minimise", action="store_true", help="after a failure: the shortest prefix")
    parts.choices["fsx"].add_argument("--only", nargs="+", default=None, help="these accidents, one after the other")
    parts.choices["databases"].add_argument("--kills", type=int, default=10)
    parts.choices["databases"].add_argument("--only", nargs="+", choices=databases.NAMES, default=databases.NAMES)
    parts.choices["worktree"].add_argument("--files", type=int, default=3000)
    parts.choices["directory"].add_argument("--entries", type=int, default=many_entries.ENTRIES)
    parts.choices["million"].add_argument("--files", type=int, default=million.FILES)
    parts.choices["million"].add_argument("--replica", action="store_true")
    shown = parts.add_parser("summary")
    shown.add_argument("--commit", default=None)
    shown.add_argument("--record", action="store_true")
    return parser


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def _run(options: argparse.Namespace, seed: int) -> bool:
    """One row; False if it was not clean."""
    began_s = time.monotonic()
    row: results.Row = {"part": options.part, "mode": options.mode, "seed": seed, "clean": False, "figures": {}}
    with tempfile.TemporaryDirectory(prefix="torture-", dir=options.directory, ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)  # the databases' user must get through
        try:
            row["figures"] = asyncio.run(_PARTS[options.part](options, Path(name), seed))
            row["clean"] = True
        except Exception as error:  # noqa: BLE001 - a row of its own; the next seed runs all the same
            row["error"] = f"{type(error).__name__}: {error}"
            if not isinstance(error, AssertionError):
                traceback.print_exc(file=sys.stdout)
    row["seconds"] = round(time.monotonic() - began_s, 1)
    results.add(row)
    print(f"{options.part} {options.mode} seed {seed}: {row['seconds']} s {row['figures'] or row['error']}", flush=True)
    return bool(row["clean"])


async def _fsx(options: argparse.Namespace, directory: Path, seed: int) -> dict[str, Any]:
    accidents = None
    if options.only is not None:
        accidents = [options.only[number % len(options.only)] for number in range(options.accidents)]
    plan = fsx.Plan(options.mode, seed, options.operations, options.accidents, options.drivers, accidents)
    return asdict(await fsx.run_seed(directory, plan))


async def _databases(options: argparse.Namespace, directory: Path, seed: int) -> dict[str, Any]:
    return asdict(
        await databases.run_cycles(directory, mode=options.mode, seed=seed, kills=options.kills, names=options.only)
    )


async def _worktree(options: argparse.Namespace, directory: Path, seed: int) -> dict[str, Any]:
    return asdict(await worktree.run(directory, mode=options.mode, seed=seed, files=options.files))


async def _directory(options: argparse.Namespace, directory: Path, _seed: int) -> dict[str, Any]:
    return asdict(await many_entries.run(directory, mode=options.mode, entries=options.entries))


async def _memory(options: argparse.Namespace, directory: Path, seed: int) -> dict[str, Any]:
    return asdict(await memory.run(directory, mode=options.mode, seed=seed))


async def _million(options: argparse.Namespace, directory: Path, _seed: int) -> dict[str, Any]:
    return asdict(await million.run(directory, mode=options.mode, files=options.files, replica=options.replica))


async def _plain(options: argparse.Namespace, directory: Path, seed: int) -> dict[str, Any]:
    await plain.on_plain_directory(directory / "plain", seed, options.operations)
    return {"operations": options.operations}


_PARTS: dict[str, Callable[[argparse.Namespace, Path, int], Coroutine[Any, Any, dict[str, Any]]]] = {
    "fsx": _fsx,
    "databases": _databases,
    "worktree": _worktree,
    "directory": _directory,
    "memory": _memory,
    "million": _million,
    "plain": _plain,
}


def _summary(options: argparse.Namespace) -> int:
    chosen = [row for row in results.rows() if options.commit in (None, row["commit"])]
    document = results.summary(chosen)
    text = json.dumps(document, indent=1) + "\n"
    print(text, end="")
    if options.record:
        results.RECORD.write_text(text, encoding="utf-8")
    return 1 if document["not_clean"] else 0


if __name__ == "__main__":
    sys.exit(main())
