"""`mirrorctl`: what an operator types on a node.

Talks to the agent over its Unix socket; `enrol` works without the agent. Results go to standard output (a table, or
JSON with `-o json`), everything else to standard error.
Exit codes: 0 done; 1 failed or refused; 2 wrong usage; 3 no agent is running; 4 not allowed; 5 no answer in time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from mirror_agent import __version__
from mirror_agent.cli_completion import SHELLS, script
from mirror_agent.cli_mirror import QUARANTINE_VERBS, VERBS, add_mirror, run_metrics, run_mirror
from mirror_agent.cli_output import show
from mirror_agent.cli_pair import CREDENTIALS_VERBS, PAIR_VERBS, add_pair_words, run_pair
from mirror_agent.paths import NODE_PATHS, Paths
from mirror_agent.web.actions import MAX_HISTORY, nearest
from mirror_agent.web.local_client import ACTION_TIMEOUT_S, AgentAway, AgentRefused, ask

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
AGENT_AWAY: Final = 3
FORBIDDEN: Final = 4
NO_ANSWER: Final = 5
INTERRUPTED: Final = 130
FOLLOW_S: Final = 1.0
_SERVICE_QUERY: Final = (
    "sc.exe query mirrorplane-agent" if sys.platform == "win32" else "systemctl status mirrorplane-agent"
)

_HISTORIES: Final = ("history", "events")

_QUERIES: Final = {
    "status": "what this node is, and how it is",
    "why": "the rule and the reasons of the last decision",
    "drill": "what this node would be allowed to do now, and why not; changes nothing",
    "history": "what happened, newest last",
    "events": "the same as history",
}
_ACTIONS: Final = {
    "swap": "exchange the roles of the two nodes, in order",
    "start": "start the module on this node",
    "stop": "stop the module on this node; the other one takes over",
    "restart": "restart the application on this node, without failover",
    "stopstart": "stop the module on this node, then start it; the other one takes over",
}
_SWITCHES: Final = {
    "failover": "allow or forbid automatic failover in the whole cluster: failover on|off",
    "checkers": "let the checkers of this node act, or not: checkers on|off",
}
_COMMANDS: Final = {
    **_QUERIES,
    **_ACTIONS,
    **_SWITCHES,
    "mirror": "the two copies: mirror status | verify | resync | quarantine",
    "metrics": "the metrics of this node, as Prometheus reads them",
    "prim": "make this node primary although the rules forbid it: prim --force --why TEXT",
    "credentials": "access for people, on a pair without a control plane: credentials link | list | revoke",
    "pair": "replace a node of a pair without a control plane: pair admit | pair secret",
    "configure": "a new configuration for a pair without a control plane, from the agent's next start on",
    "enrol": "make this machine a node of a cluster",
    "completion": "a script for the shell: source <(mirrorctl completion bash)",
}
_NESTED: Final = {"mirror": VERBS, "credentials": CREDENTIALS_VERBS, "pair": PAIR_VERBS}
_DANGER: Final = """\
A forced start makes the copy on this node the truth, whatever the other one may hold that is missing here.
Writes that were acknowledged and are only on the other node will be replaced by what is here (they are kept in its
quarantine folder). What this node would do by its own rules, and why not:  mirrorctl drill
"""


class _Parser(argparse.ArgumentParser):
    """Names the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"mirrorctl: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _parser()
    unknown = _misspelt(words)
    if unknown is not None:
        parser.error(unknown)
    options, rest = parser.parse_known_args(words)
    if rest:
        known = _options(commands[options.command])
        parser.error(f"unknown argument {rest[0]!r}; {nearest(rest[0], tuple(sorted(known)))}")
    if options.command == "completion":
        print(script(parser, options.shell))
        return OK
    try:
        match options.command:
            case "enrol":
                return _enrol(options)
            case "credentials" | "pair" | "configure":
                return run_pair(options)
            case _:
                return _ask(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except AgentAway as error:
        return _fail(AGENT_AWAY, f"{error}\nIs it running?  {_SERVICE_QUERY}")
    except PermissionError as error:
        return _fail(FORBIDDEN, str(error))
    except TimeoutError as error:
        return _fail(NO_ANSWER, f"{error}; it may go on: mirrorctl status")
    except (AgentRefused, ValueError) as error:
        return _fail(FAILED, str(error))
    except OSError as error:
        return _fail(FAILED, f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _parser() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="mirrorctl", description="Looks at and steers the Mirrorplane node on this machine.")
    parser.add_argument("--version", action="version", version=f"mirrorctl {__version__}")
    parser.add_argument(
        "--root",
        type=Path,
        default=NODE_PATHS.root,
        help=f"the agent's files are below this directory (default {NODE_PATHS.root})",
    )
    output = _Parser(add_help=False)
    output.add_argument("--root", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    output.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how to print the result")
    output.add_argument("--json", dest="output", action="store_const", const="json", help="the same as -o json")
    below = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    commands = {
        name: below.add_parser(name, help=sentence, description=sentence, parents=[] if name in _NESTED else [output])
        for name, sentence in _COMMANDS.items()
    }
    for name in _HISTORIES:
        commands[name].add_argument("-n", "--limit", type=int, default=20, help=f"how many events, up to {MAX_HISTORY}")
        commands[name].add_argument("--follow", action="store_true", help="go on with what comes")
    commands["completion"].add_argument("shell", choices=SHELLS)
    for name in (*_ACTIONS, *_SWITCHES):
        why = "written into the history beside your name"
        commands[name].add_argument("--reason", "--why", dest="reason", metavar="TEXT", default="", help=why)
    add_mirror(commands["mirror"], output)
    add_pair_words(commands, output)
    for name in _SWITCHES:
        commands[name].add_argument("setting", type=_on_or_off, metavar="on|off")
    commands["prim"].add_argument("--force", action="store_true", help="required: nothing else is a `prim`")
    commands["prim"].add_argument("--why", "--reason", dest="reason", metavar="TEXT", default="", help="required")
    commands["prim"].add_argument("--yes", action="store_true", help="do not ask for the cluster's name (for scripts)")
    commands["enrol"].add_argument(
        "--from", dest="source", type=Path, required=True, help="bootstrap.json of this node"
    )
    commands["enrol"].add_argument("--deadline-s", type=float, help="give up after this long")
    return parser, commands


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Those of a command and of everything below it."""
    known: set[str] = set()
    for action in parser._actions:
        known |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            known |= {option for below in action.choices.values() for option in _options(below)}
    return known


def _on_or_off(word: str) -> str:
    if word not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither 'on' nor 'off'")
    return word


def _misspelt(words: Sequence[str]) -> str | None:
    """The sentence for a first word that is no command, or a later one that is none below it."""
    below: Mapping[str, Mapping[str, str]] = {**_NESTED, "quarantine": QUARANTINE_VERBS}
    known: Mapping[str, str] = _COMMANDS
    position = 0
    while True:
        while position < len(words) and words[position].startswith("-"):
            position += 2 if words[position] == "--root" else 1
        if position >= len(words):
            return None
        word = words[position]
        if word not in known:
            return f"{word!r} is no command; {nearest(word, tuple(known))}"
        if word not in below:
            return None
        known = below[word]
        position += 1


def _ask(options: argparse.Namespace) -> int:
    path = Paths(options.root).agent_socket
    match options.command:
        case name if name in _HISTORIES:
            return _history(path, options)
        case "mirror":
            return run_mirror(path, options)
        case "metrics":
            return run_metrics(path)
        case "prim":
            return _force(path, options)
        case name if name in _ACTIONS:
            return _act(path, name, options)
        case name if name in _SWITCHES:
            return _act(path, f"{name}-{options.setting}", options)
        case query:
            show(ask(path, query), options.output)
            return OK


def _history(path: Path, options: argparse.Namespace) -> int:
    """Followed as JSON, each event is one line of its own. An agent that starts anew goes on counting."""
    found: list[dict[str, Any]] = ask(path, "history", limit=options.limit)
    if not options.follow:
        show(found, options.output)
        return OK
    last = 0
    while True:
        if options.output == "json":
            for event in found:
                print(json.dumps(event, ensure_ascii=False), flush=True)
        elif found:
            show(found, options.output)
            sys.stdout.flush()
        last = max((int(event["seq"]) for event in found), default=last)
        time.sleep(FOLLOW_S)
        found = [event for event in ask(path, "history", limit=MAX_HISTORY) if int(event["seq"]) > last]


def _act(path: Path, op: str, options: argparse.Namespace, confirm: str = "") -> int:
    request: dict[str, Any] = {"requestedBy": "mirrorctl", "reason": options.reason}
    if confirm:
        request["confirm"] = confirm
    outcome = ask(path, op, timeout_s=ACTION_TIMEOUT_S, **request)
    show(outcome, options.output)
    return OK if outcome["status"] in ("accepted", "succeeded") else FAILED


def _force(path: Path, options: argparse.Namespace) -> int:
    if not options.force or not options.reason.strip():
        return _fail(USAGE, "a forced start is asked for in full: mirrorctl prim --force --why 'what happened'")
    cluster = str(ask(path, "status")["cluster"])
    if not options.yes:
        if not sys.stdin.isatty():
            return _fail(USAGE, "nobody can be asked here; a script confirms a forced start with --yes")
        print(_DANGER, file=sys.stderr)
        print(f"Type the name of the cluster ({cluster}) to go on: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != cluster:
            return _fail(FAILED, "that is not the name of the cluster; nothing was done")
    return _act(path, "force", options, confirm=cluster)


def _enrol(options: argparse.Namespace) -> int:
    # Here, because these import the HTTP and TLS libraries, and every other command must answer at once.
    import asyncio

    from mirror_agent.net.enrolment import DEADLINE_S, Enrolled, EnrolmentFailed, enrol, load_bootstrap
    from mirror_agent.net.identity import BadEnrolment
    from mirror_agent.pair.begin import begin, is_pair

    def say(kind: str, /, **fields: object) -> None:
        details = " ".join(f"{name}={value}" for name, value in fields.items())
        print(f"mirrorctl: {kind} {details}".rstrip(), file=sys.stderr)

    deadline_s = DEADLINE_S if options.deadline_s is None else options.deadline_s
    try:
        paths = Paths(options.root)
        if is_pair(options.source):
            outcome = asyncio.run(begin(options.source, paths, log=say, deadline_s=deadline_s))
        else:
            outcome = asyncio.run(enrol(load_bootstrap(options.source), log=say, paths=paths, deadline_s=deadline_s))
    except BadEnrolment as error:
        return _fail(FAILED, str(error))
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
            show(answer, options.output)
            return OK


def _fail(code: int, message: str) -> int:
    print(f"mirrorctl: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
