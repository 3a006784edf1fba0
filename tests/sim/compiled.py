"""The simulator compiled by mypyc, for long runs: six times as many schedules a second, from the very same sources.

One module is another one: `agenda_native`, which is quick when compiled and slow when not.

`prepare()` builds core and simulator into `build/sim/<digest of the sources>` and answers how to import them from
there; nothing of it is ever used by the agent or by the tests. Where mypyc or a C compiler is missing the answer is the
reason, and the plain code runs instead. `python -m tests.sim.compiled [--seeds N]` compares the traces of plain and
compiled runs; they must be the same to the last byte.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Final

from tests.sim.native import native, survey

ROOT: Final = Path(__file__).parents[2]
BUILDS: Final = ROOT / "build" / "sim"
BUILD_DEADLINE_S: Final = 1800.0
CORE: Final = (
    "actions",
    "automaton",
    "decide",
    "decision",
    "direction",
    "events",
    "model",
    "reduce",
    "rules",
    "second",
    "serving",
    "waiting",
)
SIMULATOR: Final = ("agenda", "engine", "faults", "hands", "node", "oracle", "run", "store", "world")
LEFT_PLAIN: Final = ("__init__", "__main__", "campaign", "compiled", "native", "schedule", "sweep", "violation")


def sources() -> dict[str, Path]:
    """Path inside the build -> source, of the modules that are compiled."""
    core, simulator = ROOT / "agent" / "mirror_agent" / "core", ROOT / "tests" / "sim"
    return {
        **{f"mirror_agent/core/{name}.py": core / f"{name}.py" for name in CORE},
        **{f"tests/sim/{name}.py": simulator / f"{name}.py" for name in SIMULATOR},
        "tests/sim/agenda.py": simulator / "agenda_native.py",
    }


def _plain() -> dict[str, Path]:
    agent, simulator = ROOT / "agent" / "mirror_agent", ROOT / "tests" / "sim"
    return {
        "mirror_agent/__init__.py": agent / "__init__.py",
        "mirror_agent/core/__init__.py": agent / "core" / "__init__.py",
        "mirror_agent/core/budget.py": agent / "core" / "budget.py",
        **{f"tests/sim/{name}.py": simulator / f"{name}.py" for name in LEFT_PLAIN},
    }


def digest() -> str:
    text = hashlib.sha256(f"{sys.version} {sys.platform}".encode())
    for place, source in sorted({**sources(), **_plain()}.items()):
        text.update(place.encode() + b"\0" + source.read_bytes() + b"\0")
    return text.hexdigest()[:16]


def prepare() -> tuple[Path | None, str]:
    """(directory to import from, "") or (None, why there is none). Builds when the sources have changed; a minute."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return None, f"there is no C compiler {compiler!r}"
    if importlib.util.find_spec("mypyc") is None:
        return None, "mypyc is not installed (it comes with mypy)"
    place = BUILDS / digest()
    if place.is_dir():
        return place, ""
    work = BUILDS / f"{place.name}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    _write(work)
    began = time.perf_counter()
    environment = {**os.environ, "MYPYC_OPT_LEVEL": "2", "MYPYC_DEBUG_LEVEL": "0"}
    log = BUILDS / "mypyc.log"
    with (
        log.open("w", encoding="utf-8") as said,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "mypyc", *sources()],
            cwd=work,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the compiler below it can be ended with it
        ) as building,
    ):
        try:
            failed = building.wait(BUILD_DEADLINE_S) != 0
        except subprocess.TimeoutExpired:
            os.killpg(building.pid, signal.SIGKILL)
            return None, f"mypyc was not done within {BUILD_DEADLINE_S:g} s"
        except KeyboardInterrupt:
            os.killpg(building.pid, signal.SIGKILL)
            raise
    if failed:
        return None, f"mypyc failed, see {log.relative_to(ROOT)}"
    shutil.rmtree(work / "build")
    for place_of in sources():
        (work / place_of).unlink()  # what was compiled must not be importable as text
    work.rename(place)
    print(f"compiled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return place, ""


def _write(work: Path) -> None:
    texts = {place: source.read_text(encoding="utf-8") for place, source in sources().items()}
    known = survey(texts.values())
    made = {place: native(text, known) for place, text in texts.items()}
    kept = {place: source.read_text(encoding="utf-8") for place, source in _plain().items()}
    for place, text in {**made, **kept, "tests/__init__.py": ""}.items():
        (work / place).parent.mkdir(parents=True, exist_ok=True)
        (work / place).write_text(text, encoding="utf-8")


def environment_for(place: Path | None) -> dict[str, str]:
    """The environment of a process that imports core and simulator from there; None means from the sources."""
    path = [str(place)] if place is not None else [str(ROOT), str(ROOT / "agent")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}


def traces(place: Path | None, first: int, seeds: int) -> list[str]:
    """The digest of each seed's trace, run from there."""
    command = [sys.executable, "-c", "from tests.sim.campaign import print_traces; print_traces()"]
    done = subprocess.run(
        [*command, str(first), str(seeds)], env=environment_for(place), capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def differing(place: Path, first: int, seeds: int) -> list[int]:
    """The seeds whose plain and compiled traces differ: none, or the compiled build must not be believed."""
    plain, compiled = traces(None, first, seeds), traces(place, first, seeds)
    assert len(plain) == len(compiled) == seeds
    return [first + number for number, (x, y) in enumerate(zip(plain, compiled, strict=True)) if x != y]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.compiled", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    place, reason = prepare()
    if place is None:
        print(f"no compiled simulator: {reason}")
        return 3
    wrong = differing(place, options.first, options.seeds)
    print(
        f"{options.seeds} seeds from {options.first}: {len(wrong)} traces differ {wrong[:10] if wrong else ''}".strip()
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
