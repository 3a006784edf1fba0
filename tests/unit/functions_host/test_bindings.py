"""From the library's index to functions; what cannot be served is refused by name."""

import json
from datetime import timedelta
from typing import Any

import pytest

from lab.functions_host.bindings import (
    AuthLevel,
    Function,
    HttpTrigger,
    QueueOutput,
    QueueTrigger,
    RetryPolicy,
    read_functions,
)
from lab.functions_host.errors import StartRefused
from lab.functions_host.protos import RpcFunctionMetadata, RpcRetryOptions

QUEUE = {
    "direction": "IN",
    "type": "queueTrigger",
    "name": "msg",
    "queueName": "%Q%",
    "connection": "AzureWebJobsStorage",
}
HTTP_OUT = {"direction": "OUT", "type": "http", "name": "$return"}


def entry(*bindings: dict[str, Any], name: str = "f", retry: RpcRetryOptions | None = None) -> RpcFunctionMetadata:
    return RpcFunctionMetadata(
        name=name, function_id=f"id-{name}", raw_bindings=[json.dumps(b) for b in bindings], retry_options=retry
    )


def one(*bindings: dict[str, Any], retry: RpcRetryOptions | None = None) -> Function:
    (function,) = read_functions([entry(*bindings, retry=retry)], {"Q": "Work"})
    return function


def test_http_defaults() -> None:
    trigger = one({"direction": "IN", "type": "httpTrigger", "name": "req"}, HTTP_OUT).trigger
    assert trigger == HttpTrigger("req", "f", None, AuthLevel.FUNCTION)


def test_queue_names_are_resolved() -> None:
    function = one(QUEUE, {"direction": "OUT", "type": "queue", "name": "out", "queueName": "next"})
    assert function.trigger == QueueTrigger("msg", "work", "AzureWebJobsStorage")
    assert function.outputs == (QueueOutput("out", "next", "AzureWebJobsStorage"),)


@pytest.mark.parametrize("use_monitor", [True, None])
def test_the_monitor_is_off_under_a_minute(use_monitor: bool | None) -> None:
    timer = {"direction": "IN", "type": "timerTrigger", "name": "t", "useMonitor": use_monitor}
    assert getattr(one({**timer, "schedule": "*/30 * * * * *"}).trigger, "use_monitor") is False  # noqa: B009
    assert getattr(one({**timer, "schedule": "0 * * * * *"}).trigger, "use_monitor") is True  # noqa: B009


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        ([{"direction": "IN", "type": "blobTrigger", "name": "b"}], "function 'f', binding 'b': type 'blobTrigger'"),
        ([QUEUE, {"direction": "IN", "type": "table", "name": "t"}], "type 'table' .in. is not supported"),
        ([QUEUE, {"direction": "OUT", "type": "eventGrid", "name": "e"}], "type 'eventGrid' .out."),
        ([QUEUE, QUEUE], "two triggers"),
        ([], "no trigger"),
        ([{"direction": "IN", "type": "httpTrigger", "name": "req"}], "http' output"),
        ([{**QUEUE, "queueName": "%NO%"}], "'NO'"),
        ([{"direction": "IN", "type": "httpTrigger", "name": "r", "authLevel": "FUNKTION"}, HTTP_OUT], "'function'"),
        ([{"direction": "IN", "type": "timerTrigger", "name": "t", "schedule": "x"}], "function 'f', binding 't'"),
    ],
)
def test_refused(bindings: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(StartRefused, match=message):
        one(*bindings)


def test_retry_policies_are_for_timers() -> None:
    timer = {"direction": "IN", "type": "timerTrigger", "name": "t", "schedule": "0 * * * * *"}
    fixed = RpcRetryOptions(3, "fixed_delay", delay_interval=timedelta(seconds=2))
    assert one(timer, retry=fixed).retry == RetryPolicy(3, 2.0, 2.0)
    ignored = one(QUEUE, retry=fixed)
    assert ignored.retry is None
    assert "ignored" in ignored.remarks[0]


def test_exponential_back_off_is_bounded() -> None:
    policy = RetryPolicy(None, 2.0, 30.0)
    assert [policy.delay_s(retry) for retry in (1, 2, 3, 4, 5, 10_000)] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_host_json_may_choose_functions() -> None:
    index = [entry(QUEUE, name="b"), entry(QUEUE, name="A"), entry(QUEUE, name="c")]
    settings = {"Q": "q"}
    assert [f.name for f in read_functions(index, settings)] == ["A", "b", "c"]
    assert [f.name for f in read_functions(index, settings, frozenset({"b"}))] == ["b"]
    with pytest.raises(StartRefused, match="'bb' is not in the app"):
        read_functions(index, settings, frozenset({"bb"}))
