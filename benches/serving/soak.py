#!/usr/bin/env python3
"""Many clients at once against a server, each with facts of its own.

Starts `asterism serve` (or takes any server that speaks OpenAI's API) on the loopback interface and
lets a number of clients ask for a number of seconds: texts of mixed lengths with a code hidden in
each, streamed and not, some of which go away half-way. Every answer must have the code of its own
text: a lost answer, or one that was mixed up with another, ends the run with an error. At the end no
place may be taken and no memory but what the cache may keep.

    soak.py --asterism target/release/asterism --clients 64 --seconds 300
    soak.py --url http://127.0.0.1:8081/v1 --name llama.cpp --clients 16 --seconds 60

Needs nothing but Python.
"""

import argparse
import http.client
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse

PROSE = "The grass is green. The sky is blue. The sun is yellow. Here we go. "
# About as many tokens of the built-in model's tokenizer are in one repetition.
TOKENS = 19


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--asterism", help="the binary to start")
    parser.add_argument("--arg", action="append", default=[], help="a further argument for it")
    parser.add_argument("--url", help="a server that runs already, with /v1")
    parser.add_argument("--name", default="asterism")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--lengths", default="200,1000,4000", help="tokens of the texts")
    parser.add_argument("--leaving", type=float, default=0.1, help="share that goes away half-way")
    parser.add_argument("--repeat", type=float, default=0.5, help="share that asks of a text again")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def start(args):
    """The server's process and the address of its API."""
    command = [args.asterism, "serve", "--port", "0", "--log", "off", *args.arg]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "http://" in line:
            address = line.split("http://")[1].split("/")[0]
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, f"http://{address}/v1"
    sys.exit("the server did not start")


class Client(threading.Thread):
    """One client: asks until the time is over, and notes what came of it."""

    def __init__(self, args, url, index, until):
        super().__init__()
        self.args, self.until, self.random = args, until, random.Random(args.seed * 1000 + index)
        self.host = urllib.parse.urlparse(url)
        self.texts, self.done, self.wrong, self.failed, self.busy, self.left = [], [], [], [], 0, 0

    def text(self):
        """A text and its code; sometimes one that was asked about before."""
        if self.texts and self.random.random() < self.args.repeat:
            return self.random.choice(self.texts)
        tokens = int(self.random.choice(self.args.lengths.split(",")))
        code = self.random.randrange(10000, 99999)
        half = PROSE * max(1, tokens // TOKENS // 2)
        text = f"{self.random.randrange(10**6)}. {half}The access code for the Lisbon vault is {code}. {half}"
        self.texts = [*self.texts[-3:], (text, code, tokens)]
        return self.texts[-1]

    def run(self):
        while time.monotonic() < self.until:
            text, code, tokens = self.text()
            try:
                self.ask(text, code, tokens, self.random.random() < self.args.leaving)
            except OSError as error:
                self.failed.append(repr(error))

    def ask(self, text, code, tokens, leaves):
        body = {"model": self.args.model, "stream": True, "max_tokens": 24, "temperature": 0,
                "stream_options": {"include_usage": True},
                "messages": [{"role": "user", "content":
                              f"{text}\n\nWhat is the access code for the Lisbon vault?"}]}
        began, first, answer, count = time.monotonic(), None, "", 0
        connection = http.client.HTTPConnection(self.host.hostname, self.host.port, timeout=300)
        connection.request("POST", f"{self.host.path}/chat/completions", json.dumps(body),
                           {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status == 429:
            self.busy += 1
            connection.close()
            time.sleep(min(5, float(response.headers.get("retry-after", 1))))
            return
        if response.status != 200:
            self.failed.append(f"{response.status} {response.read(300)}")
            return
        over = False
        for line in response:
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                over = True
                break
            chunk = json.loads(line[6:])
            if "error" in chunk:
                self.failed.append(chunk["error"])
                break
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content")
                if piece:
                    first = first or time.monotonic()
                    answer, count = answer + piece, count + 1
            if leaves and count >= 2:
                self.left += 1
                connection.close()
                return
        connection.close()
        end = time.monotonic()
        if not over:
            self.failed.append("the stream ended early")
        elif str(code) not in answer:
            self.wrong.append((code, answer))
        self.done.append((tokens, (first or end) - began, end - began, count))


def main():
    args = parse()
    process, url = start(args) if args.asterism else (None, args.url)
    until = time.monotonic() + args.seconds
    clients = [Client(args, url, index, until) for index in range(args.clients)]
    began = time.monotonic()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.monotonic() - began
    done = [entry for client in clients for entry in client.done]
    wrong = [entry for client in clients for entry in client.wrong]
    failed = [entry for client in clients for entry in client.failed]
    # A wrong code of another text is a mixed-up answer; a wrong one of nobody's is the model's.
    codes = {str(code) for client in clients for _, code, _ in client.texts}
    mixed = [entry for entry in wrong if any(code in entry[1] for code in codes - {str(entry[0])})]
    print(f"{args.name}: {len(done)} answers in {seconds:.0f} s, {len(wrong)} wrong, {len(mixed)} mixed up, "
          f"{len(failed)} failed, {sum(c.left for c in clients)} left half-way, "
          f"{sum(c.busy for c in clients)} told to come back")
    print(f"  {len(done) / seconds:.2f} answers/s, {sum(d[0] for d in done) / seconds:.0f} prompt tokens/s, "
          f"{sum(d[3] for d in done) / seconds:.1f} tokens/s")
    for tokens in sorted({d[0] for d in done}):
        first = sorted(d[1] for d in done if d[0] == tokens)
        whole = sorted(d[2] for d in done if d[0] == tokens)
        print(f"  {tokens:6} tokens: first token {statistics.median(first):.2f} s "
              f"(95%: {first[int(0.95 * (len(first) - 1))]:.2f}), whole {statistics.median(whole):.2f} s, "
              f"{len(first)} answers")
    leaked = False
    if process:
        leaked = check_idle(url)
        process.terminate()
        leaked |= process.wait(60) != 0
    for entry in failed[:5] + mixed[:5]:
        print("  ", entry)
    sys.exit(1 if failed or mixed or leaked or not done else 0)


def check_idle(url):
    """Whether places or memory are still taken when nobody asks."""
    base = urllib.parse.urlparse(url)

    def status():
        connection = http.client.HTTPConnection(base.hostname, base.port, timeout=60)
        connection.request("GET", "/v1/status")
        return json.loads(connection.getresponse().read())

    for _ in range(100):
        now = status()
        if now["running"] == 0:
            break
        time.sleep(0.1)
    memory = now["memory"]
    print(f"  at the end {now['running']} requests run; {memory['reserved_bytes'] >> 20} MiB are kept, "
          f"of {memory['cache_bytes'] >> 20} that may be")
    return now["running"] > 0 or memory["reserved_bytes"] > memory["cache_bytes"]


main()
