"""Every file location of the agent, in one place.

A test, or an image that is prepared offline, gives another root; nothing else changes. Secrets (node key, credential,
agent.json with the witness SAS) are files of mode 0600 in directories of mode 0700, always replaced atomically.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror_agent.platform import HOST, Layout

SECRET_FILE_MODE: Final = 0o600


@dataclass(frozen=True)
class Paths:
    """Locations below `root` ("/" on a Linux node)."""

    root: Path = HOST.ROOT
    layout: Layout = HOST.LAYOUT

    @property
    def agent_file(self) -> Path:
        """Control-plane address and configuration, written by enrolment and on a new configuration version."""
        return self.root / self.layout.config_dir / "agent.json"

    @property
    def state_dir(self) -> Path:
        return self.root / self.layout.state_dir

    @property
    def identity_dir(self) -> Path:
        return self.state_dir / "identity"

    @property
    def node_key(self) -> Path:
        return self.identity_dir / "node.key"

    @property
    def node_certificate(self) -> Path:
        return self.identity_dir / "node.pem"

    @property
    def ca_certificate(self) -> Path:
        return self.identity_dir / "ca.pem"

    @property
    def node_credential(self) -> Path:
        return self.identity_dir / "credential"

    @property
    def bootstrap_file(self) -> Path:
        return self.state_dir / "bootstrap.json"

    @property
    def command_journal(self) -> Path:
        return self.state_dir / "commands.json"

    @property
    def order_outbox(self) -> Path:
        """What people ordered here and the control plane has not recorded yet."""
        return self.state_dir / "orders.json"

    @property
    def switches(self) -> Path:
        """What an operator has switched on or off; survives restarts."""
        return self.state_dir / "switches.json"

    @property
    def revoked(self) -> Path:
        """Serials of client certificates that the console refuses; survives restarts."""
        return self.state_dir / "revoked.json"

    @property
    def rollout_note(self) -> Path:
        """The last order of a rolling change, and how far it is; see `node.rollout_note`."""
        return self.state_dir / "rollout.json"

    @property
    def environment(self) -> Path:
        """The agent's virtual environment: a link to one of `environments`, changed only while no agent runs."""
        return self.root / "opt/mirrorplane/venv"

    @property
    def environments(self) -> Path:
        return self.root / "opt/mirrorplane/venvs"

    @property
    def events(self) -> Path:
        return self.state_dir / "events.jsonl"

    @property
    def quarantine_dir(self) -> Path:
        return self.state_dir / "quarantine"

    @property
    def run_dir(self) -> Path:
        return self.root / self.layout.run_dir

    @property
    def agent_socket(self) -> Path:
        return self.run_dir / "agent.sock"

    @property
    def log_dir(self) -> Path:
        """Output of the application's scripts."""
        return self.root / self.layout.log_dir

    @property
    def module_dir(self) -> Path:
        return self.root / self.layout.module_dir


NODE_PATHS: Final = Paths()


def private_directory(path: Path) -> Path:
    """Make `path` (and its parents) and take away everybody else's access to it."""
    path.mkdir(parents=True, exist_ok=True)
    HOST.make_private(path)
    return path


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Put `content` at `path` so that a reader, or a crash at any moment, sees the old file or the new one.

    The data is flushed before the rename and the directory after it. The file has `mode` from its first byte on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            HOST.restrict(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    HOST.flush_directory(path.parent)
