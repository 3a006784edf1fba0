"""The node's own identity on disk: key pair, certificates, credential and what the control plane told it.

Guarantee: the private key is made here and never leaves; it is made once, so that an enrolment that was cut off goes on
with the same key (renewals make new ones, see `renewal`). Secret files have mode 0600 in a directory of mode 0700 and
are replaced atomically. `agent.json` is written last: while it is not there, the node is not enrolled, whatever else.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from mirror_agent.contract import Configuration, EnrolResponse
from mirror_agent.net.node_certificate import CertificateRefused, authorities_of, issued, store_pair
from mirror_agent.paths import SECRET_FILE_MODE, Paths, private_directory, replace_file

_REQUEST_NAME: Final = "mirrorplane-node"


class NotEnrolled(RuntimeError):
    """There is no usable agent.json."""


class BadEnrolment(RuntimeError):
    """The control plane's answer does not fit this node's key."""


class AgentFile(BaseModel):
    """/etc/mirrorplane/agent.json; `controlPlaneUrl` is "" on a node of a pair without one."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    control_plane_url: str = ""
    configuration: Configuration


def load_agent_file(paths: Paths) -> AgentFile:
    """Raises NotEnrolled with the remedy when there is none, or it is damaged."""
    try:
        return AgentFile.model_validate_json(paths.agent_file.read_bytes())
    except FileNotFoundError:
        raise NotEnrolled(
            f"{paths.agent_file} is not there: this node is not enrolled; "
            f"run: mirrorctl enrol --from {paths.bootstrap_file}"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise NotEnrolled(f"{paths.agent_file}: {place}: {first['msg']}; enrol the node again") from None


def store_configuration(paths: Paths, configuration: Configuration) -> AgentFile:
    """Keep a newer configuration for the next start of the agent."""
    agent = load_agent_file(paths).model_copy(update={"configuration": configuration})
    _write_agent_file(paths, agent)
    return agent


def load_credential(paths: Paths) -> str:
    return paths.node_credential.read_text().strip()


def load_or_make_key(paths: Paths) -> ec.EllipticCurvePrivateKey:
    """The node's ECDSA P-256 key; the one of an earlier attempt if there is one."""
    private_directory(paths.state_dir)
    private_directory(paths.identity_dir)
    if paths.node_key.exists():
        key = serialization.load_pem_private_key(paths.node_key.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BadEnrolment(f"{paths.node_key} is no ECDSA P-256 key; remove it and enrol again")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    replace_file(paths.node_key, pem, SECRET_FILE_MODE)
    return key


def certificate_request(key: ec.EllipticCurvePrivateKey) -> str:
    """A request that proves possession of the key; names and addresses are the control plane's to decide."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _REQUEST_NAME)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def store_enrolment(paths: Paths, url: str, response: EnrolResponse, key: ec.EllipticCurvePrivateKey) -> AgentFile:
    """Check that the answer is for this key and from its own CA; then write everything, agent.json last."""
    try:
        issued(response.certificate_pem, authorities_of(response.ca_pem.encode()), key)
    except CertificateRefused as error:
        raise BadEnrolment(str(error)) from None
    replace_file(paths.ca_certificate, response.ca_pem.encode(), SECRET_FILE_MODE)
    store_pair(paths, response.certificate_pem, key)
    replace_file(paths.node_credential, response.node_credential.encode() + b"\n", SECRET_FILE_MODE)
    agent = AgentFile(control_plane_url=url, configuration=response.configuration)
    _write_agent_file(paths, agent)
    return agent


def store_membership(paths: Paths, configuration: Configuration) -> AgentFile:
    """A node without a control plane; its certificate is in place before."""
    agent = AgentFile(configuration=configuration)
    _write_agent_file(paths, agent)
    return agent


def _write_agent_file(paths: Paths, agent: AgentFile) -> None:
    private_directory(paths.agent_file.parent)
    text = agent.model_dump_json(by_alias=True, indent=1) + "\n"
    replace_file(paths.agent_file, text.encode(), SECRET_FILE_MODE)
