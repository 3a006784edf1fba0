"""The function app of this repository, indexed by Microsoft's worker library in the lab's Functions host.

A function that appears, disappears, or changes its trigger must be changed here too: the set of entry points is part of
the product's surface, and each one needs its tests of refusal.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final

from lab.children import child_preparation

REPOSITORY: Final = Path(__file__).resolve().parents[2]
STOP_S: Final = 60.0

EXPECTED: Final[dict[str, str]] = {
    "alert_action": "http POST api/alerts/{idAndAction} (anonymous)",
    "alert_delivery": "timer 5,20,35,50 * * * * *",
    "alert_get": "http GET api/alerts/{id} (anonymous)",
    "alert_list": "http GET api/alerts (anonymous)",
    "authority_get": "http GET api/clusters/{name}/authority (anonymous)",
    "keys_rewrap": "http POST api/keys:rewrap (anonymous)",
    "key_care": "timer 0 37 * * * *",
    "node_certificate": "http POST api/nodes/certificate (anonymous)",
    "cluster_action": "http POST api/clusters/{nameAndAction} (anonymous)",
    "cluster_delete": "http DELETE api/clusters/{name} (anonymous)",
    "cluster_estimate": "http POST api/clusters:estimate (anonymous)",
    "cluster_get": "http GET api/clusters/{name} (anonymous)",
    "cluster_validate": "http POST api/clusters:validate (anonymous)",
    "cluster_history": "http GET api/clusters/{name}/history (anonymous)",
    "cluster_overview": "http GET api/clusters/{name}/overview (anonymous)",
    "cluster_strips": "http GET api/clusters/{name}/strips (anonymous)",
    "credential_create": "http POST api/clusters/{name}/credentials (anonymous)",
    "credential_list": "http GET api/clusters/{name}/credentials (anonymous)",
    "credential_delete": "http DELETE api/clusters/{name}/credentials/{id} (anonymous)",
    "credential_redeem": "http POST api/credential-downloads (anonymous)",
    "fleet_list": "http GET api/fleet (anonymous)",
    "journal_list": "http GET api/journal (anonymous)",
    "metrics": "http GET metrics (anonymous)",
    "me_get": "http GET api/me (anonymous)",
    "cluster_heartbeats": "http GET api/clusters/{name}/heartbeats (anonymous)",
    "cluster_list": "http GET api/clusters (anonymous)",
    "cluster_events": "http GET api/clusters/{name}/events (anonymous)",
    "cluster_probes": "http GET api/clusters/{name}/probes (anonymous)",
    "cluster_verdicts": "http GET api/clusters/{name}/verdicts (anonymous)",
    "cluster_put": "http PUT api/clusters/{name} (anonymous)",
    "console_file": "http GET console/{*path} (anonymous)",
    "console_page": "http GET / (anonymous)",
    "drift": "timer 47 */3 * * * *",
    "dead_letter_list": "http GET api/dead-letters (anonymous)",
    "event_list": "http GET api/events (anonymous)",
    "health": "http GET api/health (anonymous)",
    "health_audit": "timer */30 * * * * *",
    "node_agent_wheel": "http GET api/nodes/agent-wheel (anonymous)",
    "node_enrol": "http POST api/nodes/enrol (anonymous)",
    "node_heartbeat": "http POST api/nodes/heartbeat (anonymous)",
    "openapi_document": "http GET api/openapi.json (anonymous)",
    "operation_get": "http GET api/operations/{id} (anonymous)",
    "operation_repair": "timer 10,25,40,55 * * * * *",
    "platform_event": "eventGrid",
    "reconcile": "queue mirrorplane-reconcile",
    "reconcile_poison": "queue mirrorplane-reconcile-poison",
    "remediation": "timer 3,13,23,33,43,53 * * * * *",
    "remediation_get": "http GET api/clusters/{name}/remediation (anonymous)",
    "retention": "timer 0 17 * * * *",
    "silence_create": "http POST api/silences (anonymous)",
    "silence_delete": "http DELETE api/silences/{id} (anonymous)",
    "silence_get": "http GET api/silences/{id} (anonymous)",
    "silence_list": "http GET api/silences (anonymous)",
    "silence_put": "http PUT api/silences/{id} (anonymous)",
    "token_create": "http POST api/tokens (anonymous)",
    "token_delete": "http DELETE api/tokens/{id} (anonymous)",
    "token_list": "http GET api/tokens (anonymous)",
}

# Nothing listens on port 1; `--no-triggers` asks for nothing there.
SETTINGS: Final[dict[str, str]] = {
    "AzureWebJobsStorage": (
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=a2V5;"
        "QueueEndpoint=http://127.0.0.1:1/devstoreaccount1;TableEndpoint=http://127.0.0.1:1/devstoreaccount1;"
    ),
    "MIRRORPLANE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000000",
    "MIRRORPLANE_WRAPPING_KEY": base64.b64encode(bytes(32)).decode(),
}


def summary(function: dict[str, Any]) -> str:
    """One line on how a function is called."""
    (trigger,) = (b for b in function["config"]["bindings"] if b["type"].endswith("Trigger"))
    match trigger["type"]:
        case "httpTrigger":
            methods = ",".join(trigger.get("methods", ["any"]))
            return f"http {methods} {trigger.get('route', function['name'])} ({trigger['authLevel'].lower()})"
        case "timerTrigger":
            return f"timer {trigger['schedule']}"
        case "queueTrigger":
            return f"queue {trigger['queueName']}"
        case other:
            return str(other.removesuffix("Trigger"))


def test_the_apps_functions_are_exactly_these(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lab.functions_host", "--app", str(REPOSITORY), "--state", str(tmp_path)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'agent'}", **SETTINGS}
    log_file = tmp_path / "host.log"
    with log_file.open("wb") as log:
        host = subprocess.Popen(
            [*command, "--no-triggers"],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            preexec_fn=child_preparation(),
        )
    with host:
        try:
            assert host.stdout is not None
            line = host.stdout.readline()
            assert line, f"the app was refused:\n{log_file.read_text()}"
            ready = json.loads(line)
            master = json.loads(Path(ready["keys"]).read_text())["master"]
            request = urllib.request.Request(f"{ready['url']}/admin/functions", headers={"x-functions-key": master})
            with urllib.request.urlopen(request, timeout=STOP_S) as answer:
                found = {function["name"]: summary(function) for function in json.load(answer)}
            host.terminate()
            assert host.wait(STOP_S) == 0, log_file.read_text()
        finally:
            host.kill()
    assert found == EXPECTED
    warnings = [entry for entry in map(json.loads, log_file.read_text().splitlines()) if entry["level"] == "warning"]
    assert warnings == [], "hidden routes, ignored retry policies"
