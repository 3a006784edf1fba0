"""Output bindings: what a function returned or set is sent to the queues it names.

Guarantee: outputs are sent before the trigger is acknowledged (HTTP answered, message deleted); a failed send fails the
invocation, so the trigger repeats. Several messages are not a transaction: a repeat may send some of them twice.
Meaning of the values, copied from the storage extension: a text that is a JSON array becomes one message per element; a
JSON object (also a QueueMessage, which the library renders as {"id", "body"}) becomes its JSON text.
"""

import base64
import json
from collections.abc import Callable

from lab.functions_host import protos
from lab.functions_host.bindings import Function, QueueOutput
from lab.functions_host.storage import Queues
from lab.functions_host.worker import Succeeded

MAX_MESSAGE_BYTES = 65_536  # limit of Put Message, encoded
Sent = Callable[[str, str], None]  # (connection, queue): a message was put there


class OutputRefused(Exception):
    """A value that cannot be sent by its binding."""


class Outputs:
    """`on_sent` lets a listener of the same queue look at once instead of waiting out its back-off."""

    def __init__(self, queues: Queues, base64_text: bool, on_sent: Sent) -> None:
        self._queues = queues
        self._base64_text = base64_text
        self._on_sent = on_sent

    async def deliver(self, function: Function, result: Succeeded) -> None:
        """Raises OutputRefused, or the SDK's AzureError when storage does not take the message."""
        given = {binding.name: binding.data for binding in result.outputs}
        for output in function.outputs:
            data = result.return_value if output.parameter == "$return" else given.get(output.parameter)
            for message in messages(data, f"function {function.name!r}, output {output.parameter!r}"):
                await self._put(output, message, function.name)

    async def _put(self, output: QueueOutput, message: bytes, function: str) -> None:
        encode = self._base64_text
        if not encode and not _is_text(message):
            raise OutputRefused(f"function {function!r}: bytes for queue {output.queue!r} need messageEncoding base64")
        text = base64.b64encode(message).decode() if encode else message.decode()
        if len(text.encode()) > MAX_MESSAGE_BYTES:
            raise OutputRefused(
                f"function {function!r}: a message of {len(message)} bytes for queue {output.queue!r} exceeds "
                f"{MAX_MESSAGE_BYTES} bytes when encoded; put the data elsewhere and send its name"
            )
        await self._queues.queue(output.connection, output.queue, f"function {function!r}").put(text)
        self._on_sent(output.connection, output.queue)


def messages(data: protos.TypedData | None, place: str) -> list[bytes]:
    """The messages one output value stands for. Raises OutputRefused for kinds a queue cannot take."""
    kind = None if data is None else data.WhichOneof("data")
    if data is None or kind is None:
        return []
    match kind:
        case "bytes":
            return [data.bytes or b""]
        case "string" | "json":
            text = (data.string if kind == "string" else data.json) or ""
            return [element.encode() for element in _elements(text)]
        case _:
            raise OutputRefused(f"{place}: a value of kind {kind} cannot be a queue message; use str, bytes or a list")


def _elements(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [text]
    try:
        array = json.loads(text)
    except json.JSONDecodeError:
        return [text]
    return [element if isinstance(element, str) else json.dumps(element) for element in array]


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
