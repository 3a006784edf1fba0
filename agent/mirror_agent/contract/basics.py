"""What the other parts of the contract are made of: ports, limits, names of nodes, states, the base of every model."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from mirror_agent import __version__

CONTRACT_VERSION: Final = "2026-11-01"
AGENT_VERSION: Final = __version__

# Ports of the module, SafeKit's family so that a firewall list carries over (probe, console, heartbeat, replication).
PROBE_PORT = 9010
CONSOLE_PORT = 9453
HEARTBEAT_PORT = 8888
MIRROR_PORT = 5600
MODULE_NAME = "mirror"
PROBE_PATH = f"/var/modules/{MODULE_NAME}/ready.txt"

# Limits: a configuration travels in one JSON answer and, for the first boot, in 64 KiB of custom data.
MAX_FILES = 32
MAX_FILE_BYTES = 256 * 1024
MAX_REPLICATED_PATHS = 4
MAX_CHECKERS = 16
MAX_RESTARTS = 20
MAX_HEARTBEATS_PER_POST = 64
MAX_SENTENCE_CHARS = 500
MAX_REVOKED_SERIALS = 256
MAX_TRUSTED_AUTHORITIES = 4
MAX_FARM_NODES = 4
MAX_ORDERS_PER_POST = 16

# A mirror has the nodes a and b, a farm the first two, three or four.
NodeName = Literal["a", "b", "c", "d"]
ALL_NODES: Final[tuple[NodeName, ...]] = get_args(NodeName)
MIRROR_NODES: Final[tuple[NodeName, NodeName]] = ("a", "b")
assert len(ALL_NODES) == MAX_FARM_NODES
Port = Annotated[int, Field(ge=1, le=65535)]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^(?:/|[A-Za-z]:\\)[^\x00]*$", max_length=1024)]
"""Of Linux, or of Windows with a drive letter; which one a cluster may name says `operating_system.unfit`."""
Seconds = Annotated[float, Field(gt=0, le=86400)]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Contract(BaseModel):
    """Base of every wire model: frozen, camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ClusterKind(StrEnum):
    """A mirror replicates to its other node and one node serves; in a farm all nodes serve and nothing is shared."""

    MIRROR = "mirror"
    FARM = "farm"


class Role(StrEnum):
    """State of the module on one node; the words of a SafeKit user. UP is a farm's: the application runs here."""

    STOP = "STOP"
    WAIT = "WAIT"
    ALONE = "ALONE"
    PRIM = "PRIM"
    SECOND = "SECOND"
    UP = "UP"


class Phase(StrEnum):
    """How settled a role is."""

    NOT_READY = "not-ready"
    TRANSIENT = "transient"
    READY = "ready"


class ApplicationState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


def moment(value: str) -> str:
    """`value`, if it is a time with its zone. Raises ValueError."""
    if datetime.fromisoformat(value).tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; write it in UTC, e.g. '2026-11-01T00:00:00+00:00'")
    return value
