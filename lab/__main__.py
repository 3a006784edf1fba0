"""`python -m lab`: Azure on one machine. See docs/lab.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import cli, lifetime
from lab.azurite.install import AzuriteMissing
from lab.control import CommandRefused, LabClient
from lab.fabric.commands import CommandFailed
from lab.functions_child import FunctionsHostFailed
from lab.imds import EVENT_TYPES
from lab.info import LabNotFound, find_lab
from lab.maintenance import DEFAULT_NOTICE_S
from lab.paths import state_root
from lab.wheelhouse import WheelhouseFailed
from lab.wheels import WheelFailed

NODE_HELP = "cluster/node such as demo/a, or the VM's name demo-a"
EXPECTED = (
    AzuriteMissing,
    CommandFailed,
    CommandRefused,
    FunctionsHostFailed,
    LabNotFound,
    WheelFailed,
    WheelhouseFailed,
    lifetime.CannotRun,
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m lab", description="Azure on one machine, for demonstration and tests."
    )
    top.add_argument("--state", type=Path, help="state directory (default: .lab of the checkout)")
    top.add_argument("--lab", metavar="ID", help="which lab, when several run")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start a lab; ends with Ctrl-C")
    up.add_argument("--detach", action="store_true", help="return when it is up; end it with `down`")
    up.add_argument("--no-functions", action="store_true", help="the cloud only, without the Functions host")
    up.add_argument("--while", type=int, dest="only_while", metavar="PID", help="end when that process has ended")
    up.add_argument("--progress-fd", type=int, help=argparse.SUPPRESS)
    commands.add_parser("down", help="end the lab of this state directory and clean up after dead ones")
    commands.add_parser("status", help="addresses, VMs, probes")
    for name, text in (
        ("kill", "cut the power: every process of the VM dies at once"),
        ("start", "switch it on"),
        ("freeze", "stop it where it is, unheard, as a pause of its host"),
        ("thaw", "let it go on"),
    ):
        commands.add_parser(name, help=text).add_argument("node", metavar="NODE", help=NODE_HELP)
    event = commands.add_parser("event", help="announce maintenance of a node's machine, as Azure would")
    event.add_argument("node", metavar="NODE", help=NODE_HELP)
    event.add_argument("type", metavar="TYPE", help=", ".join(EVENT_TYPES))
    event.add_argument("--notice", type=float, default=DEFAULT_NOTICE_S, metavar="S", help="it begins after this long")
    event.add_argument("--duration", type=float, metavar="S", help="of a Freeze, or as announced for another type")
    event.add_argument("--user", action="store_true", help="asked for by the machine's owner, not by the platform")
    inside = commands.add_parser("exec", help="run a command in a VM: exec NODE -- CMD…")
    inside.add_argument("node", metavar="NODE", help=NODE_HELP)
    inside.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD")
    logs = commands.add_parser("logs", help="show logs of a node, or of azurite, functions, daemon")
    logs.add_argument("name", nargs="?", metavar="NODE|SERVICE")
    logs.add_argument("which", nargs="?", metavar="NAME", help="one log of the node, whole")
    cut = commands.add_parser("partition", help="cut: demo/a, demo/link, demo/witness, demo/a:witness, demo/a:probe …")
    cut.add_argument("targets", nargs="+", metavar="TARGET")
    commands.add_parser("heal", help="undo all partitions")
    away = commands.add_parser("outage", help="Azure Monitor is away: metrics, logs; `outage over` ends it")
    away.add_argument("source", metavar="SOURCE|over")
    away.add_argument("--hang", type=float, default=0.0, metavar="S", help="before it answers 503")
    commands.add_parser("notices", help="what the control plane told its on-call webhook")
    host = commands.add_parser("restart-host", help="kill the Functions host; the lab starts it again")
    host.add_argument("--gently", action="store_true", help="SIGTERM instead of SIGKILL")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    state = (given.state or state_root()).resolve()
    try:
        return run(given, state)
    except EXPECTED as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except ConnectionError as error:
        print(f"lab: the lab's daemon does not answer: {error}", file=sys.stderr)
        return 1


def run(given: argparse.Namespace, state: Path) -> int:
    match given.command:
        case "up" if given.detach:
            words = ["--no-functions"] if given.no_functions else []
            words += ["--while", str(given.only_while)] if given.only_while is not None else []
            return lifetime.start_detached(["--state", str(state), "up", *words], state)
        case "up":
            return up(given, state)
        case "down":
            lifetime.take_down(state, given.lab, print)
            return 0
        case _:
            on_running_lab(given, state)
            return 0


def up(given: argparse.Namespace, state: Path) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    lifetime.check_machine()
    state.mkdir(parents=True, exist_ok=True)
    say, ready = _progress(given.progress_fd)
    functions, only_while = not given.no_functions, given.only_while
    work = lifetime.run_foreground(state, with_functions=functions, say=say, ready=ready, only_while=only_while)
    try:
        asyncio.run(work)
    except asyncio.CancelledError:
        say("stopped while starting; everything is taken away")
        return 130
    return 0


def _progress(descriptor: int | None) -> tuple[Callable[[str], None], Callable[[], None]]:
    """Where progress goes: this terminal, or the pipe of the process that started us, closed when we are up."""
    if descriptor is None:
        return (lambda line: print(line, flush=True)), (lambda: print("ready; Ctrl-C ends it", flush=True))
    stream = os.fdopen(descriptor, "w")

    def say(line: str) -> None:
        print(line, file=sys.stdout if stream.closed else stream, flush=True)

    def ready() -> None:
        say("ready")
        stream.close()

    return say, ready


def on_running_lab(given: argparse.Namespace, state: Path) -> None:
    info = find_lab(state, given.lab)
    client = LabClient(info.control_socket)
    match given.command:
        case "status":
            cli.show_status(info)
        case "kill" | "start" | "freeze" | "thaw":
            cli.power(info, given.command, given.node)
        case "exec":
            cli.run_inside(info, given.node, [word for i, word in enumerate(given.argv) if i or word != "--"])
        case "logs":
            cli.show_logs(info, given.name, given.which)
        case "partition":
            for target in given.targets:
                print("\n".join(client.call("partition", target=target)))
        case "heal":
            print("\n".join(client.call("heal")))
        case "event":
            cli.announce(info, given)
        case "outage" if given.source == "over":
            print(client.call("outage-over"))
        case "outage":
            print(client.call("outage", source=given.source, hang_s=given.hang))
        case "notices":
            cli.show_notices(info)
        case "restart-host":
            print(client.call("restart-host", kill=not given.gently))


if __name__ == "__main__":
    sys.exit(main())
