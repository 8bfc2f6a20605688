"""The peers as processes: started, asked, measured from outside the same way for every engine."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parents[1] / "target")
ASTERISM = TARGET / "release/examples/bench_peer"
INSTALL = (
    "run benches/peers/setup.sh and start the driver with benches/peers/.venv/bin/python, "
    "or leave this engine out of --engines"
)

# Engine: (command, precisions with the default first, what to do when it does not start).
ENGINES = {
    "asterism": (
        [ASTERISM],
        ["bf16", "f32"],
        "build it: cargo build --release --example bench_peer",
    ),
    "transformers": (
        [sys.executable, HERE / "transformers_peer.py"],
        ["bf16", "f32"],
        f"install torch and transformers: {INSTALL}",
    ),
    "llamacpp": (
        [sys.executable, HERE / "llamacpp_peer.py"],
        ["f16", "bf16", "f32"],
        f"install llama-cpp-python and gguf: {INSTALL}",
    ),
    "torch": ([sys.executable, HERE / "gemm_peer.py"], [], f"install torch: {INSTALL}"),
}
ON_GPU = ["asterism", "transformers"]
TICKS = os.sysconf("SC_CLK_TCK")


class PeerError(Exception):
    pass


class Peer:
    """One resident engine. `spec` is its name, or name:precision."""

    def __init__(self, spec, threads, model, device="cpu"):
        self.engine, _, dtype = spec.partition(":")
        if self.engine not in ENGINES:
            raise PeerError(f"{spec} is not an engine: use {', '.join(ENGINES)}")
        command, dtypes, self.help = ENGINES[self.engine]
        dtype = dtype or (dtypes[0] if dtypes else "")
        if dtype and dtype not in dtypes:
            raise PeerError(f"{self.engine} has no {dtype}: use {', '.join(dtypes) or 'its name'}")
        # Without a model, every request names its own precision.
        self.name = f"{self.engine} {dtype}".strip() if model else self.engine
        command = [*map(str, command), "--threads", str(threads)]
        if model:
            command += ["--model", str(model), "--dtype", dtype]
        if device != "cpu":
            if self.engine not in ON_GPU:
                raise PeerError(f"{self.engine} is compared on the CPU only")
            command += ["--device", device]
        self.errors = tempfile.TemporaryFile("w+")
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RUST_BACKTRACE": "0"}
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise PeerError(f"{self.name} does not start: {error}\n{self.help}") from error
        self.version = self.read("does not start")["version"]

    def read(self, failure):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        tail = "".join(self.errors.readlines()[-8:])
        if "ModuleNotFoundError" in tail:
            tail += self.help
        raise PeerError(f"{self.name} {failure}:\n{tail.rstrip()}")

    def ask(self, request):
        """The peer's answer, its peak memory, and the cores that other processes used meanwhile."""
        pid = self.process.pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # restarts the count of peak memory
        before, own_before = busy_seconds()
        own_before += cpu_seconds(pid)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.read(f"ended on {request}")
        after, own_after = busy_seconds()
        own_after += cpu_seconds(pid)
        if "error" in answer:
            raise PeerError(f"{self.name} cannot do {request}: {answer['error']}")
        wall = after[1] - before[1]
        others = max(0.0, (after[0] - before[0] - (own_after - own_before)) / wall)
        # Of a GPU's memory if the engine says so: the process only feeds it.
        peak = answer.get("device_bytes") or peak_rss(pid)
        return {**answer, "peak_bytes": peak, "others_cores": others}

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


def busy_seconds():
    """((busy seconds of all cores since boot, now), seconds that this driver used)."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, soft = map(int, file.readline().split()[1:8])
    times = os.times()
    now = (user + nice + system + irq + soft) / TICKS, times.elapsed
    return now, times.user + times.system


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_rss(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
