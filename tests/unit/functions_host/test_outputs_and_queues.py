"""What becomes of queue contents on the way out and in; no storage involved."""

import base64

import pytest

from lab.functions_host.outputs import OutputRefused, messages
from lab.functions_host.protos import RpcHttp, TypedData
from lab.functions_host.queues import MIN_POLL_S, body_of, next_pause_s, trigger_data
from lab.functions_host.settings import QueueSettings


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, []),
        (TypedData(), []),
        (TypedData(string="text"), [b"text"]),
        (TypedData(string=""), [b""]),
        (TypedData(bytes=b"\xff"), [b"\xff"]),
        (TypedData(string='["a", {"b": 1}, 2]'), [b"a", b'{"b": 1}', b"2"]),
        (TypedData(json='["a", "b"]'), [b"a", b"b"]),
        (TypedData(json='{"id": null, "body": "x"}'), [b'{"id": null, "body": "x"}']),
        (TypedData(string="[not json"), [b"[not json"]),
        (TypedData(json="[]"), []),
    ],
)
def test_messages_of_an_output(data: TypedData | None, expected: list[bytes]) -> None:
    assert messages(data, "here") == expected


def test_an_output_of_another_kind_is_refused() -> None:
    with pytest.raises(OutputRefused, match="here: a value of kind http"):
        messages(TypedData(http=RpcHttp()), "here")


def test_bodies() -> None:
    text = base64.b64encode("grüße".encode()).decode()
    assert body_of(text, is_base64=True) == "grüße".encode()
    assert body_of(text[:4] + "\r\n" + text[4:], is_base64=True) == "grüße".encode()
    assert body_of("plain text!", is_base64=True) is None
    assert body_of("plain text!", is_base64=False) == b"plain text!"
    assert trigger_data(b"a") == TypedData(string="a")
    assert trigger_data(b"\xff") == TypedData(bytes=b"\xff")


def test_the_pause_doubles_up_to_the_limit_and_ends_with_work() -> None:
    settings = QueueSettings(max_polling_interval_s=2.0)
    pauses, pause_s = [], 0.0
    for _ in range(7):
        pause_s = next_pause_s(pause_s, 0, settings)
        pauses.append(pause_s)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert next_pause_s(pause_s, 1, settings) == MIN_POLL_S
