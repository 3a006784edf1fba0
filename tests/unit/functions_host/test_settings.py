"""host.json, local.settings.json, durations, `%NAME%`, connections."""

from datetime import timedelta
from pathlib import Path

import pytest

from lab.functions_host.errors import StartRefused
from lab.functions_host.settings import (
    DEVELOPMENT_STORAGE,
    ConnectionString,
    IdentityConnection,
    connection,
    is_disabled,
    local_settings,
    parse_host_json,
    parse_timespan,
    read_app,
    resolve,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:30", timedelta(seconds=30)),
        ("1.02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("00:00:00.1", timedelta(milliseconds=100)),
        ("00:00:00.0000019", timedelta(microseconds=1)),
    ],
)
def test_timespans(text: str, expected: timedelta) -> None:
    assert parse_timespan(text, "here") == expected


@pytest.mark.parametrize("text", ["30", "24:00:00", "00:60:00", "-00:00:01", "", "5s"])
def test_timespans_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="here"):
        parse_timespan(text, "here")


def test_host_json_defaults_are_azures() -> None:
    host = parse_host_json('{"version": "2.0"}')
    assert (host.route_prefix, host.function_timeout_s, host.log_level) == ("api", None, "INFO")
    assert (host.queues.batch_size, host.queues.max_dequeue_count, host.queues.max_polling_interval_s) == (16, 5, 60.0)
    assert host.queues.base64
    assert host.queues.visibility_timeout_s == 0


def test_host_json_values_and_what_has_no_effect() -> None:
    host = parse_host_json(
        """{"version": "2.0", "functionTimeout": "00:10:00", "telemetryMode": "OpenTelemetry",
            "extensionBundle": {"id": "x", "version": "[4.*, 5.0.0)"},
            "extensions": {"http": {"routePrefix": "/v1/", "maxConcurrentRequests": 3},
                           "queues": {"maxPollingInterval": "00:00:02", "visibilityTimeout": "00:00:30", "batchSize": 4,
                                      "newBatchThreshold": 2, "maxDequeueCount": 3, "messageEncoding": "none"}},
            "logging": {"logLevel": {"default": "Warning", "Host.Results": "Information"}}}"""
    )
    assert (host.route_prefix, host.function_timeout_s, host.log_level) == ("v1", 600.0, "WARNING")
    q = host.queues
    assert (q.max_polling_interval_s, q.visibility_timeout_s, q.batch_size, q.new_batch_threshold) == (2.0, 30, 4, 2)
    assert (q.max_dequeue_count, q.base64) == (3, False)
    assert host.not_applied == (
        "extensionBundle",
        "extensions.http.maxConcurrentRequests",
        "logging.logLevel.Host.Results",
        "telemetryMode",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": "2.0", "functionTimeOut": "00:01:00"}', "did you mean 'functionTimeout'"),
        ('{"version": "2.0", "extensions": {"queues": {"batchsize": 1}}}', "did you mean 'batchSize'"),
        ('{"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}', "extensions.queues.batchSize"),
        ('{"version": "2.0", "extensions": {"queues": {"messageEncoding": "utf8"}}}', "messageEncoding"),
        ('{"version": "1.0"}', "2.0"),
        ("{}", "version"),
        ("[]", "object"),
        ("{", "not JSON"),
        ('{"version": "2.0", "logging": {"logLevel": {"default": "Warn"}}}', "did you mean 'warning'"),
    ],
)
def test_host_json_refused(text: str, message: str) -> None:
    with pytest.raises(StartRefused, match=message):
        parse_host_json(text)


def test_the_environment_wins_over_local_settings(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "local.settings.json").write_text('{"IsEncrypted": false, "Values": {"A": "file", "B": 2, "C": true}}')
    _, settings = read_app(tmp_path, {"A": "environment"})
    assert settings == {"A": "environment", "B": "2", "C": "true"}


def test_local_settings_refused() -> None:
    with pytest.raises(StartRefused, match="encrypted"):
        local_settings('{"IsEncrypted": true, "Values": {}}')
    with pytest.raises(StartRefused, match=r"Values\.A"):
        local_settings('{"Values": {"A": {}}}')


def test_a_directory_without_host_json_is_no_app(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"host\.json is missing"):
        read_app(tmp_path, {})


def test_percent_names() -> None:
    assert resolve("a-%Q%-%R%", {"Q": "1", "R": "2"}, "here") == "a-1-2"
    with pytest.raises(StartRefused, match=r"here: .*'NO'"):
        resolve("%NO%", {}, "here")


def test_disabled() -> None:
    assert is_disabled("f", {"AzureWebJobs.f.Disabled": "True"})
    assert is_disabled("f", {"AzureWebJobs__f__Disabled": "1"})
    assert not is_disabled("f", {"AzureWebJobs.f.Disabled": "false", "AzureWebJobs.g.Disabled": "true"})


def test_connections() -> None:
    assert connection("S", {"S": "UseDevelopmentStorage=true;"}, "f") == ConnectionString(DEVELOPMENT_STORAGE)
    assert connection("S", {"AzureWebJobsS": "x=y"}, "f") == ConnectionString("x=y")
    assert connection("S", {"S__queueServiceUri": "https://q/", "S__clientId": "c"}, "f") == IdentityConnection(
        "https://q", "c"
    )
    assert connection("S", {"S__accountName": "a"}, "f") == IdentityConnection("https://a.queue.core.windows.net", None)
    assert "secret" not in repr(ConnectionString("AccountKey=secret"))
    with pytest.raises(StartRefused, match="f: the storage connection 'S' is not configured"):
        connection("S", {}, "f")
