"""What a pair is told from outside: the boot document's facts, the module's file, and what nodes say when one joins.

The facts come from a template's custom data and are the same on both nodes but for `node`; the module is the file
`mirrorctl configure` takes, too. Unknown fields are refused everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from mirror_agent.contract import (
    MIRROR_NODES,
    Application,
    ClusterKind,
    Contract,
    NodeConfiguration,
    NodeName,
    Peer,
    Timing,
    WitnessAccess,
    misplaced,
)
from mirror_agent.pair.proof import MIN_SECRET_CHARS, NONCE_CHARS

# SafeKit's port of the same service, which is closed while nothing is offered.
ADMISSION_PORT: Final = 9001
ROW_KEY: Final = "record"
FIRST_LINK_ID: Final = "0000000000000001"

Secret = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", min_length=MIN_SECRET_CHARS, max_length=256)]
Hex = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{NONCE_CHARS}}}$")]
Pem = Annotated[str, StringConstraints(max_length=16384)]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]


Model = TypeVar("Model", bound=BaseModel)


class BadDocument(ValueError):
    """A file that is missing or wrong; the message names file, field and reason and shows no value."""


class NodePlace(Contract):
    """Where one node is: `address` inside the network, `hostName` as people reach it from outside."""

    address: str
    host_name: HostName | None = None


class WitnessPlace(Contract):
    """The table of the witness and a signature that reads, adds and updates this cluster's one row there."""

    endpoint: str
    table: str
    sas: str = Field(repr=False, min_length=1)


class PairFacts(Contract):
    """`secret` admits the other node, once. `linkSecret` opens the first link for people, once. `join`: this machine
    replaces a node of a pair that exists, so it founds nothing."""

    cluster: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    cluster_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    node: NodeName
    nodes: dict[NodeName, NodePlace]
    virtual_name: HostName | None = None
    witness: WitnessPlace
    secret: Secret = Field(repr=False)
    link_secret: Secret | None = Field(default=None, repr=False)
    join: bool = False

    @model_validator(mode="after")
    def _two(self) -> Self:
        if set(self.nodes) != set(MIRROR_NODES) or self.node not in MIRROR_NODES:
            raise ValueError(
                f"a pair has the nodes a and b; named are {sorted(self.nodes)}, and this one is {self.node}"
            )
        return self

    @property
    def peer(self) -> NodeName:
        first, second = MIRROR_NODES
        return second if self.node == first else first

    def host_names(self, node: NodeName) -> tuple[str, ...]:
        """What browsers call this node; the virtual name is either's."""
        return tuple(name for name in (self.nodes[node].host_name, self.virtual_name) if name is not None)


class PairModule(Contract):
    """The application of a pair, with what else of its configuration may be chosen."""

    application: Application
    timing: Timing = Timing()
    failover: bool = True
    default_primary: NodeName | None = None

    @model_validator(mode="after")
    def _of_a_mirror(self) -> Self:
        for field, reason in misplaced(ClusterKind.MIRROR, self.application):
            raise ValueError(f"application.{field}: {reason}")
        if self.default_primary not in (None, *MIRROR_NODES):
            raise ValueError(f"defaultPrimary {self.default_primary!r} is no node of a pair; name a or b")
        return self


class _Boot(BaseModel):
    """bootstrap.json; its other keys belong to bootstrap.py."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    pair: PairFacts


def load_facts(path: Path) -> PairFacts:
    """Raises BadDocument."""
    return _read(_Boot, path).pair


def load_module(path: Path) -> PairModule:
    """Raises BadDocument."""
    return _read(PairModule, path)


def configuration(facts: PairFacts, module: PairModule, version: int = 1) -> NodeConfiguration:
    """What the agent runs by."""
    witness = WitnessAccess(
        endpoint=facts.witness.endpoint.rstrip("/"),
        table=facts.witness.table,
        partition_key=facts.cluster_id,
        row_key=ROW_KEY,
        sas=facts.witness.sas,
    )
    return NodeConfiguration(
        version=version,
        cluster_name=facts.cluster,
        cluster_id=facts.cluster_id,
        node=facts.node,
        address=facts.nodes[facts.node].address,
        peer=Peer(name=facts.peer, addresses=(facts.nodes[facts.peer].address,)),
        witness=witness,
        application=module.application,
        timing=module.timing,
        failover=module.failover,
        default_primary=module.default_primary,
    )


class Hello(Contract):
    """POST /pair/v1/hello: whoever asks wants to be convinced first."""

    version: Literal[1] = 1
    cluster_id: str
    node: NodeName
    nonce: Hex


class HelloAnswer(Contract):
    nonce: Hex
    ca_sha256: Hex
    proof: Hex


class Join(Contract):
    """POST /pair/v1/join: the key of `csrPem` is the one thing this secret is good for from now on."""

    nonce: Hex
    csr_pem: Pem
    proof: Hex


class JoinAnswer(Contract):
    """`sealedAuthority`: certificate and key of the cluster's authority, so that either node can renew and admit."""

    certificate_pem: Pem
    ca_pem: Pem
    sealed_authority: Annotated[str, StringConstraints(max_length=16384)] = Field(repr=False)
    proof: Hex


class Done(Contract):
    """POST /pair/v1/done: the joining node has everything on its disk; the secret can be forgotten."""

    nonce: Hex
    proof: Hex


def complaint(error: ValidationError) -> str:
    """The first thing that is wrong, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    return f"{place}: {first['msg']}"


def _read(model: type[Model], path: Path) -> Model:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadDocument(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        raise BadDocument(f"{path}: {complaint(error)}") from None
