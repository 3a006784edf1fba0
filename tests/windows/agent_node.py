"""A node of a farm on Windows as an enrolment would have left it: files below a directory, and the agent started there.

Its neighbour and its control plane are addresses where nobody answers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

from mirror_agent.contract import Application, FarmConfiguration, Peer, Timing
from mirror_agent.net.identity import AgentFile
from mirror_agent.paths import Paths, private_directory

from tests.agent_samples import Authority

ADDRESS = "127.0.0.1"
NOBODY = "127.0.0.9"
CLUSTER = str(uuid.UUID(int=7))


def enrolled(root: Path, authority: Authority, application: Application) -> Paths:
    """`root` is the value of %ProgramData%."""
    paths = Paths(root / "Mirrorplane")
    for directory in (paths.identity_dir, paths.agent_file.parent, paths.module_dir, paths.run_dir):
        private_directory(directory)
    certificate, key = authority.issue("web-a")
    paths.node_certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    paths.ca_certificate.write_bytes(authority.path.read_bytes())
    paths.node_credential.write_text("credential\n")
    configuration = FarmConfiguration(
        kind="farm",
        version=1,
        cluster_name="web",
        cluster_id=CLUSTER,
        node="a",
        address=ADDRESS,
        peers=(Peer(name="b", addresses=(NOBODY,)),),
        application=application,
        # The agent ends itself when its loop stands still for longer than this and two seconds more. Reading the store
        # of trusted authorities takes seconds on Wine, more on a busy machine.
        timing=Timing(promise_s=60.0, margin_s=1.0),
    )
    agent = AgentFile(control_plane_url=f"https://{NOBODY}:9", configuration=configuration)
    paths.agent_file.write_text(agent.model_dump_json(by_alias=True))
    return paths


def start(root: Path, output: Path) -> subprocess.Popen[bytes]:
    """It leaves when its standard input is closed (`stoppable`)."""
    with open(output, "ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.windows.stoppable"],
            env={**os.environ, "ProgramData": str(root)},
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
        )


def mirrorctl(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from mirror_agent.cli import main; import sys; sys.exit(main())", *words],
        env={**os.environ, "ProgramData": str(root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
