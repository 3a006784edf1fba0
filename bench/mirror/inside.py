"""The first process inside the enclosure: sets everything up, measures, and writes the result.

Called by bench.mirror.__main__ only: `python -m bench.mirror.inside BASE SETTINGS`, SETTINGS a JSON document with the
fields of `Settings`. It leaves nothing to clean up: what it starts ends with its namespace.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.mirror import ground as grounds
from bench.mirror import network as networks
from bench.mirror import report, rows, tree
from bench.mirror.candidates import COLUMNS, GLUSTERFS, ORDERED, RAW, STRICT, Candidate, Raw
from bench.mirror.commands import BenchError, run
from bench.mirror.engines import NODES, Certificates, Mirror, NodeLoop
from bench.mirror.gluster import Gluster
from bench.mirror.network import Network
from bench.mirror.postgres import SCALE, Servers
from bench.mirror.rounds import Rounds
from bench.mirror.usage import peak_bytes, resident_bytes

_MIB: Final = 1 << 20
_KIB: Final = 1 << 10
_LINES_SHOWN: Final = 30
LOG: Final = "daemons.log"


@dataclass(frozen=True)
class Settings:
    """`seconds`: length of a timed load. `match`: only loads with this text in a row's name. `output`: JSON file."""

    rounds: int
    seconds: float
    quick: bool
    match: str
    backing: str
    files: int
    output: str

    def loads(self) -> list[rows.Load]:
        return [
            load
            for load in rows.LOADS
            if (load.quick or not self.quick) and any(self.match in row.name for row in load.rows)
        ]


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


def divert_daemons(log: Path) -> None:
    """What daemons write to standard error goes to a file; our own messages stay where the caller sees them."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 2)
    os.close(fd)


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-_LINES_SHOWN:])


class Bench:
    """Everything that was set up; made by `prepare`."""

    def __init__(self, base: Path, settings: Settings) -> None:
        self._settings = settings
        self._ground = grounds.prepare(base, settings.backing)
        divert_daemons(base / LOG)
        self._network: Network = networks.lay()
        self._namespaces: dict[str, int] = {node: os.stat(networks.namespace_path(node)).st_ino for node, _ in NODES}
        self._loops: dict[str, NodeLoop] = {node: NodeLoop(node) for node, _ in NODES}
        self._certificates = Certificates(base / "certificates")
        self._port = 5600
        self._archives = base
        for files in (tree.FILES, tree.FILES_FEW):
            tree.write_archive(base, files)
        self._servers = Servers(base, 1 if settings.quick else SCALE)
        self._rounds = self._new_rounds()

    def _new_rounds(self) -> Rounds:
        return Rounds(
            self._ground,
            self._network,
            self._archives,
            self._servers.of,
            seconds=self._settings.seconds,
            progress=say,
        )

    def _mirror(self, mode: str, *, encrypted: bool = True) -> Mirror:
        self._port += 1
        mirror = Mirror(
            mode,
            self._port,
            self._ground,
            self._loops,
            self._certificates,
            self._namespaces,
            encrypted=encrypted,
        )
        mirror.start()
        return mirror

    def candidates(self) -> list[Candidate]:
        raw = Raw(self._ground.disk["a"] / RAW)
        raw.directory.mkdir()
        gluster = Gluster(self._ground, self._namespaces)
        gluster.start()
        return [raw, gluster, self._mirror(STRICT), self._mirror(ORDERED)]

    def result(self) -> dict[str, Any]:
        loads = self._settings.loads()
        if not loads:
            raise BenchError(f"no row has {self._settings.match!r} in its name")
        trips = {link: self._network.round_trip_ms(link) for link in (networks.FAR, networks.NEAR)}
        candidates = self.candidates()
        for candidate in candidates:
            rows.prepare_fio(candidate.directory)
        if any(load.database for load in loads):
            raw, *others = candidates
            self._servers.open(raw.directory, {other.name: other.directory for other in others})
        # On fresh daemons: later they have room of their own to fill first.
        per_thousand_files_kib = self._per_thousand_files_kib(candidates)
        say(f"set up; round trip near {trips['near']:.3f} ms, far {trips['far']:.3f} ms")
        self._rounds.measure(loads, candidates, self._settings.rounds)
        self._servers.close()
        found = self._rounds.measurements
        entries = report.speed_rows(found, loads) + report.cpu_rows(found, loads)
        peaks = self._peaks(candidates)
        entries += self._tls(candidates, loads)
        entries += report.memory_rows(peaks, per_thousand_files_kib)
        self._compare(candidates)
        for candidate in candidates:
            candidate.stop()
        for loop in self._loops.values():
            loop.close()
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "rounds": self._settings.rounds,
            "shared_machine": True,
            "round_trip_ms": {link: round(trip, 3) for link, trip in trips.items()},
            "ground": f"two ext4 on loop devices over {self._settings.backing}",
            "glusterfs_version": run(["glusterfs", "--version"]).split()[1],
            "failures": found.failures,
            "rows": entries,
        }

    def _peaks(self, candidates: Sequence[Candidate]) -> dict[tuple[str, str], float]:
        return {
            (candidate.name, node): peak_bytes(p for p in candidate.processes() if p.node == node) / _MIB
            for candidate in candidates
            for node, _ in NODES
        }

    def _tls(self, candidates: Sequence[Candidate], loads: Sequence[rows.Load]) -> list[dict[str, Any]]:
        """Encrypted and plain pairs in the same rounds."""
        chosen = [rows.near_only(load) for load in rows.TLS_LOADS if load in loads]
        if not chosen:
            return []
        plain = [self._mirror(mode, encrypted=False) for mode in (STRICT, ORDERED)]
        for mirror in plain:
            rows.prepare_fio(mirror.directory)
        encrypted = [candidate for candidate in candidates if candidate.name in (STRICT, ORDERED)]
        rounds = self._new_rounds()
        rounds.measure(chosen, [*encrypted, *plain], self._settings.rounds)
        self._rounds.measurements.failures += rounds.measurements.failures
        for mirror in plain:
            mirror.stop()
        return report.tls_rows(rounds.measurements, chosen)

    def _per_thousand_files_kib(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """How much the daemons of both nodes grow with files in use."""
        grown = {}
        for candidate in candidates:
            if candidate.copy is None:
                continue
            directory = candidate.directory / "known"
            directory.mkdir()
            processes = candidate.processes()
            before = resident_bytes(processes)
            count = self._settings.files
            run([sys.executable, "-m", "bench.mirror.programs", "files", str(directory), str(count)], timeout_s=300)
            grown[candidate.name] = (resident_bytes(processes) - before) / _KIB / (count / 1000)
        return grown

    def _compare(self, candidates: Sequence[Candidate]) -> None:
        """A figure without its copy would be worth nothing: names and sizes on both nodes must be the same."""
        for candidate in candidates:
            if candidate.copy is None:
                continue
            run(["sync", "--file-system", str(candidate.directory)])
            here, there = _sizes(candidate.directory), _sizes(candidate.copy)
            if here != there:
                different = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
                raise BenchError(
                    f"{candidate.name}: the copy differs in {len(different)} of {len(here)} files, "
                    f"for example {different[0]}; its figures are void"
                )
            say(f"{candidate.name}: {len(here)} files, the same names and sizes on both nodes")


def _sizes(root: Path) -> dict[str, int]:
    """Size of every file below, without GlusterFS's own directory."""
    sizes = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".glusterfs"]
        for name in names:
            path = Path(folder, name)
            sizes[str(path.relative_to(root))] = path.lstat().st_size
    return sizes


def main() -> int:
    base, text = sys.argv[1:]
    settings = Settings(**json.loads(text))
    began = time.monotonic()
    try:
        result = Bench(Path(base), settings).result()
    except (BenchError, OSError) as error:
        print(f"bench: {error}\n{last_words(Path(base, LOG))}", file=sys.stderr)
        return 1
    Path(settings.output).write_text(json.dumps(result))
    say(f"measured in {time.monotonic() - began:.0f} s")
    return 0


assert set(COLUMNS) == {RAW, GLUSTERFS, STRICT, ORDERED}

if __name__ == "__main__":
    sys.exit(main())
