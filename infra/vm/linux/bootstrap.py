"""First boot of a node: from a bare VM to an enrolled agent.

Problem: cloud-init runs once, the network may not be there yet, and the VM may be reset at any moment.
Guarantee: running this again at any time continues where it stopped; on an enrolled node it changes nothing, unless the
agent is being exchanged for another release (`settle_trial`), which happens here because no agent runs then.
The agent's wheel is installed only if its SHA-256 is the one the control plane announced. The enrolment token travels
in a header and in a file of mode 0600, never on a command line, never into a log; after enrolment the file is deleted.
A pair without a control plane fetches wheel and module from a plain https location instead, both by their SHA-256.
Limits: standard library only, Python 3.9 or newer for this file (the agent itself needs 3.11 or newer); gives up after
`DEADLINE_S` with a non-zero status (the service then starts it again).

Reads /var/lib/mirrorplane/bootstrap.json: wheelName, wheelSha256, and either controlPlaneUrl, enrolmentToken or
artifactsLocation, moduleName, moduleSha256 (and what `mirrorctl enrol` wants). Files are below `--root`, "/" on a node.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 1800.0
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
REQUEST_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 900.0
MAX_WHEEL_BYTES = 64 * 1024 * 1024
ENVIRONMENT_NAME_CHARS = 16
MAX_TRIAL_STARTS = 3
OLDEST_PYTHON = (3, 11)
NEEDED = ("controlPlaneUrl", "enrolmentToken", "wheelName", "wheelSha256")
NEEDED_BY_A_PAIR = ("artifactsLocation", "moduleName", "moduleSha256", "wheelName", "wheelSha256")
# Distributions keep the administrator's trusted CAs in one file; OpenSSL's default may be the hashed directory only.
CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


class Fatal(Exception):
    """Trying again would not help; the message says what would."""


class Transient(Exception):
    """Worth another attempt, after `retry_after_s` if the other side said so."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Node:
    """Where things are on this node."""

    def __init__(self, root: Path) -> None:
        self.state = root / "var/lib/mirrorplane"
        self.bootstrap = self.state / "bootstrap.json"
        self.agent_file = root / "etc/mirrorplane/agent.json"
        # A link to one of the environments; changed only here, while no agent runs.
        self.venv = root / "opt/mirrorplane/venv"
        self.environments = root / "opt/mirrorplane/venvs"
        self.installed = self.venv / "installed.sha256"
        self.module = self.state / "module.json"
        self.rollout = self.state / "rollout.json"
        self.mirrorctl = self.venv / "bin/mirrorctl"
        self.command_link = root / "usr/local/bin/mirrorctl"


def say(message: str) -> None:
    print("mirrorplane bootstrap: " + message, flush=True)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another address."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        return None


def opener() -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    for bundle in CA_BUNDLES:
        if os.path.exists(bundle):
            context.load_verify_locations(cafile=bundle)
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), NoRedirect())


def settings_of(node: Node) -> dict[str, str]:
    try:
        settings: dict[str, str] = json.loads(node.bootstrap.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Fatal(f"{node.bootstrap} is no JSON ({error}); replace the VM") from None
    needed, place = (NEEDED_BY_A_PAIR, "artifactsLocation") if "pair" in settings else (NEEDED, "controlPlaneUrl")
    missing = [key for key in needed if not isinstance(settings.get(key), str) or not settings[key]]
    if missing:
        raise Fatal("{} lacks {}; replace the VM".format(node.bootstrap, ", ".join(missing)))
    if not re.match(r"^[A-Za-z0-9_.+-]+\.whl$", settings["wheelName"]):
        raise Fatal("wheelName {!r} in {} is no name of a wheel".format(settings["wheelName"], node.bootstrap))
    if urllib.parse.urlsplit(settings[place]).scheme != "https":
        raise Fatal(f"{place} {settings[place]!r} is not https; secrets stay here")
    return settings


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def wheel_of(node: Node, settings: dict[str, str]) -> Path:
    """The wheel, complete and with the announced SHA-256."""
    target = node.state / settings["wheelName"]
    if "pair" in settings:
        return artifact(settings, "wheel", target)
    url = settings["controlPlaneUrl"].rstrip("/") + "/api/nodes/agent-wheel"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + settings["enrolmentToken"]})
    remedy = "is the enrolment token still valid? Replace the VM to get a new one"
    return download(request, url, target, settings["wheelSha256"], remedy)


def artifact(settings: dict[str, str], what: str, target: Path) -> Path:
    """A file below `artifactsLocation`; the signature behind its address is in no message."""
    url = settings["artifactsLocation"].rstrip("/") + "/" + urllib.parse.quote(settings[what + "Name"])
    token = settings.get("artifactsSasToken", "").lstrip("?")
    request = urllib.request.Request(url + ("?" + token if token else ""))
    remedy = "is it there, and does its signature still hold?"
    return download(request, url, target, settings[what + "Sha256"], remedy)


def download(request: urllib.request.Request, url: str, target: Path, sha256: str, remedy: str) -> Path:
    """What `request` answers at `target`, if it has this SHA-256. Messages name `url`."""
    wanted = sha256.lower()
    if target.exists() and sha256_of(target) == wanted:
        return target
    partial = target.with_suffix(".partial")
    try:
        with opener().open(request, timeout=REQUEST_TIMEOUT_S) as answer, partial.open("wb") as stream:
            received = 0
            for block in iter(lambda: answer.read(1 << 16), b""):
                received += len(block)
                if received > MAX_WHEEL_BYTES:
                    raise Fatal(f"what is at {url} is larger than {MAX_WHEEL_BYTES} bytes")
                stream.write(block)
    except urllib.error.HTTPError as error:
        reason = f"GET {url} answered {error.code}"
        if error.code in (408, 425, 429) or error.code >= 500:
            raise Transient(reason, retry_after(error.headers.get("Retry-After"))) from None
        raise Fatal(f"{reason}; {remedy}") from None
    except (urllib.error.URLError, OSError) as error:
        raise Transient(f"GET {url}: {error}") from None
    found = sha256_of(partial)
    if found != wanted:
        partial.unlink()
        raise Transient(f"{target.name} has SHA-256 {found}, announced was {wanted}; it is not installed")
    partial.replace(target)
    return target


def retry_after(value: str | None) -> float | None:
    return float(value) if value is not None and value.isdigit() else None


def python() -> str:
    """A Python that the agent runs on: this one, or the newest other one of the distribution."""
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return sys.executable
    for minor in range(20, OLDEST_PYTHON[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    raise Fatal(f"the agent needs Python {OLDEST_PYTHON} or newer, this is {sys.version}; use a newer image")


def run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, check=False, timeout=COMMAND_TIMEOUT_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Transient(f"{what} did not end within {COMMAND_TIMEOUT_S} s") from None
    except OSError as error:
        raise Transient(f"{what} could not be started: {error}") from None
    if done.returncode != 0:
        raise Transient(f"{what} ended with status {done.returncode}")


def install(node: Node, wheel: Path, sha256: str) -> None:
    """The agent in its own virtual environment. The marker is written last, so a torn installation starts over."""
    if node.installed.exists() and node.installed.read_text(encoding="utf-8").strip() == sha256:
        return
    place = node.environments / sha256[:ENVIRONMENT_NAME_CHARS]
    place.parent.mkdir(parents=True, exist_ok=True)
    run([python(), "-m", "venv", "--clear", str(place)], "making the virtual environment")
    pip = [str(place / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    run([*pip, "install", str(wheel)], "installing the agent")
    write_durably(place / "installed.sha256", sha256 + "\n")
    put_in_place(node, place)


def put_in_place(node: Node, place: Path) -> None:
    """The link leads to `place` from one moment to the next; a crash leaves the old one or the new one."""
    fresh = node.venv.with_name(".venv.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(place, node.venv.parent), target_is_directory=True)
    fresh.replace(node.venv)
    directory = os.open(node.venv.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def settle_trial(node: Node) -> None:
    """At every start of the service, before the agent: the next step of a change of the agent, if one is under way.

    `restarting`: the candidate is put in place and tried. `proving`: it was started before and has not proven itself
    since; after MAX_TRIAL_STARTS starts, or when it said itself that it failed, the previous one is put back. The
    link is changed before the note, so a crash between the two repeats a step that changes nothing. Whatever is wrong
    with the note or the disk, the agent is started as it is: a node that does not start serves nobody.
    """
    try:
        _settle_trial(node)
    except (OSError, ValueError, TypeError) as error:
        say(f"the change of the agent in {node.rollout} stands still ({error}); the agent is started as it is")


def _settle_trial(node: Node) -> None:
    try:
        note = json.loads(node.rollout.read_text(encoding="utf-8"))
        stage, candidate, previous = note["stage"], note["candidate"], note["previous"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError) as error:
        say(f"{node.rollout} is no rollout note ({type(error).__name__}); the agent is started as it is")
        return
    if not candidate or stage not in ("restarting", "proving"):
        return
    if stage == "restarting":
        place = Path(candidate)
        if (place / "installed.sha256").exists():
            put_in_place(node, place)
            note.update(stage="proving", starts=1)
            say("trying version {}".format(note.get("version", "")))
        else:
            note.update(stage="returned", reason=f"the environment {candidate} is not complete; nothing was changed")
    elif note.get("failed") or int(note.get("starts", 0)) >= MAX_TRIAL_STARTS:
        put_in_place(node, Path(previous))
        told = note.get("reason") or "version {} did not prove itself in {} starts".format(
            note.get("version", ""), note.get("starts", 0)
        )
        note.update(stage="returned", reason=told)
        say(f"{told}; the previous agent is back in place")
    else:
        note.update(starts=int(note.get("starts", 0)) + 1)
    fresh = node.rollout.with_name(".rollout.new")
    write_durably(fresh, json.dumps(note, indent=1) + "\n")
    fresh.chmod(0o600)
    fresh.replace(node.rollout)


def link_command(node: Node) -> None:
    """`mirrorctl` on everybody's PATH; a file of another origin with that name is left alone."""
    link = node.command_link
    if link.is_symlink() or not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh = link.with_name(".mirrorctl.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(node.mirrorctl)
        fresh.replace(link)


def enrol(node: Node) -> None:
    if not node.agent_file.exists():
        run([str(node.mirrorctl), "enrol", "--from", str(node.bootstrap)], "enrolment")
    if not node.agent_file.exists():
        raise Transient(f"enrolment ended well, but {node.agent_file} is not there")


class Retry:
    """Repeats a step while it is `Transient`, with exponential back-off and jitter, within one total deadline."""

    def __init__(self, deadline_s: float, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._end = clock() + deadline_s
        self._sleep = sleep
        self._clock = clock

    def __call__(self, step: Callable[[], None]) -> None:
        delay = FIRST_DELAY_S
        while True:
            try:
                return step()
            except Transient as error:
                wait = max(delay * random.uniform(0.5, 1.0), error.retry_after_s or 0.0)
                if self._clock() + wait > self._end:
                    raise Fatal(f"{error}; gave up, the time for the first boot is over") from None
                say(f"{error}; again in {wait:.0f} s")
                self._sleep(wait)
                delay = min(2 * delay, LONGEST_DELAY_S)


def bootstrap(node: Node, retry: Retry) -> None:
    if not node.bootstrap.exists():
        if node.agent_file.exists():
            return
        raise Fatal(f"neither {node.bootstrap} nor {node.agent_file} is there; replace the VM")
    settings = settings_of(node)
    node.state.chmod(0o700)
    node.bootstrap.chmod(0o600)
    fetched: list[Path] = []
    if not (node.installed.exists() and node.agent_file.exists()):
        say("downloading {}".format(settings["wheelName"]))
        retry(lambda: fetched.append(wheel_of(node, settings)))
        if "pair" in settings:
            retry(lambda: fetched.append(artifact(settings, "module", node.module)))
        say("installing the agent")
        retry(lambda: install(node, fetched[0], settings["wheelSha256"].lower()))
        link_command(node)
        say("enrolling")
        retry(lambda: enrol(node))
    # Single use, and used: nothing on this node needs it any more.
    node.bootstrap.unlink()
    for path in fetched:
        path.unlink()
    say("enrolled")


@contextmanager
def alone(node: Node) -> Iterator[None]:
    """One bootstrap at a time: the boot command and the service may meet."""
    node.state.mkdir(parents=True, exist_ok=True)
    with (node.state / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description="Installs and enrols the Mirrorplane agent on this node.")
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--deadline-s", type=float, default=DEADLINE_S)
    arguments = parser.parse_args()
    node = Node(arguments.root)
    try:
        with alone(node):
            bootstrap(node, Retry(arguments.deadline_s, time.sleep, time.monotonic))
            settle_trial(node)
    except Fatal as error:
        say(f"failed: {error}")
        return 1
    except OSError as error:
        if node.agent_file.exists() and not node.bootstrap.exists():
            say(f"{error}; the agent is started as it is")
            return 0
        say(f"failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
