"""No secret in a log line; keys in a private file."""

import json
import logging
import sys
from pathlib import Path

import pytest

from lab.functions_host.bindings import AuthLevel
from lab.functions_host.errors import StartRefused
from lab.functions_host.keys import Keys, load_keys
from lab.functions_host.logs import HIDDEN, JsonFormatter, PrintedLines, Redactor

SECRET = "s3cr3t-value+/=="


@pytest.mark.parametrize(
    "text",
    [
        f"GET http://h/api/x?code={SECRET}&a=1",
        f"GET http://h/api/x?a=1&CODE={SECRET}",
        f"https://acct/q?sv=1&sig={SECRET}",
        f"AccountName=a;AccountKey={SECRET};x=y",
        f"Authorization: Bearer {SECRET}",
        f"{{'authorization': 'SharedKey acct:{SECRET}', 'a': 'b'}}",
        f'{{"x-functions-key": "{SECRET}"}}',
        f"('X-Functions-Key', '{SECRET}')",
        f"token was Bearer {SECRET}",
        "the key literal-key-1234 itself",
    ],
)
def test_forms_of_secrets(text: str) -> None:
    shown = Redactor(["literal-key-1234"])(text)
    assert SECRET not in shown
    assert "literal-key-1234" not in shown
    assert HIDDEN in shown


def test_the_rest_of_a_line_stays() -> None:
    text = "operation code=7 of cluster alpha; bearer of news; https://h/api/x?a=1"
    assert Redactor()(text) == text


def test_a_record_becomes_one_json_object_without_secrets() -> None:
    formatter = JsonFormatter(Redactor(), lambda invocation_id: None)
    try:
        raise ValueError(f"https://h?code={SECRET}")
    except ValueError:
        record = logging.LogRecord("l", logging.ERROR, __file__, 1, "to %s\nnow", ("you",), sys.exc_info())
    record.fields = {"path": f"/x?code={SECRET}", "ms": 1.5, "odd": Path("/p")}
    text = formatter.format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert SECRET not in text
    assert (line["level"], line["message"], line["ms"], line["odd"]) == ("error", "to you\nnow", 1.5, "/p")
    assert "ValueError" in line["exception"]


def test_printed_text_becomes_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    out = PrintedLines(logging.getLogger("printed"))
    print("one", "two", file=out)
    print("three", end="", file=out)
    assert caplog.messages == ["one two"]
    out.flush()
    out.write("x" * (PrintedLines.MAX_LINE + 1))
    assert caplog.messages[1:] == ["three", "x" * (PrintedLines.MAX_LINE + 1)]


def test_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    first = load_keys(path, ["f"])
    assert path.stat().st_mode & 0o777 == 0o600
    second = load_keys(path, ["f", "g"])
    assert (second.master, second.functions["f"]) == (first.master, first.functions["f"])
    assert len(set(second.secrets())) == 5
    assert load_keys(path, ["f", "g"]) == second
    assert not any(secret in repr(second) for secret in second.secrets())


def test_a_keys_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    load_keys(path, [])
    path.chmod(0o640)
    with pytest.raises(StartRefused, match="chmod 600"):
        load_keys(path, [])


@pytest.mark.parametrize("text", ["{", '{"mister": "x"}', '{"master": "short"}'])
def test_a_broken_keys_file_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(StartRefused, match="not a keys file") as refused:
        load_keys(path, [])
    assert "short" not in str(refused.value)


def test_permits() -> None:
    keys = Keys(functions={"f": "function-key-1234567", "g": "other-key-1234567890"})
    assert keys.permits(AuthLevel.ANONYMOUS, "f", None)
    assert keys.permits(AuthLevel.FUNCTION, "f", "function-key-1234567")
    assert not keys.permits(AuthLevel.FUNCTION, "f", "other-key-1234567890")
    assert not keys.permits(AuthLevel.FUNCTION, "unknown", "")
    assert not keys.permits(AuthLevel.ADMIN, "f", keys.host)
    assert keys.permits_event_grid(keys.eventgrid_extension)
    assert not keys.permits_event_grid(keys.host)
    assert not keys.permits(AuthLevel.FUNCTION, "f", "ключ")
