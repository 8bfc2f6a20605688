#!/usr/bin/env python3
"""llama.cpp's server, as a peer for soak.py: the one inside the wheel `xllamacpp`, with several
sequences at a time, each with a cache of keys of its own, and its prompt cache.

    python3 -m venv .venv && .venv/bin/pip install xllamacpp==2026.10.11549 gguf==0.19.0
    .venv/bin/python ../peers/gguf_convert.py ../../models/nano nano.gguf --vocabulary qwen2
    .venv/bin/python llamacpp_server.py nano.gguf --threads 2

Prints its address; ends when its input ends.
"""

import argparse
import sys

import xllamacpp

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--sequences", type=int, default=16)
parser.add_argument("--context", type=int, default=6144, help="tokens of a sequence")
args = parser.parse_args()

params = xllamacpp.CommonParams()
params.model.path = args.model
params.n_parallel = args.sequences
# One cache for all would have every sequence pass over the keys of all others.
params.kv_unified = False
params.n_ctx = args.sequences * args.context
params.n_batch = params.n_ubatch = 2048
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
params.n_gpu_layers = 0
params.port = 0
params.verbosity = 0
params.use_jinja = True
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
