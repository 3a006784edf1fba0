"""The unit app, indexed once by Microsoft's library in this process (it takes one app a process, once)."""

import asyncio
import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.functions_host.bindings import Function, read_functions
from lab.functions_host.execution import Execution
from lab.functions_host.keys import Keys
from lab.functions_host.outputs import Outputs
from lab.functions_host.storage import Queues
from lab.functions_host.triggers import Triggers
from lab.functions_host.web import Web
from lab.functions_host.worker import Worker

APP = Path(__file__).parent / "app"
MODULE = "unit_app"


@dataclass(frozen=True)
class Loaded:
    worker: Worker
    functions: dict[str, Function]
    seen: list[str]


@pytest.fixture(scope="session")
def loaded() -> Iterator[Loaded]:
    """The environment and sys.path are the app's only while it is imported."""
    worker = Worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHON_SCRIPT_FILE_NAME", f"{MODULE}.py")
        patch.syspath_prepend(str(APP))
        index = asyncio.run(worker.load(APP))
        seen: list[str] = importlib.import_module(MODULE).SEEN
    functions = read_functions(index, {**os.environ, "AzureWebJobs.off.Disabled": "true"})
    yield Loaded(worker, {function.name: function for function in functions}, seen)
    sys.modules.pop(MODULE, None)


@pytest.fixture
def seen(loaded: Loaded) -> list[str]:
    """What the app's functions saw in this test."""
    loaded.seen.clear()
    return loaded.seen


@pytest.fixture
def pauses() -> list[float]:
    """The pauses between retries that were asked for, none of which is waited."""
    return []


@pytest.fixture
def execution(loaded: Loaded, pauses: list[float]) -> Execution:
    async def pause(duration_s: float) -> None:
        pauses.append(duration_s)

    outputs = Outputs(Queues({}), base64_text=True, on_sent=lambda connection, queue: None)
    return Execution(loaded.worker, outputs, pause)


@pytest.fixture
def keys() -> Keys:
    return Keys(
        master="master-key-of-the-tests",
        host="host-key-of-the-tests",
        eventgrid_extension="system-key-of-the-tests",
        functions={"with_key": "function-key-of-the-tests", "off": "off-key-of-the-tests"},
    )


@pytest.fixture
def web(loaded: Loaded, execution: Execution, keys: Keys) -> Web:
    return Web(loaded.functions.values(), execution, Triggers((), ()), keys, "api")
