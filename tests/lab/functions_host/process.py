"""A Functions host in a process of its own, driven from a test. It ends with the test or with pytest."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from lab.children import child_preparation

REPOSITORY: Final = Path(__file__).resolve().parents[3]
START_S: Final = 60.0
DEADLINE_S: Final = 60.0
LOOK_S: Final = 0.02


T = TypeVar("T")


def wait_for(look: Callable[[], T | None], what: str, deadline_s: float = DEADLINE_S) -> T:
    """The first thing `look` finds (not None, not False). Fails the test, naming `what`, at the deadline."""
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(LOOK_S)
    raise AssertionError(f"{what} did not happen within {deadline_s:g} s")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class HostProcess:
    """`directory` holds its log, state and facts; a second host given the same directory is a restart of the first."""

    def __init__(self, directory: Path, app: Path, settings: Mapping[str, str], *arguments: str) -> None:
        self.directory = directory
        self.log_file = directory / "host.log"
        self.facts_file = directory / "facts.jsonl"
        self.release_file = directory / "release"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'agent'}",
            "FACTS": str(self.facts_file),
            "RELEASE": str(self.release_file),
            **settings,
        }
        command = [sys.executable, "-m", "lab.functions_host", "--app", str(app), "--state", str(directory / "state")]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                preexec_fn=child_preparation(),
            )
        self.url = ""
        self.functions: list[str] = []
        self.keys: dict[str, Any] = {}

    def ready(self) -> "HostProcess":
        """Waits for the ready line. A process that ends without one fails the test with its log."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(START_S)
            raise AssertionError(f"the host ended with {self.process.returncode}:\n{self.log()}")
        ready = json.loads(line)
        assert ready["ready"] is True
        self.url, self.functions = ready["url"], ready["functions"]
        self.keys = json.loads(Path(ready["keys"]).read_text())
        return self

    def refusal(self) -> str:
        """Waits for the end of a host that must not start; its message."""
        assert self.process.wait(START_S) == 2, self.log()
        assert self.process.stdout is not None
        assert self.process.stdout.read() == b"", "no ready line"
        return self.log()

    def log(self) -> str:
        return self.log_file.read_text()

    def facts(self, kind: str) -> list[dict[str, Any]]:
        if not self.facts_file.exists():
            return []
        entries: Sequence[dict[str, Any]] = [json.loads(line) for line in self.facts_file.read_text().splitlines()]
        return [entry for entry in entries if entry["kind"] == kind]

    def wait_for_facts(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        def look() -> list[dict[str, Any]] | None:
            found = self.facts(kind)
            return found if len(found) >= count else None

        return wait_for(look, f"{count} × {kind!r}")

    def release(self) -> None:
        self.release_file.touch()

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        request = urllib.request.Request(self.url + path, body, dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S, context=tls) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """As if the power failed; also the clean-up of every test."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
