"""`mirrorplane`: the words, their options, and how a run ends.

Exit codes: 0 done, 1 refused by the control plane, 2 usage, 3 no answer, 4 not signed in, 5 the operation failed,
6 it did not end in time (and goes on).
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from mirrorplane_cli import access, authority, clusters, completion, operations, proposals, watch
from mirrorplane_cli.api import ControlPlane
from mirrorplane_cli.outcome import ExitCode, Failed
from mirrorplane_cli.profile import load
from mirrorplane_cli.session import Session
from mirrorplane_cli.show import Screen

VERDICTS: Final = ("healthy", "degraded", "exposed", "down", "unknown")
ROLES: Final = ("Monitor", "Control", "Admin")
ACTIONS: Final = {
    "swap": "hand the application over to the other node",
    "start": "start stopped nodes",
    "stop": "stop the application on both nodes",
    "restart": "restart the application where it runs",
}
FORMS: Final = ("table", "json")
WAIT_S: Final = 1800.0
Command = Callable[[Session, argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """Says which word was probably meant."""

    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if found:
            known = re.findall(r"[\w-]+", found.group(2))
            near = difflib.get_close_matches(found.group(1), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            message = f"{found.group(1)!r} is not known here; {hint}"
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            near = difflib.get_close_matches(unknown.group(1), sorted(_options(self)), n=1, cutoff=0.5)
            message += f"; did you mean {near[0]!r}?" if near else ""
        print(f"mirrorplane: {message}", file=sys.stderr)
        print(f"help: {self.prog} --help", file=sys.stderr)
        raise SystemExit(int(ExitCode.USAGE))


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Those of a parser and of everything below it."""
    known: set[str] = set()
    for action in parser._actions:
        known |= {option for option in action.option_strings if option.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            known |= {option for below in action.choices.values() for option in _options(below)}
    return known


def parser() -> Parser:
    top = Parser(prog="mirrorplane", description="The control plane's command line.", epilog=__doc__)
    top.add_argument("-o", "--output", choices=FORMS, default="table", help="table (default) or json")
    words = top.add_subparsers(dest="word", required=True, metavar="COMMAND", parser_class=Parser)

    def word(
        parent: Any, name: str, what: str, command: Command | None = None, **waits: bool
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = parent.add_parser(name, help=what, description=what)
        made.set_defaults(command=command)
        # Also behind the word, where people write it; without a default, which would undo the one before it.
        made.add_argument("-o", "--output", choices=FORMS, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if waits.get("waits"):
            made.add_argument("--wait", action="store_true", help="until the operation has ended")
            made.add_argument("--timeout", type=float, default=WAIT_S, metavar="S", help=f"with --wait ({WAIT_S:g} s)")
        return made

    def group(name: str, what: str) -> Any:
        made = words.add_parser(name, help=what, description=what)
        return made.add_subparsers(dest="sub", required=True, metavar="COMMAND", parser_class=Parser)

    sign_in = word(words, "login", "sign in with an API token, read from the keyboard, a pipe or MIRRORPLANE_TOKEN")
    sign_in.add_argument("--url", required=True, help="https://HOST of the control plane")
    sign_in.add_argument("--ca", help="file with the authority of its certificate, if it is none of the system's")
    word(words, "whoami", "who is signed in, with which role", access.whoami)

    cluster = group("cluster", "clusters and what can be done with them")
    create = word(cluster, "create", "create a cluster from a JSON file", clusters.create, waits=True)
    create.add_argument("name")
    create.add_argument("--file", required=True, help="the cluster as JSON; - for standard input")
    create.add_argument("--update", action="store_true", help="change it if it exists")
    for name, what, command in (
        ("estimate", "what a cluster would cost a month, and need of quotas", proposals.estimate),
        ("validate", "every change in Azure that 'create' would make, without making it", proposals.validate),
    ):
        proposal = word(cluster, name, what, command)
        proposal.add_argument("name")
        proposal.add_argument("--file", required=True, help="the cluster as JSON; - for standard input")
    listing = word(cluster, "list", "the fleet, worst first", clusters.fleet)
    listing.add_argument("--search", help="a part of the name")
    listing.add_argument("--verdict", choices=VERDICTS)
    for name, what, command in (
        ("show", "who serves, is the data safe, why", clusters.show),
        ("history", "what happened, newest first", clusters.history),
    ):
        word(cluster, name, what, command).add_argument("name")
    for name, what in ACTIONS.items():
        action = word(cluster, name, what, clusters.act, waits=True)
        action.set_defaults(action=name)
        action.add_argument("name")
        action.add_argument("--reason", default="", help="kept in the journal")
        action.add_argument("--node", choices=("a", "b", "c", "d"), help="only this node")
    rotate = word(cluster, "rotate-ca", "replace its certificate authority, step by step", authority.rotate, waits=True)
    rotate.add_argument("name")
    rotate.add_argument("--reason", default="", help="kept in the journal")
    rotate.add_argument(
        "--overlap-hours", type=int, metavar="N", help="how long old certificates of people go on working (720)"
    )
    renew = word(cluster, "upgrade", "another agent on its nodes, one after another", clusters.upgrade, waits=True)
    renew.add_argument("name")
    renew.add_argument("--reason", default="", help="kept in the journal")
    renew.add_argument("--version", metavar="V", help="of the agent; without it the one new nodes get")
    word(cluster, "authority", "its certificate authorities, and how far a rotation is", authority.show).add_argument(
        "name"
    )
    remove = word(cluster, "delete", "delete a cluster with all its data", clusters.delete, waits=True)
    remove.add_argument("name")
    remove.add_argument("--confirm", metavar="NAME", help="the name once more")
    remove.add_argument("--reason", default="", help="kept in the journal")

    operation = group("operation", "what is under way")
    word(operation, "show", "status, steps, error", operations.show).add_argument("id")
    wait = word(operation, "wait", "until it has ended", operations.wait)
    wait.add_argument("id")
    wait.add_argument("--timeout", type=float, default=WAIT_S, metavar="S")

    alerts = group("alerts", "what somebody should know")
    alert_list = word(alerts, "list", "open alerts, worst first", watch.alerts)
    alert_list.add_argument("--cluster")
    alert_list.add_argument("--state", choices=("pending", "firing", "acknowledged", "resolved"))
    acknowledge = word(alerts, "ack", "take an alert: it is not repeated any more", watch.acknowledge)
    acknowledge.add_argument("id")
    acknowledge.add_argument("--note", default="")
    silence = word(alerts, "silence", "keep alerts from being told until a time", watch.silence)
    for option in ("--cluster", "--rule", "--subject"):
        silence.add_argument(option)
    silence.add_argument("--reason", required=True)
    silence.add_argument("--until", required=True, metavar="TIME", help="such as 2026-11-22T18:00:00Z")

    events = word(words, "events", "platform events; with --cluster the story of one", watch.events)
    events.add_argument("--cluster")
    events.add_argument("--follow", action="store_true", help="go on with what comes")
    journal = word(words, "journal", "what operators did, newest first", watch.journal)
    journal.add_argument("--cluster")
    journal.add_argument("--since", metavar="TIME")
    journal.add_argument("--limit", type=int, default=50)

    token = group("token", "API tokens")
    word(token, "list", "all tokens, without their secrets", access.token_list)
    new_token = word(token, "create", "make a token; it is shown once", access.token_create)
    new_token.add_argument("name")
    new_token.add_argument("--role", choices=ROLES, default="Monitor")
    new_token.add_argument("--expires", metavar="TIME")
    word(token, "delete", "remove a token; it ends at once", access.token_delete).add_argument("id")

    keys = group("keys", "keys of the control plane")
    word(keys, "rewrap", "wrap all keys with the present wrapping key", authority.rewrap)

    credentials = group("credentials", "access to the nodes of a cluster for people")
    word(credentials, "list", "who has access", access.credential_list).add_argument("cluster")
    new = word(credentials, "create", "offer access by a one-time link", access.credential_create)
    new.add_argument("cluster")
    new.add_argument("--who", required=True, help="the person; it is in the certificate")
    new.add_argument("--role", choices=ROLES, default="Monitor")
    new.add_argument("--days", type=int, default=90, help="how long the certificate is valid")
    revoke = word(credentials, "revoke", "take it back", access.credential_revoke)
    revoke.add_argument("cluster")
    revoke.add_argument("id")

    shell = word(words, "completion", "a script for the shell: source <(mirrorplane completion bash)")
    shell.add_argument("shell", choices=("bash", "zsh", "fish"))
    return top


def main(argv: Sequence[str]) -> int:
    top = parser()
    given = top.parse_args(argv)
    screen = Screen(given.output)
    try:
        if given.word == "login":
            access.login(screen, given)
        elif given.word == "completion":
            print(completion.script(top, given.shell))
        else:
            given.command(Session(ControlPlane(load(os.environ)), screen), given)
    except Failed as failure:
        screen.progress_ends()
        print(f"mirrorplane: {failure}", file=sys.stderr)
        return int(failure.code)
    except KeyboardInterrupt:
        screen.progress_ends()
        print("mirrorplane: interrupted; what was accepted goes on", file=sys.stderr)
        return 130
    return int(ExitCode.DONE)


def run() -> NoReturn:
    raise SystemExit(main(sys.argv[1:]))
