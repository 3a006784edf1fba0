"""`mirrorctl credentials`, `pair` and `configure`: what a control plane would do, for a pair that has none.

They work on the node's own files (root only); the agent sees links, admissions and revocations within seconds, a new
configuration at its next start, and writes into the history who ordered what. On a node that has a control plane they
say so and change nothing.
"""

from __future__ import annotations

import argparse
import getpass
import json
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mirror_agent.cli_output import show
from mirror_agent.paths import SECRET_FILE_MODE, Paths, replace_file

if TYPE_CHECKING:
    from mirror_agent.pair.documents import PairFacts
    from mirror_agent.pair.files import PairFiles

OK: Final = 0

CREDENTIALS_VERBS: Final = {
    "link": "make a link by which one person gets a certificate, once, within 24 hours",
    "list": "who was given access by this node",
    "revoke": "refuse a link and its certificate, on both nodes: revoke ID | revoke --serial HEX",
}
PAIR_VERBS: Final = {
    "admit": "wait for a machine that replaces the other node; prints the secret it needs, good once, for 24 hours",
    "secret": "on the machine that replaces a node: read that secret from standard input and join with it",
}


def add_pair_words(commands: dict[str, Any], output: argparse.ArgumentParser) -> None:
    """The words below `credentials` and `pair`, and the options of `configure`."""
    made = _verbs(commands["credentials"], CREDENTIALS_VERBS, output)
    made["link"].add_argument("--name", required=True, help="who it is for; it is in the certificate and in histories")
    made["link"].add_argument("--role", choices=("Admin", "Control", "Monitor"), default="Monitor")
    which = made["revoke"].add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="as `list` shows it")
    which.add_argument("--serial", metavar="HEX", help="any certificate of the pair, also one a lost machine made")
    _verbs(commands["pair"], PAIR_VERBS, output)
    commands["configure"].add_argument("--file", type=Path, help="the module: application, timing, failover")
    commands["configure"].add_argument(
        "--witness-sas", type=Path, metavar="FILE", help="a new signature for the witness's row ('-': standard input)"
    )


def run_pair(options: argparse.Namespace) -> int:
    """Raises ValueError with the remedy, OSError of the disk."""
    try:
        return _run(options)
    except PermissionError as error:
        raise PermissionError(f"{error.filename or 'the file'} is root's; use sudo") from None


def _run(options: argparse.Namespace) -> int:
    paths = Paths(options.root)
    match options.command, getattr(options, "verb", ""):
        case "pair", "secret":
            answer: object = _take_secret(paths)
        case "pair", _:
            answer = _admit(paths)
        case "credentials", "link":
            answer = _link(paths, options.name, options.role)
        case "credentials", "list":
            answer = _list(paths)
        case "credentials", _:
            answer = _revoke(paths, options.id) if options.serial is None else _revoke_serial(paths, options.serial)
        case _:
            answer = _configure(paths, options.file, options.witness_sas)
    show(answer, options.output)
    return OK


def _verbs(
    parser: argparse.ArgumentParser, words: dict[str, str], output: argparse.ArgumentParser
) -> dict[str, argparse.ArgumentParser]:
    below = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    return {
        name: below.add_parser(name, help=sentence, description=sentence, parents=[output])
        for name, sentence in words.items()
    }


# Imported where they are used: these bring the TLS and model libraries, and other commands must answer at once.
def _link(paths: Paths, name: str, role: str) -> dict[str, object]:
    from mirror_agent.authority import certificate_sha256
    from mirror_agent.pair import orders
    from mirror_agent.pair.links import link_token, offer
    from mirror_agent.pair.proof import new_secret
    from mirror_agent.pair.server import link_url

    files, facts = _membership(paths)
    authority = files.load_authority()
    if authority is None:
        raise ValueError(f"{files.authority} is not there; make the link on the other node")
    link_id, secret = secrets.token_hex(8), new_secret()
    made = offer(files, link_id, secret, name=name, role=role, now=_now())
    orders.note(files, "credentials link", _now(), id=made.id, name=name, role=role)
    return {
        "url": link_url(facts, link_token(facts.cluster_id, link_id, secret)),
        "id": made.id,
        "role": made.role,
        "endsAt": made.ends_at.isoformat(timespec="seconds"),
        "caSha256": certificate_sha256(authority.certificate),
    }


def _list(paths: Paths) -> dict[str, object]:
    """By id, the newest first; then what was revoked by its serial."""
    from mirror_agent.pair.links import survey

    now, known = _now(), survey(_membership(paths)[0])
    for reason in known.unreadable:
        print(f"mirrorctl: cannot be read: {reason}", file=sys.stderr)
    links: dict[str, object] = {
        link.id: {
            "name": link.name,
            "role": link.role,
            "state": link.state(now),
            "endsAt": (link.certificate_ends_at or link.ends_at).isoformat(timespec="seconds"),
            "serial": link.serial or "",
        }
        for link in known.links
    }
    return links | {
        link_id: {
            "name": "",
            "role": "",
            "state": "revoked",
            "endsAt": one.certificate_ends_at.isoformat(timespec="seconds") if one.certificate_ends_at else "",
            "serial": one.serial or "",
        }
        for link_id, one in known.named.items()
    }


def _revoke(paths: Paths, link_id: str) -> dict[str, object]:
    from mirror_agent.pair import orders
    from mirror_agent.pair.links import revoke

    files, _ = _membership(paths)
    found = revoke(files, link_id, _now())
    if found is None:
        raise ValueError(
            f"this node made no link {link_id!r}; the other one may have: mirrorctl credentials list there, or "
            "credentials revoke --serial HEX if its machine is lost"
        )
    orders.note(files, "credentials revoke", _now(), id=found.id, name=found.name, serial=found.serial or "")
    return {"id": found.id, "name": found.name, "state": "revoked", "serial": found.serial or ""}


def _revoke_serial(paths: Paths, serial: str) -> dict[str, object]:
    from mirror_agent.pair import orders
    from mirror_agent.pair.links import revoke_serial

    files, _ = _membership(paths)
    found = revoke_serial(files, serial, _now())
    orders.note(files, "credentials revoke", _now(), id=found.id, serial=found.serial)
    ends_at = found.ends_at.isoformat(timespec="seconds")
    return {"id": found.id, "state": "revoked", "serial": found.serial, "endsAt": ends_at}


def _admit(paths: Paths) -> dict[str, object]:
    from mirror_agent.pair import orders
    from mirror_agent.pair.admission import open_admission
    from mirror_agent.pair.proof import new_secret

    files, facts = _membership(paths)
    if files.load_authority() is None:
        raise ValueError(f"{files.authority} is not there; only a node that has it can admit another one")
    made = open_admission(files, facts.peer, new_secret(), _now())
    orders.note(files, "pair admit", _now(), node=made.node)
    return {"node": made.node, "secret": made.secret, "endsAt": made.ends_at.isoformat(timespec="seconds")}


def _take_secret(paths: Paths) -> dict[str, object]:
    from mirror_agent.pair.documents import load_facts

    document = json.loads(paths.bootstrap_file.read_bytes()) if paths.bootstrap_file.exists() else None
    if not isinstance(document, dict) or not isinstance(document.get("pair"), dict):
        raise ValueError(f"{paths.bootstrap_file} is not there, or not of a pair: this machine is not waiting to join")
    document["pair"] |= {"secret": _asked("the secret that `mirrorctl pair admit` printed: "), "join": True}
    before = paths.bootstrap_file.read_bytes()
    replace_file(paths.bootstrap_file, json.dumps(document, indent=1).encode() + b"\n", SECRET_FILE_MODE)
    try:
        facts = load_facts(paths.bootstrap_file)
    except ValueError:
        replace_file(paths.bootstrap_file, before, SECRET_FILE_MODE)
        raise
    return {"node": facts.node, "next": "it joins within a minute or two: mirrorctl status"}


def _configure(paths: Paths, file: Path | None, witness_sas: Path | None) -> dict[str, object]:
    from mirror_agent.contract import NodeConfiguration
    from mirror_agent.net.identity import load_agent_file, store_configuration
    from mirror_agent.pair import orders
    from mirror_agent.pair.documents import load_module

    files, _ = _membership(paths)
    present = load_agent_file(paths).configuration
    assert isinstance(present, NodeConfiguration), "a pair is a mirror"
    if file is None and witness_sas is None:
        raise ValueError("nothing to change; give --file, --witness-sas or both")
    changes: dict[str, object] = {"version": present.version + 1}
    if file is not None:
        module = load_module(file)
        changes |= {name: getattr(module, name) for name in type(module).model_fields}
    if witness_sas is not None:
        text = _asked("the witness's signature: ") if str(witness_sas) == "-" else witness_sas.read_text()
        text = text.strip().lstrip("?")
        if "sig=" not in text:
            raise ValueError(f"{witness_sas} holds no shared access signature (it has no sig=)")
        changes["witness"] = present.witness.model_copy(update={"sas": text})
    values = {name: getattr(present, name) for name in type(present).model_fields}
    stored = store_configuration(paths, NodeConfiguration(**(values | changes))).configuration
    what = " and ".join(word for word, given in (("module", file), ("witness signature", witness_sas)) if given)
    orders.note(files, "configure", _now(), version=str(stored.version), changed=what)
    return {"version": stored.version, "next": "the same on the other node; then restart the replica's agent first"}


def _asked(prompt: str) -> str:
    """One line of standard input; from a terminal with a prompt, and not shown."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    try:
        return getpass.getpass(prompt).strip()
    except EOFError:
        return ""


def _membership(paths: Paths) -> tuple[PairFiles, PairFacts]:
    """(files, facts) of this node's pair. Raises ValueError on any other node."""
    from mirror_agent.net.identity import NotEnrolled, load_agent_file
    from mirror_agent.pair.membership import pair_membership

    try:
        agent = load_agent_file(paths)
        found = pair_membership(agent, paths)
    except NotEnrolled as error:
        raise ValueError(str(error)) from None
    if found is None:
        raise ValueError(f"this node has a control plane ({agent.control_plane_url}); ask that for it")
    return found.files, found.facts


def _now() -> datetime:
    return datetime.now(UTC)
