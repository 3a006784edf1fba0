"""The cluster the demo asks for, as the JSON body of one PUT."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

APPS: Final = Path(__file__).parent / "apps"
NAMES: Final = ("ledger", "postgres")
PORTS: Final = {"ledger": 8080, "postgres": 5432}
# In the lab a control-plane heartbeat costs nothing; every 2 s makes the progress display lively.
TIMING: Final = {"controlPlaneHeartbeatS": 2.0}


def application(name: str) -> dict[str, Any]:
    folder = APPS / name
    common: dict[str, Any] = {
        "name": name,
        "startPrim": (folder / "start_prim.sh").read_text(),
        "stopPrim": (folder / "stop_prim.sh").read_text(),
        "servicePorts": [PORTS[name]],
        "startTimeoutS": 60.0,
        "stopTimeoutS": 20.0,
    }
    if name == "ledger":
        return common | {
            "files": [{"path": "ledger.py", "content": (folder / "ledger.py").read_text()}],
            "replicatedPaths": [{"path": "/data/ledger", "mode": "strict"}],
            "checkers": [
                {"name": "server", "kind": "process", "match": r"/ledger\.py /data/ledger", "threshold": 1},
                {"name": "answers", "kind": "http", "port": 8080, "path": "/", "intervalS": 5.0, "threshold": 3},
            ],
        }
    return common | {
        "packages": ["postgresql"],
        "replicatedPaths": [{"path": "/data/postgres", "mode": "ordered"}],
        "checkers": [
            {"name": "postmaster", "kind": "process", "match": r"/bin/postgres -D /data/postgres", "threshold": 1},
            {"name": "listens", "kind": "tcp", "port": 5432, "intervalS": 5.0, "threshold": 3},
        ],
    }


def body(name: str) -> dict[str, Any]:
    """The cluster `demo` with the application `name`."""
    key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return {
        "location": "westeurope",
        "compute": {"os": "linux", "image": "debian-12", "sshPublicKey": key},
        "network": {
            "addressSpace": "10.0.0.0/16",
            "subnet": "10.0.0.0/24",
            "frontend": "public",
            "rules": [{"name": name, "protocol": "tcp", "frontendPort": PORTS[name], "backendPort": PORTS[name]}],
        },
        "application": application(name),
        "timing": TIMING,
    }
