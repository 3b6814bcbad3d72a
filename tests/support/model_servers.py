"""Model servers for tests, on loopback: one that does what a script says, down to the bytes and pauses, and a real MLServer."""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from absent import missing
from ports import free_ports

MLSERVER = "1.7.1"
START_S = 300.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
HANG, CLOSE, RESET = "hang", "close", "reset"  # until the server is stopped; end the connection; end it rudely
Step = bytes | float | str  # bytes to send, seconds to wait, or one of these words


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked. `number` counts the requests of its connection from 1."""

    target: str
    headers: Mapping[str, str]
    body: bytes
    number: int

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


Script = Callable[[Request], Sequence[Step] | Iterator[Step]]


def answer(document: Any, *, code: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole response; `document` as JSON, or as it is if it is bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [f"HTTP/1.1 {code} Some", f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class ScriptedServer:
    """A thread a connection; `script` says what is done about each request and may be changed while it runs."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.n_connections = self.n_sent = self.n_now = self.most_at_once = 0
        self._tls, self._stopped, self._lock = tls, threading.Event(), threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._stopped.is_set():
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.n_connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            wrapped = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with wrapped, wrapped.makefile("rb") as reader:
                number = 0
                while request := _read(reader, number := number + 1):
                    with self._lock:
                        self.requests.append(request)
                        self.n_now += 1
                        self.most_at_once = max(self.most_at_once, self.n_now)
                    try:
                        going_on = self._do(wrapped, request)
                    finally:
                        with self._lock:
                            self.n_now -= 1
                    if not going_on:
                        return

    def _do(self, connection: socket.socket, request: Request) -> bool:
        """Follows the script; whether the connection stays open."""
        for step in self.script(request):
            if isinstance(step, bytes):
                connection.sendall(step)
                self.n_sent += len(step)
            elif isinstance(step, float):
                self._stopped.wait(step)
            elif step == HANG:
                self._stopped.wait()
            else:
                if step == RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            if self._stopped.is_set():
                return False
        return True

    def stop(self) -> None:
        """Ends what hangs and listens no more."""
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _read(reader: Any, number: int) -> Request | None:
    """The next request of a connection; None at its end."""
    first = reader.readline().split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while (line := reader.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Request(target=first[1].decode(), headers=headers, body=reader.read(int(headers.get("content-length", 0))), number=number)


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Starts servers that are stopped when the test is over."""
    with ExitStack() as stack:

        def start(script: Script, *, tls: ssl.SSLContext | None = None) -> ScriptedServer:
            server = ScriptedServer(script, tls=tls)
            stack.callback(server.stop)
            return server

        yield start


# ---------------------------------------------------------------------------------------------------------------------- MLServer
RUNTIME = '''
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class Age(MLModel):
    """age = 2 * score + 1 if the person is verified; two bands of which the second is score / 100; the region, in capitals."""

    async def load(self):
        return True

    async def predict(self, payload):
        named = {each.name: each for each in payload.inputs}
        score = NumpyCodec.decode_input(named["score"])
        verified = NumpyCodec.decode_input(named["verified"])
        regions = StringCodec.decode_input(named["region"])
        outputs = [
            NumpyCodec.encode_output("age", 2.0 * score + verified),
            NumpyCodec.encode_output("bands", np.hstack([1 - score / 100, score / 100])),
            StringCodec.encode_output("region", [region.upper() for region in regions]),
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
'''
TRAIN = """
import joblib, numpy as np
from sklearn.linear_model import LinearRegression
x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 5.0]])
joblib.dump(LinearRegression().fit(x, x @ [2.0, 3.0] + 1.0), "linear.joblib")
"""


def _mlserver_python() -> Path:
    """The Python of an environment with MLServer, installed once. The folder gets its name when it is whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "shadow-harness")
    home = cache / f"mlserver-{MLSERVER}-py{sys.version_info.major}{sys.version_info.minor}"
    if not home.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch, "venv")
            for command in (
                [sys.executable, "-m", "venv", str(made)],
                [str(made / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", f"mlserver=={MLSERVER}",
                 f"mlserver-sklearn=={MLSERVER}"],
            ):  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    missing(f"NO MLSERVER: it could not be installed into {cache}:\n{done.stderr[-2000:]}")
            try:
                made.rename(home)
            except OSError:
                if not home.is_dir():  # else another run was faster
                    raise
    return home / "bin/python"


@pytest.fixture(scope="session")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLServer with two models: `age` (a custom runtime, version v3) and `linear` (scikit-learn)."""
    python = _mlserver_python()
    folder = tmp_path_factory.mktemp("mlserver")
    http, grpc, metrics = free_ports(3)
    (folder / "age_runtime.py").write_text(RUNTIME)
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics, "parallel_workers": 0}
    models = {
        "age": {"name": "age", "implementation": "age_runtime.Age", "parameters": {"version": "v3"}},
        "linear": {
            "name": "linear",
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(folder / "linear.joblib")},
        },
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    for name, model in models.items():
        (folder / name).mkdir()
        (folder / name / "model-settings.json").write_text(json.dumps(model))
    subprocess.run([str(python), "-c", TRAIN], cwd=folder, check=True)
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": ""}
    command = [str(python), "-c", "from mlserver.cli import main; main()", "start", "."]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process:
        try:
            _until_ready(process, [f"http://127.0.0.1:{http}/v2/models/{name}/ready" for name in models], folder / "log")
            yield f"127.0.0.1:{http}"
        finally:
            process.kill()


def _until_ready(process: subprocess.Popen[bytes], addresses: Sequence[str], log: Path) -> None:
    deadline = time.monotonic() + START_S
    for address in addresses:
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"MLServer is not ready:\n{log.read_text(errors='replace')[-4000:]}")
            with suppress(urllib.error.URLError, OSError), _direct.open(address, timeout=5):
                break
            time.sleep(0.1)
