"""What a node and the control plane say to each other, defined once.

The agent produces heartbeats and consumes configuration, so the models live in the agent's wheel; the control plane
imports this module and nothing else of the agent (checked by import-linter). Everything here is frozen, validated,
and refuses unknown fields. JSON names are camelCase, Python names snake_case; units are suffixes.

Compatibility: a field may be added with a default; a field is never renamed or given another meaning without a new
`CONTRACT_VERSION`. Sender clocks (`*_utc`) are for display only: the receiver judges freshness by its own arrival
times (see DESIGN: "clock of a node never matters").
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    IPvAnyAddress,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from mirror_agent import __version__
from mirror_agent.core import model as core_model
from mirror_agent.core.budget import budget
from mirror_agent.skew import refusal as refusal
from mirror_agent.skew import release_of as release_of

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
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*$", max_length=1024)]
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


class AckMode(StrEnum):
    """When a call on a replicated path returns: see docs/mirror.md for what each may lose."""

    STRICT = "strict"
    ORDERED = "ordered"


class CheckerKind(StrEnum):
    PROCESS = "process"
    TCP = "tcp"
    HTTP = "http"
    CUSTOM = "custom"
    DISK = "disk"
    PING = "ping"


class CheckerWhen(StrEnum):
    """Where a checker runs: while the application runs here, while this node is the replica, or both."""

    PRIM = "prim"
    SECOND = "second"
    BOTH = "both"


class CheckerAction(StrEnum):
    RESTART = "restart"
    FAILOVER = "failover"
    STOP = "stop"
    NONE = "none"


class ReplicatedPath(Contract):
    """A directory whose every change is on both nodes before it is acknowledged."""

    path: AbsolutePath
    mode: AckMode = AckMode.STRICT

    @field_validator("path")
    @classmethod
    def _plain_directory(cls, value: str) -> str:
        if value != "/" and value.endswith("/"):
            value = value.rstrip("/")
        if value in ("/", "/etc", "/usr", "/var", "/bin", "/lib", "/dev", "/proc", "/sys", "/run", "/boot"):
            raise ValueError(
                f"{value!r} is a system directory; replicate a directory of the application, e.g. /data/app"
            )
        if ".." in value.split("/"):
            raise ValueError(f"{value!r} contains '..'; give the plain absolute path")
        return value


class SlowReplica(StrEnum):
    """What follows when half of the calls wait for the replica longer than a second, for ten seconds."""

    TELL = "tell"
    LEAVE_OUT = "leave-out"


class ResyncScope(StrEnum):
    """What a returning node is compared for: what can have changed since the last checkpoint, or everything."""

    CHANGES = "changes"
    EVERYTHING = "everything"


class MirrorPolicy(Contract):
    """Where the mirror must choose between two goods: see docs/mirror.md §4 and §12 for what each word costs."""

    slow_replica: SlowReplica = SlowReplica.TELL
    resync: ResyncScope = ResyncScope.CHANGES


class ModuleFile(Contract):
    """A file of the application module, written below the module directory before the first start."""

    path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", max_length=200)]
    content: Annotated[str, StringConstraints(max_length=MAX_FILE_BYTES)]
    mode: Annotated[str, StringConstraints(pattern=r"^0[0-7]{3}$")] = "0644"

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        if ".." in value.split("/"):
            raise ValueError(f"{value!r} leaves the module directory; remove '..'")
        return value


def _as_tuple(value: object) -> object:
    """Behind a validator of the whole model a list of JSON is one of Python, which a strict tuple would refuse."""
    return tuple(value) if isinstance(value, list) else value


class Checker(Contract):
    """One test of the application or of what it stands on.

    `process`: `match` is a regular expression over the command line, between `atLeast` and `atMost` processes; or
    `unit` names a systemd service, which must be active. `tcp`: connects to `port` on the loopback. `http`: GET `path`
    on `port`, 2xx is healthy. `custom`: runs `command` with /bin/sh; exit 0 is healthy. `disk`: the file system of the
    directory `path` is writable, has at least `minFreePercent` and `minFreeBytes` free, and stores a small file within
    `timeoutS`. `ping`: one of `addresses` answers an ICMP echo.
    `threshold` consecutive failures lead to `action`. On the replica only `stop` and `none` do something: there is no
    application to restart, and the other node serves already.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    kind: CheckerKind
    interval_s: Seconds = 2.0
    timeout_s: Seconds = 5.0
    threshold: Annotated[int, Field(ge=1, le=100)] = 2
    grace_s: Annotated[float, Field(ge=0, le=86400)] | None = None
    """Failures before the first healthy test do not count for so long after the application's start; without it for the
    application's `startTimeoutS`, and on the replica not at all."""
    action: CheckerAction = CheckerAction.RESTART
    when: CheckerWhen = CheckerWhen.PRIM
    match: str | None = None
    unit: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:_.@-]{1,200}\.service$")] | None = None
    at_least: Annotated[int, Field(ge=0)] = 1
    at_most: Annotated[int, Field(ge=0)] | None = None
    port: Port | None = None
    path: str | None = None
    command: str | None = None
    min_free_percent: Annotated[float, Field(ge=0, lt=100)] = 5.0
    min_free_bytes: Annotated[int, Field(ge=0)] = 0
    addresses: Annotated[tuple[IPvAnyAddress, ...], BeforeValidator(_as_tuple), Field(max_length=4)] = ()

    @model_validator(mode="before")
    @classmethod
    def _a_ping_only_tells(cls, data: object) -> object:
        """A router that does not answer an echo is no reason to stop an application, unless somebody says so."""
        if isinstance(data, dict) and data.get("kind") in (CheckerKind.PING, "ping") and "action" not in data:
            return {**data, "action": CheckerAction.NONE}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {
            CheckerKind.PROCESS: ("match",) if self.unit is None else (),
            CheckerKind.TCP: ("port",),
            CheckerKind.HTTP: ("port", "path"),
            CheckerKind.CUSTOM: ("command",),
            CheckerKind.DISK: ("path",),
            CheckerKind.PING: ("addresses",),
        }[self.kind]
        for field in needed:
            if getattr(self, field) in (None, ()):
                raise ValueError(f"checker {self.name!r} of kind {self.kind.value!r} needs {field!r}")
        if self.unit is not None and (self.kind is not CheckerKind.PROCESS or self.match is not None):
            raise ValueError(f"checker {self.name!r}: 'unit' belongs to kind 'process', and takes the place of 'match'")
        if self.when is CheckerWhen.SECOND and self.action in (CheckerAction.RESTART, CheckerAction.FAILOVER):
            raise ValueError(
                f"checker {self.name!r} runs on the replica only, where {self.action.value!r} means nothing; "
                "use the action 'stop' or 'none'"
            )
        if self.kind is CheckerKind.DISK and not (self.path or "").startswith("/"):
            raise ValueError(f"checker {self.name!r}: {self.path!r} is no absolute path of a directory")
        if self.match is not None:
            try:
                re.compile(self.match)
            except re.error as error:
                raise ValueError(f"checker {self.name!r}: {self.match!r} is no regular expression: {error}") from None
        return self


def _inside(path: str, directory: str) -> bool:
    return path.rstrip("/") == directory or path.startswith(directory + "/")


class Application(Contract):
    """The application of a cluster: restart scripts, replicated paths, checkers.

    `startPrim` and `stopPrim` are shell scripts (run by /bin/sh in the module directory). `startPrim` starts the
    application and returns 0, leaving daemons running; `stopPrim` stops it. Environment: MODULE_DIR, MODULE_NODE,
    MODULE_EPOCH, MODULE_ROLE and `environment`. `prepare` runs once per node after installation, as root, before the
    module first starts; it must be idempotent. A farm runs the same scripts on every node and replicates nothing: what
    belongs to one kind of cluster only is checked where the kind is known (`misplaced`).
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    start_prim: Annotated[str, StringConstraints(min_length=1, max_length=MAX_FILE_BYTES)]
    stop_prim: Annotated[str, StringConstraints(max_length=MAX_FILE_BYTES)] = "true\n"
    prepare: Annotated[str, StringConstraints(max_length=MAX_FILE_BYTES)] = ""
    packages: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$")], ...], Field(max_length=32)
    ] = ()
    files: Annotated[tuple[ModuleFile, ...], Field(max_length=MAX_FILES)] = ()
    environment: dict[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = Field(
        default_factory=dict
    )
    replicated_paths: Annotated[tuple[ReplicatedPath, ...], Field(max_length=MAX_REPLICATED_PATHS)] = ()
    mirror: MirrorPolicy = MirrorPolicy()
    checkers: Annotated[tuple[Checker, ...], Field(max_length=MAX_CHECKERS)] = ()
    service_ports: Annotated[tuple[Port, ...], Field(max_length=32)] = ()
    start_timeout_s: Seconds = 60.0
    stop_timeout_s: Seconds = 20.0
    restart_limit: Annotated[int, Field(ge=0, le=MAX_RESTARTS)] = 3
    """Failures of the application within `restart_window_s` after which a node restarts it here; one more stops the
    module on this node, and the other one serves."""
    restart_window_s: Seconds = 86400.0

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        paths = [entry.path for entry in self.replicated_paths]
        for path in paths:
            for other in paths:
                if path != other and other.startswith(path + "/"):
                    raise ValueError(f"replicated path {other!r} lies inside {path!r}; list only the outer one")
        if len(set(paths)) != len(paths):
            raise ValueError(f"a replicated path is listed twice: {paths}")
        names = [checker.name for checker in self.checkers]
        if len(set(names)) != len(names):
            raise ValueError(f"a checker name is used twice: {names}")
        for checker in self.checkers:
            if checker.kind is CheckerKind.DISK and any(_inside(checker.path or "", path) for path in paths):
                raise ValueError(
                    f"checker {checker.name!r} would write into the replicated path {checker.path!r}; "
                    "name a directory of the same disk outside of it, for instance where the disk is mounted"
                )
        return self


def misplaced(kind: ClusterKind, application: Application) -> list[tuple[str, str]]:
    """(field, reason with remedy) for everything of the application that a cluster of this kind cannot have."""
    if kind is ClusterKind.MIRROR:
        if application.replicated_paths:
            return []
        return [
            (
                "replicatedPaths",
                "a mirror replicates at least one directory and none is listed; name the application's data directory, "
                "or ask for kind 'farm'",
            )
        ]
    found = []
    if application.replicated_paths:
        path = application.replicated_paths[0].path
        found.append(
            (
                "replicatedPaths",
                f"a farm replicates nothing, but {path!r} is listed; remove it or ask for kind 'mirror'",
            )
        )
    if application.mirror != MirrorPolicy():
        found.append(("mirror", "a farm has no mirror to set up; remove the field or ask for kind 'mirror'"))
    for index, checker in enumerate(application.checkers):
        if checker.when is CheckerWhen.SECOND:
            reason = (
                f"checker {checker.name!r}: a farm has no replica for 'second'; use 'prim', which is every node here"
            )
            found.append((f"checkers[{index}].when", reason))
        if checker.action is CheckerAction.FAILOVER:
            reason = f"checker {checker.name!r}: a farm has nobody to fail over to; use 'restart' or 'stop'"
            found.append((f"checkers[{index}].action", reason))
    return found


def _fits(kind: ClusterKind, application: Application) -> None:
    for field, reason in misplaced(kind, application):
        raise ValueError(f"application.{field}: {reason}")


class Timing(Contract):
    """Durations of the safety protocol, in seconds; `mirror_agent.core.budget` refuses unsafe combinations.

    Defaults: a heartbeat every 0.5 s, a peer is suspected after 2 s of silence, a promise of 4 s. Unplanned outage at
    the virtual IP is then at most promise + margin + witness write + application start + probe (see docs/safety.md).
    """

    heartbeat_s: Seconds = 0.5
    suspect_s: Seconds = 2.0
    promise_s: Seconds = 4.0
    margin_s: Seconds = 0.5
    witness_deadline_s: Seconds = 2.0
    probe_interval_s: Seconds = 5.0
    probe_threshold: Annotated[int, Field(ge=1, le=10)] = 1
    control_plane_heartbeat_s: Seconds = 10.0
    """Between two reports to the control plane when nothing changes; a change is reported at once. Three missed ones
    are silence. The rhythm is most of what a cluster costs there (see docs/audit.md)."""

    @model_validator(mode="after")
    def _safe_together(self) -> Self:
        """Refused where it is asked for, not at three in the morning on a node: see `mirror_agent.core.budget`."""
        durations = self.model_dump(exclude={"control_plane_heartbeat_s"})
        budget(core_model.Timing(**durations))
        return self


class Peer(Contract):
    """The other node. The first address is its private one; heartbeats go to all of them at the same time.

    Every further address must lead to the same machine's first one (a public address with 1:1 translation does).
    """

    name: NodeName
    addresses: Annotated[tuple[str, ...], Field(min_length=1, max_length=4)]


class WitnessAccess(Contract):
    """Where the witness record lives and what lets this cluster change it (a SAS for one partition)."""

    endpoint: str
    table: str
    partition_key: str
    row_key: str
    sas: str = Field(repr=False)


class NodeConfiguration(Contract):
    """Everything a node is told by the control plane at enrolment; renewed when `version` changes."""

    version: int
    cluster_name: str
    cluster_id: str
    node: NodeName
    address: str
    peer: Peer
    witness: WitnessAccess
    application: Application
    timing: Timing = Timing()
    failover: bool = True
    default_primary: NodeName | None = None

    @model_validator(mode="after")
    def _two_nodes(self) -> Self:
        for name in (self.node, self.peer.name, self.default_primary or "a"):
            if name not in MIRROR_NODES:
                raise ValueError(f"a mirror has the nodes a and b, not {name!r}; only a farm has more")
        _fits(ClusterKind.MIRROR, self.application)
        return self


class FarmConfiguration(Contract):
    """What a node of a farm is told: as `NodeConfiguration`, but all of its peers, and nothing to agree on with them.

    There is no safety record: every node decides for itself whether its application runs. Of `timing` only the probe's
    and the report's rhythm mean something. `minimumHealthy` is told so that a node can say what its absence costs; the
    control plane and the load balancer are what keep to it.
    """

    kind: Literal["farm"]
    version: int
    cluster_name: str
    cluster_id: str
    node: NodeName
    address: str
    peers: Annotated[tuple[Peer, ...], Field(min_length=1, max_length=MAX_FARM_NODES - 1)]
    application: Application
    timing: Timing = Timing()
    minimum_healthy: Annotated[int, Field(ge=1, lt=MAX_FARM_NODES)] = 1

    @model_validator(mode="after")
    def _a_farm(self) -> Self:
        names = [self.node, *(peer.name for peer in self.peers)]
        if len(set(names)) != len(names):
            raise ValueError(f"a node is named twice: {names}")
        _fits(ClusterKind.FARM, self.application)
        return self


def _kind(value: object) -> str:
    """Configurations of mirrors say no kind, as they did before there were farms: any agent understands them."""
    return str(value.get("kind", "mirror")) if isinstance(value, dict) else getattr(value, "kind", "mirror")


Configuration = Annotated[
    Annotated[NodeConfiguration, Tag("mirror")] | Annotated[FarmConfiguration, Tag("farm")], Discriminator(_kind)
]


class EnrolRequest(Contract):
    """POST /api/nodes/enrol, authorised by the single-use enrolment token. The key pair never leaves the node."""

    contract_version: Literal["2026-11-01"] = CONTRACT_VERSION
    csr_pem: Annotated[str, StringConstraints(max_length=8192)]
    agent_version: Annotated[str, StringConstraints(max_length=64)]
    boot_id: Annotated[str, StringConstraints(max_length=64)]


class EnrolResponse(Contract):
    certificate_pem: str
    ca_pem: str
    node_credential: str = Field(repr=False)
    configuration: Configuration


class RenewRequest(Contract):
    """POST /api/nodes/certificate, authorised by the node credential: a certificate for a key pair made on the node."""

    contract_version: Literal["2026-11-01"] = CONTRACT_VERSION
    csr_pem: Annotated[str, StringConstraints(max_length=8192)]
    agent_version: Annotated[str, StringConstraints(max_length=64)]


class RenewResponse(Contract):
    """`caPem` holds every authority the node is to trust, the issuer of `certificatePem` among them."""

    certificate_pem: str
    ca_pem: str


class TrustOrder(Contract):
    """The authorities the nodes of a cluster are to trust now (`caPem`, one PEM after another), and which of them
    issues: a node whose certificate is of another one asks for a new certificate."""

    ca_pem: Annotated[str, StringConstraints(max_length=16384)]
    issuer_sha256: Fingerprint


class CertificateReport(Contract):
    """The certificate a node uses and the authorities it trusts, by the SHA-256 of their DER form. `failure` says why
    the last attempt to renew failed, "" when there was none since."""

    serial: Annotated[str, StringConstraints(max_length=64)]
    expires_utc: Annotated[str, StringConstraints(max_length=40)]
    issuer_sha256: Fingerprint
    trusted_sha256: Annotated[tuple[Fingerprint, ...], Field(max_length=MAX_TRUSTED_AUTHORITIES)]
    failure: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""

    @field_validator("expires_utc")
    @classmethod
    def _a_moment(cls, value: str) -> str:
        return moment(value)


def moment(value: str) -> str:
    """`value`, if it is a time with its zone. Raises ValueError."""
    if datetime.fromisoformat(value).tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; write it in UTC, e.g. '2026-11-01T00:00:00+00:00'")
    return value


class ApplicationState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


class CheckerReport(Contract):
    name: str
    healthy: bool | None
    consecutive_failures: int = 0
    message: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""


class VerifyReport(Contract):
    """The verify that is running, and the last one that ended: `outcome` is identical, different or incomplete.

    `differences` stand: the copies are known to differ there until a later verify finds none or a resync compared all.
    """

    running: bool = False
    entries: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    found: int = 0
    outcome: Annotated[str, StringConstraints(max_length=32)] = ""
    ended_utc: Annotated[str, StringConstraints(max_length=40)] = ""
    differences: int = 0
    repaired: int = 0
    reason: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""


class MirrorReport(Contract):
    """Counters of the replication engine; `link` is none, connecting, resync, live or lost.

    `operations` and `replicatedBytes` count since the node took its role, the rates and percentiles are of the last
    seconds; `ringBytes` is what `inFlightBytes` may reach before callers wait. `dirty…`: noted as changed
    since the newest checkpoint. `resyncRule` says why the running or last resync compares what it compares;
    `quarantineFull` why one stopped. `replicaRule`: "slow" while calls wait long for the replica, or why it is
    left out for another `replicaLeftOutS`.
    """

    mode: str
    link: str
    acknowledging: str
    operations: int = 0
    replicated_bytes: int = 0
    in_flight_bytes: int = 0
    ack_latency_ms_p50: float | None = None
    ack_latency_ms_p99: float | None = None
    resync_done_bytes: int | None = None
    resync_total_bytes: int | None = None
    error: str | None = None
    operations_per_s: float = 0.0
    replicated_bytes_per_s: float = 0.0
    ring_bytes: int = 0
    dirty_files: int | None = None
    dirty_bytes: int | None = None
    resync_remaining_s: float | None = None
    resync_rule: Annotated[str, StringConstraints(max_length=64)] = ""
    resync_done_entries: int = 0
    resync_total_entries: int = 0
    quarantine_full: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""
    replica_rule: Annotated[str, StringConstraints(max_length=64)] = ""
    replica_left_out_s: float = 0.0
    verify: VerifyReport | None = None


class CommandAction(StrEnum):
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SWAP = "swap"


class Command(Contract):
    """An operator's wish that travels to the node in a heartbeat answer."""

    id: str
    action: CommandAction
    requested_by: str
    reason: str = ""


class CommandResult(Contract):
    """`accepted` while it runs; `succeeded` or `failed` once; repeated until the control plane has confirmed it."""

    id: str
    status: Literal["accepted", "succeeded", "failed"]
    message: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""


class AgentRelease(Contract):
    """A wheel of the agent as the control plane offers it: GET /api/nodes/agent-wheel?sha256=…"""

    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+([.+a-z-][A-Za-z0-9.+-]*)?$", max_length=64)]
    wheel_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+-]+\.whl$", max_length=200)]
    sha256: Fingerprint


class RolloutOrder(Contract):
    """This node's turn in a rolling change: begin anew with the configuration of this version and, if named, another
    agent. The order stands as long as the answers to heartbeats repeat it; a node carries out each `id` once."""

    id: Annotated[str, StringConstraints(max_length=128)]
    configuration_version: int
    agent: AgentRelease | None = None
    prove_within_s: Seconds = 180.0


class RolloutStage(StrEnum):
    """Of the last order: prepared beside what runs, begun anew, proven; or refused (nothing was changed), or returned
    (the new agent did not prove itself, the previous one runs)."""

    IDLE = "idle"
    PREPARING = "preparing"
    RESTARTING = "restarting"
    PROVING = "proving"
    DONE = "done"
    REFUSED = "refused"
    RETURNED = "returned"


class RolloutReport(Contract):
    """What this node works with. `configurationInUse`: every field of that version is in force. `order`, `stage` and
    `reason` are of the last order it took."""

    configuration_in_use: int
    order: Annotated[str, StringConstraints(max_length=128)] = ""
    stage: RolloutStage = RolloutStage.IDLE
    reason: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""


class Heartbeat(Contract):
    """State of one node at one moment. In a farm the epoch is 0, and what is said of replicas is left out."""

    node: NodeName
    boot_id: Annotated[str, StringConstraints(max_length=64)]
    agent_start_id: Annotated[str, StringConstraints(max_length=64)]
    sequence: Annotated[int, Field(ge=0)]
    sent_utc: str
    role: Role
    phase: Phase
    epoch: Annotated[int, Field(ge=0)]
    in_sync: tuple[NodeName, ...] = ()
    exposed_for_s: float | None = None
    rule: str
    sentence: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)]
    application: ApplicationState
    probe_ok: bool
    mirror: MirrorReport | None = None
    checkers: tuple[CheckerReport, ...] = ()
    restarts_in_window: int = 0
    failover: bool | None = None
    checkers_on: bool | None = None
    certificate: CertificateReport | None = None
    rollout: RolloutReport | None = None
    peers_up: tuple[NodeName, ...] | None = None
    """Of a farm: the other nodes that answered just now that they serve; None: they were not asked yet."""


class OrderNote(Contract):
    """What a person ordered on a node past the control plane, and what came of it.

    `principal` is `certificate:<serial>` or `local:` and who the operating system says it is; `who` the same for
    people, with the way it came. `outcome` `unknown`: the agent or the link between the nodes ended while it was
    carried out. `code` says why it was refused before it began. `number` grows by one within a series of this node;
    what is missing was given up for want of room.
    """

    number: Annotated[int, Field(ge=1)]
    at_utc: Annotated[str, StringConstraints(max_length=40)]
    action: Annotated[str, StringConstraints(max_length=64)]
    principal: Annotated[str, StringConstraints(max_length=200)] = ""
    who: Annotated[str, StringConstraints(max_length=300)]
    reason: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""
    outcome: Literal["succeeded", "accepted", "refused", "failed", "unknown"]
    code: Annotated[str, StringConstraints(max_length=64)] = ""
    message: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""

    @field_validator("at_utc")
    @classmethod
    def _a_moment(cls, value: str) -> str:
        return moment(value)


class HeartbeatPost(Contract):
    """POST /api/nodes/heartbeat, authorised by the node credential. Oldest first; the last one is the current state.

    `orders` are of one series, oldest first, repeated until the answer says that they are recorded.
    """

    contract_version: Literal["2026-11-01"] = CONTRACT_VERSION
    agent_version: Annotated[str, StringConstraints(max_length=64)]
    configuration_version: int
    heartbeats: Annotated[tuple[Heartbeat, ...], Field(min_length=1, max_length=MAX_HEARTBEATS_PER_POST)]
    command_results: Annotated[tuple[CommandResult, ...], Field(max_length=32)] = ()
    order_series: Annotated[str, StringConstraints(max_length=64)] = ""
    orders: Annotated[tuple[OrderNote, ...], Field(max_length=MAX_ORDERS_PER_POST)] = ()


class HeartbeatResponse(Contract):
    """`configuration` is present only when its version is newer than the node's. `revokedSerials` (hex, as OpenSSL
    prints them) are the client certificates the node's console refuses: always the whole list, None from a control
    plane that does not know of it. `trust` is there while the node's certificate report differs from it, `rollout`
    while it is this node's turn, `ordersRecorded` (through which number) where the post brought orders: older agents
    know none of them."""

    configuration: Configuration | None = None
    commands: tuple[Command, ...] = ()
    confirmed_results: tuple[str, ...] = ()
    revoked_serials: (
        Annotated[
            tuple[Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{1,40}$")], ...],
            Field(max_length=MAX_REVOKED_SERIALS),
        ]
        | None
    ) = None
    trust: TrustOrder | None = None
    rollout: RolloutOrder | None = None
    orders_recorded: int | None = None
