"""A function for every trigger and output. What happened goes, one JSON line each, to the file FACTS.

Functions that must be held while a test looks at the host wait for the file RELEASE.
"""

import asyncio
import json
import logging
import os
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
FACTS, RELEASE = Path(os.environ["FACTS"]), Path(os.environ["RELEASE"])


def fact(kind: str, **values: object) -> None:
    with FACTS.open("a") as file:  # one write below PIPE_BUF with O_APPEND: lines do not mix
        file.write(json.dumps({"kind": kind, **values}) + "\n")


@app.route("echo/{*rest}")
def echo(req: func.HttpRequest) -> func.HttpResponse:
    print("printed by echo")
    return func.HttpResponse(req.get_body(), status_code=202, mimetype="application/octet-stream")


@app.route("where")
async def where(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(json.dumps({"url": req.url, "hostname": os.environ["WEBSITE_HOSTNAME"]}))


@app.route("secret", auth_level=func.AuthLevel.FUNCTION)
def secret(req: func.HttpRequest) -> func.HttpResponse:
    logging.warning("headers %s", dict(req.headers))
    logging.warning("url %s", req.url)
    print("printed", req.headers.get("authorization"))
    raise RuntimeError(f"failed at {req.url}")


@app.route("held")
async def held(req: func.HttpRequest) -> func.HttpResponse:
    fact("held")
    while not RELEASE.exists():  # noqa: ASYNC110, ASYNC240 - the signal comes from another process, by a file
        await asyncio.sleep(0.01)
    return func.HttpResponse("released")


@app.route("order", methods=["POST"])
@app.queue_output(arg_name="out", queue_name="%PREFIX%-orders", connection="AzureWebJobsStorage")
def order(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    out.set(req.get_body().decode())
    return func.HttpResponse(status_code=202)


@app.queue_trigger(arg_name="msg", queue_name="%PREFIX%-orders", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="$return", queue_name="%PREFIX%-shipped", connection="AzureWebJobsStorage")
def ship(msg: func.QueueMessage) -> str:
    body = msg.get_body().decode()
    fact("order", body=body, dequeue_count=msg.dequeue_count, id=msg.id, inserted=str(msg.insertion_time))
    if body == "bad":
        raise RuntimeError("a bad order")
    return f"shipped {body}"


@app.queue_trigger(arg_name="msg", queue_name="%PREFIX%-slow", connection="AzureWebJobsStorage")
def slow(msg: func.QueueMessage) -> None:
    fact("slow", body=msg.get_body().decode(), dequeue_count=msg.dequeue_count)
    while not RELEASE.exists():
        time.sleep(0.01)
    fact("slow done", body=msg.get_body().decode())


@app.timer_trigger(arg_name="timer", schedule="* * * * * *")
def every_second(timer: func.TimerRequest) -> None:
    fact("second", past_due=timer.past_due)


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
def yearly(timer: func.TimerRequest) -> None:
    fact("yearly", past_due=timer.past_due, status=timer.schedule_status)  # type: ignore[attr-defined]


@app.event_grid_trigger(arg_name="event")
def on_event(event: func.EventGridEvent) -> None:
    fact("event", id=event.id, data=event.get_json())
