"""What the peers written in Python share.

A peer is a process that loads its model once, says {"ready": true, ...}, then answers one JSON
request per line of standard input with one JSON line on standard output. So loading is never
timed, and the driver can take turns between engines.
"""

import json
import os
import statistics
import sys
import time
import traceback


def token_ids(length, vocab, seed):
    """Seeded random token ids; crates/asterism-cli/examples/bench_peer.rs makes the same ones."""
    ids, state = [], seed
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % vocab)
    return ids


def speed(flop, run):
    """{"gflops": ...} by the median of several repetitions, after one that warms up."""
    times, start = [], time.perf_counter()
    run()
    while len(times) < 3 or (time.perf_counter() - start < 0.5 and len(times) < 99):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return {"gflops": flop / statistics.median(times) / 1e9}


def generated(length, decode, prefill_s, decode_s, tokens):
    """The answer to a `generate` request."""
    return {
        "length": length,
        "prefill_s": prefill_s,
        "decode_tokens_per_s": decode / decode_s if decode else None,
        "tokens": tokens,
    }


class Answers:
    """Standard output for answers alone: what libraries print goes to standard error."""

    def __init__(self):
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def serve(self, hello, operations):
        """Says `hello`, then answers requests, each by the operation that its "op" names."""
        self.say({"ready": True, **hello})
        for line in sys.stdin:
            try:
                request = json.loads(line)
                answer = operations[request.pop("op")](**request)
            except Exception as error:  # one bad request must not end the peer
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            self.say(answer)

    def say(self, answer):
        print(json.dumps(answer), file=self.out, flush=True)
