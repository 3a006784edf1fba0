"""`python -m lab.functions_host`: hosts one function app on this machine until SIGTERM or SIGINT.

Prints one line on standard output when it answers: {"ready": true, "url": ..., "functions": [...], "keys": path}.
Logs are JSON lines on standard error. Exit status: 0 stopped, 1 a listener died or work had to be abandoned, 2
refused to start.
Stopping: no new request, message or timer; what runs may finish within `--grace-s`; unfinished messages are released.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from aiohttp import web as front

from lab.functions_host import logs
from lab.functions_host.bindings import Function, HttpTrigger, read_functions
from lab.functions_host.errors import StartRefused
from lab.functions_host.exchange import Request
from lab.functions_host.execution import Execution
from lab.functions_host.keys import load_keys
from lab.functions_host.outputs import Outputs
from lab.functions_host.queues import LEASE_S
from lab.functions_host.settings import HostJson, read_app
from lab.functions_host.storage import Queues
from lab.functions_host.timers import StatusFiles, SystemClock
from lab.functions_host.triggers import Triggers, listeners
from lab.functions_host.web import Web
from lab.functions_host.worker import Running, Worker, enter

log = logging.getLogger("lab.functions_host")

MAX_BODY_BYTES: Final = 210 * 1024 * 1024  # Azure's limit of a request
GRACE_S: Final = 10.0
ANSWER_S: Final = 2.0  # for answers of finished functions to reach their callers, at stop
STALL_S: Final = 1.0  # a loop that was not scheduled for so long was blocked by an async function
LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    app: Path
    host: str
    port: int
    tls_cert: Path | None
    tls_key: Path | None
    keys: Path
    state: Path
    run_triggers: bool
    queue_lease_s: int
    grace_s: float


def parse_options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m lab.functions_host", description="Hosts one Azure function app.")
    parser.add_argument("--app", type=Path, default=Path(), help="directory of function_app.py (default: here)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port, 0 for a free one")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain (PEM); with --tls-key")
    parser.add_argument("--tls-key", type=Path, help="private key (PEM)")
    parser.add_argument("--keys", type=Path, help="keys file (default: STATE/keys.json; generated when absent)")
    parser.add_argument("--state", type=Path, help="directory for timer status (default: APP/.lab/functions-host)")
    parser.add_argument("--no-triggers", action="store_true", help="serve HTTP only; no timers, no queues")
    parser.add_argument(
        "--queue-lease-s", type=int, default=LEASE_S, help=f"lease of queue messages (default: {LEASE_S}, as Azure)"
    )
    parser.add_argument("--grace-s", type=float, default=GRACE_S, help="time for running functions at stop")
    given = parser.parse_args(arguments)
    if (given.tls_cert is None) != (given.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    if not 1 <= given.queue_lease_s <= 7 * 24 * 3600:
        parser.error(f"--queue-lease-s {given.queue_lease_s} is not in 1-604800 (a visibility timeout)")
    app = given.app.resolve()
    state = (given.state or app / ".lab" / "functions-host").resolve()
    return Options(
        app=app,
        host=given.host,
        port=given.port,
        tls_cert=given.tls_cert and given.tls_cert.resolve(),
        tls_key=given.tls_key and given.tls_key.resolve(),
        keys=(given.keys or state / "keys.json").resolve(),
        state=state,
        run_triggers=not given.no_triggers,
        queue_lease_s=given.queue_lease_s,
        grace_s=given.grace_s,
    )


def bind(options: Options) -> tuple[socket.socket, str]:
    """A bound socket (not yet listening) and the URL; apps read their own address at import."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((options.host, options.port))
    except OSError as error:
        bound.close()
        raise StartRefused(f"cannot listen on {options.host}:{options.port}: {error.strerror}; use --port 0") from None
    authority = f"[{options.host}]" if family == socket.AF_INET6 else options.host
    scheme = "http" if options.tls_cert is None else "https"
    return bound, f"{scheme}://{authority}:{bound.getsockname()[1]}"


def tls_context(options: Options) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise StartRefused(f"--tls-cert {options.tls_cert}, --tls-key {options.tls_key}: {error}") from None
    return context


def remark(functions: Sequence[Function], web: Web, host: HostJson) -> None:
    """What works differently from what the app may expect, said once at start."""
    for name in host.not_applied:
        log.info("host.json: %s has no effect in this host", name)
    for function in functions:
        for text in function.remarks:
            log.warning("function %s: %s", function.name, text)
    for winner, hidden in web.routes.hidden_by():
        log.warning(
            "route %s of function %s is never reached: %s of %s comes first (functions are tried by name)",
            hidden.template,
            hidden.function,
            winner.template,
            winner.function,
        )


def server(web: Web) -> front.Application:
    async def answer(given: front.Request) -> front.StreamResponse:
        started_s = time.monotonic()
        request = Request(
            method=given.method,
            path=given.rel_url.raw_path,
            query=given.rel_url.raw_query_string,
            headers=tuple(given.headers.items()),
            body=await given.read(),
            origin=f"{given.scheme}://{given.host}",
        )
        response = await web.handle(request)
        # The path without its query, which may hold a key.
        fields = {"method": request.method, "path": request.path, "status": response.status}
        log.info("http", extra={"fields": {**fields, "ms": round((time.monotonic() - started_s) * 1000, 1)}})
        answer = front.Response(status=response.status, body=response.body)
        answer.headers.popall("Content-Type", None)
        for name, value in response.headers:
            answer.headers.add(name, value)
        return answer

    application = front.Application(client_max_size=MAX_BODY_BYTES)
    application.router.add_route("*", "/{path:.*}", answer)
    return application


async def watch_loop() -> None:
    """Says when an async function blocked the loop, which here stops HTTP, timers and queues alike."""
    while True:
        before_s = time.monotonic()
        await asyncio.sleep(LOOK_S)
        late_s = time.monotonic() - before_s - LOOK_S
        if late_s > STALL_S:
            log.warning("the event loop was blocked for %.1f s; an async function does blocking work", late_s)


async def serve(options: Options, out: TextIO) -> int:
    host, settings = read_app(options.app, os.environ)
    context = tls_context(options)
    listening, url = bind(options)
    with listening:
        enter(
            options.app,
            {
                "WEBSITE_HOSTNAME": url.split("://", 1)[1],
                "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
                "FUNCTIONS_WORKER_RUNTIME": "python",
            }
            | settings,
        )
        worker = Worker(host.function_timeout_s)
        redactor = logs.Redactor()
        logs.set_up(host.log_level, redactor, worker.function_of, sys.stderr)
        functions = read_functions(await worker.load(options.app), os.environ, host.only_functions)
        http_functions = [function.name for function in functions if isinstance(function.trigger, HttpTrigger)]
        keys = load_keys(options.keys, http_functions)
        redactor.hide(keys.secrets())
        queues = Queues(os.environ)
        try:
            triggers: Triggers | None = None

            def sent(connection: str, queue: str) -> None:
                if triggers is not None:
                    triggers.sent(connection, queue)

            execution = Execution(worker, Outputs(queues, host.queues.base64, sent))
            triggers = listeners(
                functions,
                execution=execution,
                queues=queues,
                queue_settings=host.queues,
                queue_lease_s=options.queue_lease_s,
                clock=SystemClock(),
                status=StatusFiles(options.state / "timers"),
                sent=sent,
            )
            web = Web(functions, execution, triggers, keys, host.route_prefix)
            remark(functions, web, host)
            runner = front.AppRunner(server(web), access_log=None, shutdown_timeout=ANSWER_S)
            await runner.setup()
            site = front.SockSite(runner, listening, ssl_context=context)
            await site.start()
            if options.run_triggers:
                triggers.start()
            ready = {"ready": True, "url": url, "functions": [f.name for f in functions], "keys": str(options.keys)}
            print(json.dumps(ready), file=out, flush=True)
            try:
                return await _until_stopped(triggers)
            finally:
                await site.stop()
                triggers.stop_taking()
                drained = await execution.drain(options.grace_s)
                abandoned = () if drained else worker.running()
                await triggers.end()
                await runner.cleanup()
                if abandoned:
                    _abandon(abandoned)
        finally:
            await queues.close()


async def _until_stopped(triggers: Triggers) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    failed = asyncio.create_task(triggers.failed())
    watch = asyncio.create_task(watch_loop())
    try:
        await asyncio.wait((stopped, failed, watch), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            log.info("stopping")
            return 0
        reason = failed.result() if failed.done() else watch.exception()
        log.critical("the host stops: a listener died", exc_info=reason)
        return 1
    finally:
        for task in (stopped, failed, watch):
            task.cancel()
        await asyncio.gather(stopped, failed, watch, return_exceptions=True)


def _abandon(runs: Sequence[Running]) -> None:
    """A sync function cannot be interrupted, and Python would wait for its thread for ever."""
    names = ", ".join(sorted(run.function for run in runs))
    log.error("stopped with functions still running: %s; their messages are released", names)
    logging.shutdown()
    os._exit(1)


def main() -> int:
    options = parse_options(sys.argv[1:])
    out = sys.stdout
    try:
        return asyncio.run(serve(options, out))
    except StartRefused as error:
        print(f"functions host: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
