"""The two commands as they are typed: misspelt words, options behind the word, following, completion, exit codes."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from mirror_agent import cli as mirrorctl
from mirrorplane_cli import main as mirrorplane
from mirrorplane_cli.session import Session

OPERATION = "00000000-0000-0000-0000-000000000007"


@dataclass
class Plane:
    """Answers by path; remembers what was asked."""

    answers: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    made = Plane()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path = self.path.partition("?")[0].removeprefix("/api/")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            made.asked.append((self.command, path, body))
            waiting = made.answers[path]
            content = json.dumps(waiting.pop(0) if len(waiting) > 1 else waiting[0]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Operation-Id", OPERATION)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("MIRRORPLANE_URL", made.url)
    monkeypatch.setenv("MIRRORPLANE_TOKEN", "mp_of_the_test")
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def operation(status: str, percent: int = 0) -> dict[str, Any]:
    kind = {"id": OPERATION, "kind": "action", "action": "rotate-ca", "cluster": "pay", "status": status}
    return {**kind, "percentComplete": percent, "step": "renew-a"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clutser", "list"], "did you mean 'cluster'?"),
        (["cluster", "rotate"], "did you mean 'rotate-ca'?"),
        (["cluster", "list", "--serach", "x"], "did you mean '--search'?"),
        (["cluster", "swap", "pay", "--resaon", "x"], "did you mean '--reason'?"),
        (["credentials", "remove", "pay"], "did you mean 'revoke'?"),
        (["events", "--folow"], "did you mean '--follow'?"),
    ],
)
def test_mirrorplane_helps_with_what_is_misspelt(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        mirrorplane.main(words)
    assert (ended.value.code, said in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evnets"], "did you mean 'events'?"),
        (["statsu"], "did you mean 'status'?"),
        (["history", "--folow"], "did you mean '--follow'?"),
        (["completion", "bsh"], "bash"),
    ],
)
def test_mirrorctl_helps_with_what_is_misspelt(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mirrorctl.main(words)
    assert (ended.value.code, said in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    "words", [["-o", "json", "whoami"], ["whoami", "-o", "json"], ["-o", "table", "whoami", "-o", "json"]]
)
def test_the_form_may_stand_before_and_behind_the_word(
    plane: Plane, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plane.answers["me"] = [{"name": "ann", "kind": "token", "role": "Admin"}]
    assert mirrorplane.main(words) == 0
    assert json.loads(capsys.readouterr().out)["role"] == "Admin"


def test_a_rotation_is_asked_for_and_waited_for(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrorplane, "Session", lambda api, screen: Session(api, screen, sleep=lambda seconds: None))
    plane.answers["clusters/pay:rotate-ca"] = [operation("Running")]
    plane.answers[f"operations/{OPERATION}"] = [operation("Running", 40), operation("Succeeded", 100)]
    words = ["cluster", "rotate-ca", "pay", "--overlap-hours", "24", "--reason", "yearly", "--wait"]
    assert mirrorplane.main(words) == 0
    assert plane.asked[0] == ("POST", "clusters/pay:rotate-ca", {"reason": "yearly", "overlapHours": 24})
    plane.answers[f"operations/{OPERATION}"] = [operation("Failed")]
    assert mirrorplane.main(words) == 5


def test_the_authority_is_shown(plane: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"sha256": "ab" * 32, "notAfter": "2036-01-01T00:00:00Z", "issues": True, "pem": "…"}
    rotation = {"stage": "distribute", "waitingFor": ["node b has not reported"]}
    plane.answers["clusters/pay/authority"] = [{"authorities": [one], "rotation": rotation}]
    assert mirrorplane.main(["cluster", "authority", "pay"]) == 0
    shown = capsys.readouterr().out
    assert "distribute" in shown
    assert "node b has not reported" in shown
    plane.answers["keys:rewrap"] = [{"current": 3, "rewrapped": 2, "previousNeeded": 0, "unreadable": []}]
    assert mirrorplane.main(["keys", "rewrap"]) == 0


def test_events_are_followed_as_lines_of_json(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = ({"id": name, "receivedAt": name, "type": "t"} for name in ("1", "2"))
    plane.answers["events"] = [{"value": [first]}, {"value": [second, first]}]
    looks = iter((None, None))

    def sleep(seconds: float) -> None:
        if next(looks, "enough") == "enough":
            raise KeyboardInterrupt

    monkeypatch.setattr(mirrorplane, "Session", lambda api, screen: Session(api, screen, sleep=sleep))
    assert mirrorplane.main(["events", "--follow", "-o", "json"]) == 130
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]


def complete(script: str, command: str, *words: str) -> list[str]:
    """What bash offers behind these words."""
    line = " ".join(f'"{word}"' for word in (command, *words, ""))
    program = f'{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) + 1}; _{command}; echo "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash"], input=program, capture_output=True, text=True, check=True).stdout.split()


def test_completion_offers_the_words_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert mirrorplane.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert {"rotate-ca", "authority", "swap"} <= set(complete(script, "mirrorplane", "cluster"))
    assert "--overlap-hours" in complete(script, "mirrorplane", "cluster", "rotate-ca", "pay")
    assert mirrorctl.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert {"status", "swap", "events", "mirror"} <= set(complete(script, "mirrorctl"))
    assert "--follow" in complete(script, "mirrorctl", "events")
    assert "verify" in complete(script, "mirrorctl", "mirror")
    for shell in ("zsh", "fish"):
        assert mirrorctl.main(["completion", shell]) == 0
        assert "events" in capsys.readouterr().out


def test_the_node_and_the_control_plane_use_the_same_words_for_the_same() -> None:
    ours = set(mirrorplane.ACTIONS)
    assert ours <= set(mirrorctl._ACTIONS) | {"restart"}
    assert ours <= set(mirrorctl._COMMANDS)
