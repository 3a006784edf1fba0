"""A host process seen from the network: HTTP, TLS, Event Grid, timers, refusals, stopping, what it logs."""

import ipaddress
import json
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .conftest import StartHost
from .process import REPOSITORY, Answer, wait_for


def test_http_timers_events_and_the_admin_listing(start_host: StartHost) -> None:
    host = start_host().ready()
    assert host.url.startswith("http://127.0.0.1:")
    assert host.functions == sorted(host.functions, key=str.lower)
    assert {"echo", "ship", "every_second", "on_event"} <= set(host.functions)

    binary = bytes(range(256)) * 500
    answer = host.call("PUT", "/api/echo/a/b", binary)
    assert (answer.status, answer.body) == (202, binary)
    assert host.call("GET", "/api/none").status == 404
    where = json.loads(host.call("GET", "/api/where?x=1").body)
    assert where == {"url": f"{host.url}/api/where?x=1", "hostname": host.url.removeprefix("http://")}

    system_key = host.keys["eventgrid_extension"]
    path = f"/runtime/webhooks/eventgrid?functionName=on_event&code={system_key}"
    event = {"id": "e1", "eventType": "T", "subject": "s", "data": {"n": 1}, "dataVersion": "1", "topic": "t"}
    event["eventTime"] = "2026-03-04T05:06:07Z"
    assert host.call("POST", path, json.dumps([event]).encode(), {"aeg-event-type": "Notification"}).status == 202
    assert [(fact["id"], fact["data"]) for fact in host.facts("event")] == [("e1", {"n": 1})]

    master = {"x-functions-key": host.keys["master"]}
    assert host.call("POST", "/admin/functions/yearly", b"{}", master).status == 202
    (yearly,) = host.wait_for_facts("yearly")
    assert yearly["past_due"] is False
    assert yearly["status"]["Next"].endswith("-01-01T00:00:00+00:00")

    host.wait_for_facts("second", 2)
    assert host.stop() == 0
    for line in host.log().splitlines():
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))


def test_a_chunked_body_without_length_arrives(start_host: StartHost) -> None:
    host = start_host("--no-triggers").ready()
    name, port = host.url.removeprefix("http://").split(":")
    with socket.create_connection((name, int(port))) as connection:
        head = f"POST /api/echo/x HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + b"5\r\nhello\r\n0\r\n\r\n")
        with connection.makefile("rb") as reader:
            answer = reader.read()
    assert answer.startswith(b"HTTP/1.1 202")
    assert answer.endswith(b"hello")


def test_nothing_secret_is_logged(start_host: StartHost) -> None:
    host = start_host("--no-triggers").ready()
    key = host.keys["functions"]["secret"]
    bearer = "eyJhbGciOi.token-of-a-caller.sig"
    by_query = host.call("GET", f"/api/secret?code={key}", headers={"Authorization": f"Bearer {bearer}"})
    by_header = host.call("GET", "/api/secret", headers={"x-functions-key": key, "Authorization": f"Bearer {bearer}"})
    wrong = host.call("GET", "/api/secret?code=a-wrong-key-which-is-also-nobodys-business")
    assert (by_query.status, by_header.status, wrong.status) == (500, 500, 401)
    assert host.stop() == 0
    log = host.log()
    for secret in (key, host.keys["master"], bearer, "a-wrong-key"):
        assert secret not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line["logger"] == "stdout" and line["function"] == "secret" for line in lines)
    requests = [(line["path"], line["status"]) for line in lines if line["message"] == "http"]
    assert requests == [("/api/secret", 500), ("/api/secret", 500), ("/api/secret", 401)]


def test_tls(start_host: StartHost, tmp_path: Path) -> None:
    certificate, key = _self_signed(tmp_path)
    host = start_host("--no-triggers", "--tls-cert", str(certificate), "--tls-key", str(key)).ready()
    assert host.url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(certificate))
    where = json.loads(host.call("GET", "/api/where", tls=trusting).body)
    assert where["url"] == f"{host.url}/api/where"
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        host.call("GET", "/api/where")


def test_a_request_under_way_is_answered_before_the_host_stops(start_host: StartHost) -> None:
    host = start_host("--no-triggers", "--grace-s", "60").ready()
    answers: list[Answer] = []
    caller = threading.Thread(target=lambda: answers.append(host.call("GET", "/api/held")))
    caller.start()
    host.wait_for_facts("held")
    host.process.terminate()
    wait_for(lambda: "stopping" in host.log(), "the stop")
    host.release()
    caller.join(60)
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"released")]
    assert host.process.wait(60) == 0


def test_a_timer_missed_while_the_host_was_down_runs_once_past_due(start_host: StartHost, tmp_path: Path) -> None:
    host = start_host().ready()
    host.kill()
    status_file = tmp_path / "state" / "timers" / "yearly.json"
    stored = json.loads(status_file.read_text())
    year = datetime.now(UTC).year
    missed = datetime(year, 1, 1, tzinfo=UTC)
    before = missed - timedelta(days=1)
    status_file.write_text(json.dumps({**stored, "Next": missed.isoformat(), "LastUpdated": before.isoformat()}))
    host = start_host().ready()
    (yearly,) = host.wait_for_facts("yearly")
    assert yearly["past_due"] is True
    wait_for(lambda: json.loads(status_file.read_text())["Next"].startswith(f"{year + 1}-01-01"), "the new status")


def test_storage_that_is_not_there_is_borne(start_host: StartHost) -> None:
    host = start_host().ready()
    wait_for(lambda: "none-orders cannot be read" in host.log(), "the warning")
    assert host.call("GET", "/api/where").status == 200
    assert host.call("POST", "/api/order", b"x").status == 500, "an output that is not stored fails the call"


@pytest.mark.parametrize(
    ("app", "arguments", "settings", "message"),
    [
        ("unsupported", [], {}, "function 'on_blob', binding 'blob': type 'blobTrigger' (in) is not supported"),
        ("broken", [], {}, "cannot be indexed: RuntimeError: broken at import"),
        ("everything", [], {"AzureWebJobsStorage": ""}, "storage connection 'AzureWebJobsStorage' is not configured"),
        ("everything", ["--host", "192.0.2.1"], {}, "cannot listen on 192.0.2.1:0"),
        ("none", [], {}, "host.json is missing"),
    ],
)
def test_refusals(
    start_host: StartHost, app: str, arguments: list[str], settings: dict[str, str], message: str
) -> None:
    assert message in start_host(*arguments, app=app, settings=settings).refusal()


def test_options_that_belong_together() -> None:
    command = [sys.executable, "-m", "lab.functions_host", "--tls-cert", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60)
    assert done.returncode == 2
    assert "--tls-cert and --tls-key go together" in done.stderr


def _self_signed(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "functions-host-test")])
    now = datetime.now(UTC)
    loopback = ipaddress.ip_address("127.0.0.1")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(loopback)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "cert.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.write_bytes(key.private_bytes(*encoding))
    return certificate_file, key_file
