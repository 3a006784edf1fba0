"""`mirrorctl`: what an operator types on a node.

Talks to the agent over its Unix socket; `enrol` works without the agent. Results go to standard output (a table, or
JSON with `-o json`), everything else to standard error.
Exit codes: 0 done; 1 failed or refused; 2 wrong usage; 3 no agent is running; 4 not allowed; 5 no answer in time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn

from mirror_agent import __version__
from mirror_agent.net.enrolment import DEADLINE_S, Enrolled, EnrolmentFailed, enrol, load_bootstrap
from mirror_agent.net.identity import BadEnrolment
from mirror_agent.paths import Paths
from mirror_agent.web.local_api import ACTIONS, MAX_HISTORY
from mirror_agent.web.local_client import ACTION_TIMEOUT_S, AgentAway, AgentRefused, ask

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
AGENT_AWAY: Final = 3
FORBIDDEN: Final = 4
NO_ANSWER: Final = 5

_COMMANDS: Final = {
    "status": "what this node is, and how it is",
    "why": "the rule and the reasons of the last decision",
    "history": "what happened, newest last",
    "swap": "exchange the roles of the two nodes, in order",
    "start": "start the module on this node",
    "stop": "stop the module on this node; the other one takes over",
    "restart": "restart the application on this node, without failover",
    "enrol": "make this machine a node of a cluster",
}


class _Parser(argparse.ArgumentParser):
    """Names the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"mirrorctl: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    unknown = _misspelt(words)
    if unknown is not None:
        parser.error(unknown)
    options, rest = parser.parse_known_args(words)
    if rest:
        known = [option for action in parser._actions for option in action.option_strings] + ["--limit", "--reason"]
        near = get_close_matches(rest[0], [*known, "--from", "--deadline-s"], n=1)
        parser.error(f"unknown argument {rest[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    try:
        return _enrol(options) if options.command == "enrol" else _ask(options)
    except AgentAway as error:
        return _fail(AGENT_AWAY, f"{error}\nIs it running?  systemctl status mirrorplane-agent")
    except PermissionError as error:
        return _fail(FORBIDDEN, str(error))
    except TimeoutError as error:
        return _fail(NO_ANSWER, f"{error}; it may go on: mirrorctl status")
    except (AgentRefused, BadEnrolment, ValueError) as error:
        return _fail(FAILED, str(error))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mirrorctl", description="Looks at and steers the Mirrorplane node on this machine.")
    parser.add_argument("--version", action="version", version=f"mirrorctl {__version__}")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="the agent's files are below this directory (default /)"
    )
    output = _Parser(add_help=False)
    output.add_argument("--root", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    output.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how to print the result")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, sentence in _COMMANDS.items():
        command = commands.add_parser(name, help=sentence, description=sentence, parents=[output])
        if name == "history":
            command.add_argument("-n", "--limit", type=int, default=20, help=f"how many events, up to {MAX_HISTORY}")
        elif name in ACTIONS:
            command.add_argument("--reason", default="", help="written into the history beside your name")
        elif name == "enrol":
            command.add_argument("--from", dest="source", type=Path, required=True, help="bootstrap.json of this node")
            command.add_argument("--deadline-s", type=float, default=DEADLINE_S, help="give up after this long")
    return parser


def _misspelt(words: Sequence[str]) -> str | None:
    """The sentence for a first word that is no command."""
    position = 0
    while position < len(words) and words[position].startswith("-"):
        position += 2 if words[position] == "--root" else 1
    if position >= len(words) or words[position] in _COMMANDS:
        return None
    word = words[position]
    near = get_close_matches(word, _COMMANDS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(_COMMANDS)}"
    return f"{word!r} is no command; {hint}"


def _ask(options: argparse.Namespace) -> int:
    path = Paths(options.root).agent_socket
    match options.command:
        case "history":
            _print(ask(path, "history", limit=options.limit), options.output)
        case name if name in ACTIONS:
            outcome = ask(path, name, timeout_s=ACTION_TIMEOUT_S, requestedBy="mirrorctl", reason=options.reason)
            _print(outcome, options.output)
            return OK if outcome["status"] in ("accepted", "succeeded") else FAILED
        case query:
            _print(ask(path, query), options.output)
    return OK


def _enrol(options: argparse.Namespace) -> int:
    def say(kind: str, /, **fields: object) -> None:
        details = " ".join(f"{name}={value}" for name, value in fields.items())
        print(f"mirrorctl: {kind} {details}".rstrip(), file=sys.stderr)

    bootstrap = load_bootstrap(options.source)
    outcome = asyncio.run(enrol(bootstrap, log=say, paths=Paths(options.root), deadline_s=options.deadline_s))
    match outcome:
        case EnrolmentFailed(reason):
            return _fail(FAILED, reason)
        case Enrolled(agent, already):
            configuration = agent.configuration
            answer = {
                "cluster": configuration.cluster_name,
                "node": configuration.node,
                "address": configuration.address,
                "already": already,
            }
            _print(answer, options.output)
            return OK


def _fail(code: int, message: str) -> int:
    print(f"mirrorctl: {message}", file=sys.stderr)
    return code


def _print(value: Any, output: str) -> None:
    if output == "json":
        print(json.dumps(value, indent=2, ensure_ascii=False))
    elif isinstance(value, list):
        for event in value:
            print(_event_line(event))
    else:
        lines = _table(value)
        width = max((len(name) for name, _ in lines), default=0)
        for name, text in lines:
            print(f"{name:<{width}}  {text}".rstrip())


def _table(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested objects become dotted names; a person reads one fact a line."""
    lines: list[tuple[str, str]] = []
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            lines += _table(item, f"{prefix}{name}.")
        elif isinstance(item, list) and any(isinstance(entry, Mapping) for entry in item):
            for number, entry in enumerate(item):
                lines += _table(entry, f"{prefix}{name}[{number}].")
        else:
            lines.append((f"{prefix}{name}", _text(item)))
    return lines


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_text(entry) for entry in value) or "-"
        case _:
            return str(value)


def _event_line(event: Mapping[str, Any]) -> str:
    rest = " ".join(f"{name}={_text(item)}" for name, item in event.items() if name not in ("seq", "utc", "kind"))
    return f"{event.get('utc', '-')}  {event.get('kind', '-'):<28}  {rest}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
