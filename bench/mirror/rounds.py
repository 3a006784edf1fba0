"""Interleaved rounds: every load on every wire and every candidate, one after the other, then all of it again.

A disturbance of some seconds thus hits one round of some rows instead of all rounds of one candidate, and the median
drops it; the order of the candidates turns from round to round. Between two measurements both disks are written back.

A measurement that fails is a hole with its reason in `failures`, not the end of the run; a candidate that does not keep
its copy up any more gets no further figures.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.mirror.candidates import Candidate
from bench.mirror.commands import BenchError
from bench.mirror.ground import Ground
from bench.mirror.network import Network
from bench.mirror.postgres import Server
from bench.mirror.rows import Load, Place, Row, Sample
from bench.mirror.usage import cpu_s

# A processor-time figure needs some ticks of 10 ms to mean anything.
_CPU_S_MIN: Final = 0.03
# Every measurement of a run, whichever `Rounds` makes it, has a directory of its own.
_next_number: Final = itertools.count(1).__next__


@dataclass(frozen=True)
class Key:
    """One cell of the table."""

    row: str
    link: str
    candidate: str


@dataclass
class Measurements:
    """All samples of all rounds; `cpu_us` is processor time of the daemons per operation of a load's first row."""

    values: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_us: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def median(self, key: Key) -> float | None:
        values = self.values.get(key)
        return statistics.median(values) if values else None

    def median_cpu_us(self, key: Key) -> float | None:
        values = self.cpu_us.get(key)
        return statistics.median(values) if values else None


def cpu_title(load: Load) -> str:
    """Rows that one load fills together share their processor time."""
    names = [row.name.removesuffix(" 1 KiB files") for row in load.rows]
    return " + ".join(names)


def needed(load: Load, link: str, candidate: Candidate) -> bool:
    """The raw disk knows no wire: it is measured once, on the load's first."""
    return link == load.links[0] or candidate.copy is not None


class Rounds:
    """Runs loads on candidates. `progress` gets one line per load and round."""

    def __init__(
        self,
        ground: Ground,
        network: Network,
        archives: Path,
        server: Callable[[str], Server],
        *,
        seconds: float,
        progress: Callable[[str], None],
    ) -> None:
        self.measurements = Measurements()
        self._ground = ground
        self._network = network
        self._archives = archives
        self._server = server
        self._seconds = seconds
        self._progress = progress
        self._out: set[str] = set()

    def measure(self, loads: Sequence[Load], candidates: Sequence[Candidate], rounds: int) -> None:
        for turn in range(rounds):
            began = time.monotonic()
            for load in loads:
                for link in load.links:
                    self._network.use(link)
                    turned = [*candidates[turn % len(candidates) :], *candidates[: turn % len(candidates)]]
                    found = {
                        candidate.name: self._cell(load, link, candidate)
                        for candidate in turned
                        if needed(load, link, candidate) and candidate.name not in self._out
                    }
                    self._tell(turn, load, link, {name: found[name] for name in sorted(found)})
            self._progress(f"round {turn + 1} of {rounds} took {time.monotonic() - began:.0f} s")

    def _cell(self, load: Load, link: str, candidate: Candidate) -> tuple[Sample, ...]:
        directory = candidate.directory / f"load{_next_number()}"
        try:
            directory.mkdir()
            self._ground.settle()
            place = Place(
                candidate.directory,
                directory,
                self._seconds,
                self._archives,
                lambda: self._server(candidate.name),
            )
            processes = candidate.processes()
            before_s = cpu_s(processes)
            samples = load.run(place)
            used_s = cpu_s(processes) - before_s
            if load.database:
                self._server(candidate.name).checkpoint()
            candidate.check()
        except (BenchError, OSError) as error:
            self._fail(load, link, candidate, error)
            return ()
        for row, sample in zip(load.rows, samples, strict=True):
            self.measurements.values[Key(row.name, link, candidate.name)].append(sample.value)
        operations = sum(sample.operations for sample in samples)
        if load.cpu and operations and used_s >= _CPU_S_MIN:
            key = Key(cpu_title(load), link, candidate.name)
            self.measurements.cpu_us[key].append(used_s / operations * 1e6)
        return samples

    def _fail(self, load: Load, link: str, candidate: Candidate, error: Exception) -> None:
        text = f"{load.rows[0].name}, {link}, {candidate.name}: {error}"
        self.measurements.failures.append(text)
        self._progress(f"FAILED {text}")
        try:
            candidate.check()
        except (BenchError, OSError) as broken:
            self._out.add(candidate.name)
            self._progress(f"{candidate.name} is out for the rest of the run: {broken}")

    def _tell(self, turn: int, load: Load, link: str, found: Mapping[str, tuple[Sample, ...]]) -> None:
        for index, row in enumerate(load.rows):
            figures = "  ".join(
                f"{name} {format_value(samples[index].value)}" for name, samples in found.items() if samples
            )
            self._progress(f"{turn + 1}  {link:4}  {row.name:46} {row.unit:8} {figures}")


def format_value(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def rows_of(loads: Sequence[Load]) -> list[tuple[Row, str]]:
    """Every (row, wire) in the order of the table: near first."""
    pairs = [(row, link) for load in loads for row in load.rows for link in load.links]
    links = list(dict.fromkeys(link for _, link in pairs))
    return sorted(pairs, key=lambda pair: links.index(pair[1]))
