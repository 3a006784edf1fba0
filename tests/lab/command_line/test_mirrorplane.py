"""The `mirrorplane` command against the real function app: as a person types it and as a script uses it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from mirrorplane_cli.main import parser

from lab.azurite.server import Azurite
from shared.model.principal import AccessRole
from tests.control_plane_samples import cluster_body
from tests.lab.browser.stage import ADMIN, Stage
from tests.lab.functions_host.process import REPOSITORY

pytestmark = [pytest.mark.azurite, pytest.mark.asyncio(loop_scope="module")]
DEADLINE_S: Final = 60.0


class Shell:
    """Runs commands with a home of its own."""

    def __init__(self, home: Path, stage: Stage) -> None:
        self.home = home
        self.stage = stage

    def run(self, *words: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mirrorplane_cli", *words],
            input=typed,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "PYTHONPATH": str(REPOSITORY / "cli"),
                **environment,
            },
        )

    def json(self, *words: str) -> Any:
        done = self.run("-o", "json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def login(self, token: str = ADMIN) -> None:
        done = self.run("login", "--url", self.stage.url, typed=token + "\n")
        assert done.returncode == 0, done.stderr


def in_bash(script: str) -> str:
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return done.stdout


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Azurite() as storage:
        made = Stage(tmp_path_factory.mktemp("stage"), storage)
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture
def shell(tmp_path: Path, stage: Stage) -> Shell:
    return Shell(tmp_path, stage)


async def test_signing_in_keeps_the_token_from_others(shell: Shell) -> None:
    refused = shell.run("login", "--url", shell.stage.url, typed="mp_wrong\n")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert not list(shell.home.rglob("profile.json"))
    nobody = shell.run("whoami")
    assert nobody.returncode == 4
    assert "mirrorplane login" in nobody.stderr
    shell.login()
    (file,) = shell.home.rglob("profile.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert shell.json("whoami")["role"] == "Admin"
    clear = shell.run("whoami", MIRRORPLANE_URL="http://control.example.org", MIRRORPLANE_TOKEN="x")
    assert (clear.returncode, "in clear" in clear.stderr) == (2, True)
    away = shell.run("whoami", MIRRORPLANE_URL="http://127.0.0.1:1", MIRRORPLANE_TOKEN="x")
    assert away.returncode == 3


async def test_a_cluster_from_file_to_history(shell: Shell) -> None:
    shell.login()
    body = shell.home / "cluster.json"
    body.write_text(json.dumps(cluster_body()))
    made = shell.json("cluster", "create", "typed", "--file", str(body))
    assert shell.json("operation", "show", made["operation"])["kind"] == "create"
    again = shell.run("cluster", "create", "typed", "--file", str(body))
    assert (again.returncode, "ResourceExists" in again.stderr) == (1, True)
    waited = shell.run("operation", "wait", made["operation"], "--timeout", "0")
    assert (waited.returncode, "goes on" in waited.stderr) == (6, True)
    await shell.stage.settle("typed")
    assert shell.run("operation", "wait", made["operation"]).returncode == 0
    listed = shell.run("cluster", "list", "--search", "type")
    assert listed.stdout.splitlines()[0].startswith("CLUSTER")
    shown = shell.run("cluster", "show", "typed")
    assert "No node has reported yet." in shown.stdout
    assert shell.json("cluster", "history", "typed")[-1]["title"] == "bootstrap token: create or change"


async def test_acting_and_who_did_it(shell: Shell) -> None:
    await shell.stage.cluster("acted")
    shell.stage.in_sync("acted")
    shell.login(shell.stage.token(AccessRole.CONTROL))
    done = shell.run("cluster", "swap", "acted", "--reason", "patch day")
    assert (done.returncode, "accepted" in done.stdout) == (0, True), done.stderr
    (entry,) = (e for e in shell.json("journal", "--cluster", "acted") if e["what"] == "cluster_action:swap")
    assert entry["reason"] == "patch day"
    kept = shell.run("cluster", "delete", "acted")
    assert (kept.returncode, "--confirm acted" in kept.stderr) == (2, True)
    forbidden = shell.run("cluster", "delete", "acted", "--confirm", "acted")
    assert (forbidden.returncode, "role Admin" in forbidden.stderr) == (1, True)


async def test_alerts_and_silences(shell: Shell) -> None:
    record = await shell.stage.cluster("alerted")
    await shell.stage.firing(record, "cluster-down", "nobody serves alerted")
    shell.login()
    (alert,) = shell.json("alerts", "list", "--cluster", "alerted")
    taken = shell.json("alerts", "ack", alert["id"], "--note", "on it")
    assert (taken["state"], taken["note"]) == ("acknowledged", "on it")
    silence = shell.run("alerts", "silence", "--cluster", "alerted", "--reason", "known", "--until", "tomorrow")
    assert (silence.returncode, "until" in silence.stderr) == (1, True)


async def test_tokens_and_credential_links_are_shown_once(shell: Shell) -> None:
    await shell.stage.cluster("shared")
    shell.login()
    token = shell.json("token", "create", "ci", "--role", "Monitor")
    assert token["token"] not in shell.run("-o", "json", "token", "list").stdout
    assert shell.run("token", "delete", token["id"]).returncode == 0
    link = shell.json("credentials", "create", "shared", "--who", "ann", "--role", "Control")
    assert "/#/credential/mpc_" in link["url"]
    (listed,) = shell.json("credentials", "list", "shared")
    assert (listed["name"], listed["state"]) == ("ann", "offered")
    assert shell.json("credentials", "revoke", "shared", link["id"])["state"] == "revoked"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("clutser", "list"), "did you mean 'cluster'?"),
        (("cluster", "swpa", "x"), "did you mean 'swap'?"),
        (("cluster", "list", "--verdict", "explosed"), "did you mean 'exposed'?"),
    ],
)
async def test_a_misspelt_word_gets_the_nearest_one(shell: Shell, words: tuple[str, ...], hint: str) -> None:
    done = shell.run(*words)
    assert (done.returncode, hint in done.stderr) == (2, True), done.stderr


async def test_completion_knows_every_word(shell: Shell) -> None:
    script = shell.run("completion", "bash").stdout
    tried = (
        f'{script}\nCOMP_WORDS=(mirrorplane cluster sw); COMP_CWORD=2; _mirrorplane; echo "${{COMPREPLY[*]}}"\n'
        'COMP_WORDS=(mirrorplane cluster swap pay --re); COMP_CWORD=4; _mirrorplane; echo "${COMPREPLY[*]}"\n'
    )
    assert in_bash(tried).split("\n")[:2] == ["swap", "--reason"]
    assert "autoload" in shell.run("completion", "zsh").stdout
    assert "__fish_use_subcommand" in shell.run("completion", "fish").stdout
    assert "credentials" in parser().format_help()


async def test_a_cluster_is_estimated_from_the_file_it_would_be_made_of(shell: Shell) -> None:
    shell.login()
    typed = json.dumps(cluster_body())
    told = shell.run("cluster", "estimate", "pay", "--file", "-", typed=typed)
    assert told.returncode == 0, told.stderr
    assert "pay-a-data" in told.stdout
    assert "4 standardDSv5Family" in told.stdout
    assert "prices of eastus as of" in told.stdout
    refused = shell.run("cluster", "estimate", "pay", "--file", "-", typed="{}")
    assert refused.returncode == 1
    assert "cluster.location" in refused.stderr
    # No Azure is reachable from here: nothing is concluded, and the reason is told.
    unknown = shell.run("cluster", "validate", "pay", "--file", "-", typed=typed)
    assert unknown.returncode == 1
    assert "AzureUnavailable" in unknown.stderr
