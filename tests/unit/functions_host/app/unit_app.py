"""Every trigger and the awkward functions, for driving the host without sockets. Run by name, not as function_app."""

import asyncio
import json
import sys

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

SEEN: list[str] = []


@app.route("echo/{id:int}/{rest?}", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    seen = {
        "method": req.method,
        "url": req.url,
        "values": dict(req.route_params),
        "query": dict(req.params),
        "headers": dict(req.headers),
        "body": req.get_body().decode(),
    }
    return func.HttpResponse(json.dumps(seen), mimetype="application/json", headers={"X-Extra": "1"}, status_code=201)


@app.route("key", auth_level=func.AuthLevel.FUNCTION)
async def with_key(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("in")


@app.route("master", auth_level=func.AuthLevel.ADMIN)
async def with_master(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("in")


@app.route("off", auth_level=func.AuthLevel.FUNCTION)
async def off(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("never")


@app.route("raise")
def raises(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("wanted")


@app.route("exit/{how}")
async def exits(req: func.HttpRequest) -> func.HttpResponse:
    if req.route_params["how"] == "exit":
        sys.exit(3)
    raise asyncio.CancelledError("wanted")


@app.route("exit-in-thread")
def exits_in_thread(req: func.HttpRequest) -> func.HttpResponse:
    sys.exit(4)


@app.route("text")
def text(req: func.HttpRequest) -> str:
    return '{"body": "not a response object"}'


@app.route("nothing")
def nothing(req: func.HttpRequest):  # type: ignore[no-untyped-def] # an annotation would be refused at indexing
    return None


@app.route("cookies")
def cookies(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse(b"\x00\xff", mimetype="application/octet-stream")
    answer.headers.add("Set-Cookie", "a=1; Path=/x; Max-Age=60; Secure; HttpOnly; SameSite=Lax")
    answer.headers.add("Set-Cookie", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT")
    return answer


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@app.retry(strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:07")
def every_five(timer: func.TimerRequest, context: func.Context) -> None:
    SEEN.append(f"past_due={timer.past_due} retry={context.retry_context.retry_count}")
    if "fail" in SEEN:
        raise RuntimeError("timer failed")


@app.queue_trigger(arg_name="msg", queue_name="work", connection="AzureWebJobsStorage")
async def on_message(msg: func.QueueMessage) -> None:
    body = msg.get_body().decode()
    SEEN.append(f"{body} {msg.dequeue_count}")
    if body.startswith("bad"):
        raise RuntimeError("a bad message")
    if body.startswith("endless"):
        await asyncio.Event().wait()


@app.event_grid_trigger(arg_name="event")
async def on_event(event: func.EventGridEvent) -> None:
    SEEN.append(f"{event.id} {event.event_type} {event.subject}")
    if event.subject == "bad":
        raise RuntimeError("bad subject")


@app.event_grid_trigger(arg_name="event")
async def on_cloud_event(event: func.CloudEvent) -> None:
    SEEN.append(f"{event.id} {event.type} {json.dumps(event.get_json())}")
