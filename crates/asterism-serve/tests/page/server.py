"""The server under test, and a text to ask it about."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

CODES = {"Lisbon": "48213", "Bergen": "70956", "Trieste": "31574"}
QUESTION = "What is the access code for the Lisbon vault?"

_DULL = [
    "The road went down to the river and along it for a while.",
    "A clerk closed the book and put the lamp out.",
    "Nobody came to the door that evening.",
    "The bread was cold, but there was enough of it.",
    "Two boats lay at the pier, and their sails were dry.",
    "It rained a little before noon and not again.",
]


def book(sentences=900):
    """About 13 tokens a sentence, a sentence a line, with the codes spread over the text."""
    lines = [f"{n}. {_DULL[n * 7 % 6]}" for n in range(sentences)]
    for at, (city, code) in enumerate(CODES.items()):
        lines[sentences * (2 * at + 1) // 6] = f"The access code for the {city} vault is {code}."
    return "\n".join(lines) + "\n"


class Server:
    """`asterism serve` on a free loopback port, with calls of its API."""

    def __init__(self, *arguments, key=None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = key
        command = [os.environ["ASTERISM"], "serve", "--port", str(self.port), "--log", "off",
                   *arguments]
        if key:
            command += ["--api-key", key]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._wait()

    def _wait(self):
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}")
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"{self.url}/health/ready", timeout=1):
                    return
            time.sleep(0.1)
        raise RuntimeError("the server was not ready within a minute")

    def call(self, method, path, body=None):
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)

    def context(self, name, documents=None, **settings):
        """Encodes a context and waits for it; small blocks, so that there are some."""
        documents = documents or {"book.txt": book()}
        context = self.call("POST", "/v1/contexts", {
            "name": name,
            "documents": [{"name": n, "text": t} for n, t in documents.items()],
            "block": 1024,
            "anchor": 256,
            "wait": True,
            **settings,
        })
        assert context["status"] == "ready", context
        return context

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
