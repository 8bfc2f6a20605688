#!/usr/bin/env bash
# Creates .venv beside this file with the peers: PyTorch and Transformers for the CPU, and
# llama.cpp, which is compiled here (10 minutes or more on two cores). Needs Linux on x86-64,
# Python 3.11 or newer with venv, a C and a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")"

python3 -m venv .venv
pip() { .venv/bin/python -m pip install --quiet "$@"; }

# For this machine's instruction set, as asterism is; without the parts for images and servers.
export CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"
CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" pip -r requirements.txt

./cpu_torch.sh .venv

.venv/bin/python - <<'PYTHON'
import gguf, llama_cpp, torch, transformers

torch.nn.functional.linear(torch.ones(8, 8), torch.ones(8, 8))
for package in (torch, transformers, llama_cpp):
    print(package.__name__, package.__version__)
PYTHON
