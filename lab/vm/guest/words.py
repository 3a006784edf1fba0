"""The translator between a control plane that speaks of Windows and the Linux agent that stands in for a Windows node.

It passes every request of the agent on, unchanged, and in the answers it replaces the words of the application:
a directory of drive M: becomes the same one below /data, a script of cmd.exe a line that gives it, byte for byte, to
the cmd.exe of Wine. Everything else (certificates, orders, commands, versions) goes through as it is, so that the
control plane sees a node that refuses nothing. A service of Windows has no like here: its checker fails, as it should.
Listens on the loopback of this VM only, with a certificate made for it alone.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/lab-windows-words.json")
PREFIX = Path("/var/lib/windows-stand-in/prefix")
CERTIFICATE = Path("/var/lib/windows-stand-in/words.pem")
DRIVES = {"M": "/data"}
TIMEOUT_S = 60.0
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "server", "date"})
_CMD = "/usr/bin/python3 -I /usr/lib/lab-guest cmd"


def wine_environment(more: dict[str, str] | None = None) -> dict[str, str]:
    own = {"WINEPREFIX": str(PREFIX), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe="}
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", **(more or {}), **own}


# --- words -----------------------------------------------------------------------------------------------------------
def translated(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer of the control plane in the words of Linux."""
    configuration = answer.get("configuration")
    if not isinstance(configuration, dict) or not isinstance(configuration.get("application"), dict):
        return answer
    application = dict(configuration["application"])
    for name in ("startPrim", "stopPrim", "prepare"):
        if application.get(name):
            application[name] = _script(application[name])
    application["replicatedPaths"] = [
        {**entry, "path": linux_path(entry["path"])} for entry in application.get("replicatedPaths", [])
    ]
    application["checkers"] = [_checker(entry) for entry in application.get("checkers", [])]
    return {**answer, "configuration": {**configuration, "application": application}}


def linux_path(path: str) -> str:
    drive, colon, rest = path.partition(":\\")
    if not colon:
        return path
    return "/".join((DRIVES.get(drive.upper(), f"/drives/{drive.lower()}"), *rest.split("\\")))


def windows_path(path: str) -> str:
    return "Z:" + path.replace("/", "\\")


def _script(text: str) -> str:
    return f"exec {_CMD} {base64.b64encode(text.encode()).decode()}\n"


def _checker(checker: dict[str, Any]) -> dict[str, Any]:
    found = dict(checker)
    if found.get("kind") == "disk" and found.get("path"):
        found["path"] = linux_path(found["path"])
    if found.get("command"):
        found["command"] = _script(found["command"]).strip()
    if found.get("unit"):
        found["unit"] = found["unit"].replace(" ", "_").replace("$", "_") + ".service"
    return found


def run_script(encoded: str) -> int:
    """A script of cmd.exe, run by Wine's; its exit code is ours."""
    text = base64.b64decode(encoded).decode().replace("\r\n", "\n").replace("\n", "\r\n")
    names = {"MODULE_DIR": windows_path(os.environ.get("MODULE_DIR", "/"))}
    given = {name: value for name, value in os.environ.items() if name not in ("PATH", "HOME", "LANG")}
    with tempfile.TemporaryDirectory(prefix="cmd-") as scratch:
        script = Path(scratch) / "script.cmd"
        script.write_bytes(text.encode())
        command = ["wine", "cmd", "/d", "/c", windows_path(str(script))]
        return subprocess.run(command, env=wine_environment({**given, **names}), check=False).returncode


# --- passing on ------------------------------------------------------------------------------------------------------
def make_certificate(bundle: Path) -> None:
    """For the loopback, trusted in this VM: in the bundle and in OpenSSL's directory of hashed names."""
    if CERTIFICATE.exists():
        return
    CERTIFICATE.parent.mkdir(parents=True, exist_ok=True)
    key, pem = CERTIFICATE.with_suffix(".key"), CERTIFICATE.with_suffix(".crt")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "30", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    # A leaf that vouches for nobody else, although it is in the bundle.
    argv += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"]
    subprocess.run([*argv, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True, timeout=60)
    argv = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(pem)]
    name = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    Path(f"/etc/ssl/certs/{name}.0").write_text(pem.read_text())
    bundle.write_text(f"{bundle.read_text()}\n{pem.read_text()}")
    key.chmod(0o600)
    CERTIFICATE.write_text(key.read_text() + pem.read_text())
    CERTIFICATE.chmod(0o600)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    opener: urllib.request.OpenerDirector
    target: str

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        # Not compressed, because it has to be read here.
        headers["Accept-Encoding"] = "identity"
        request = urllib.request.Request(self.target + self.path, body, headers, method=self.command)
        try:
            with self.opener.open(request, timeout=TIMEOUT_S) as answer:
                self._answer(answer.status, answer.headers.items(), answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.headers.items(), error.read())
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            self._answer(502, [("Content-Type", "text/plain")], f"the control plane: {error}".encode())

    def _answer(self, status: int, headers: Any, content: bytes) -> None:
        if any(name.lower() == "content-type" and "json" in value for name, value in headers):
            document = json.loads(content) if content else None
            if isinstance(document, dict):
                content = json.dumps(translated(document)).encode()
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: addresses carry no news, and headers carry credentials."""


def serve() -> int:
    settings = json.loads(SETTINGS.read_text())
    context = ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt")
    _Handler.opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())
    _Handler.target = settings["controlPlaneUrl"].rstrip("/")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", settings["port"]), _Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(f"words of Windows: 127.0.0.1:{settings['port']} → {_Handler.target}", file=sys.stderr, flush=True)
    server.serve_forever()
    return 0
