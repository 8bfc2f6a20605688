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

# PyPI's torch for Linux is built for CUDA and declares several GB of libraries that a CPU never
# calls. So: torch alone, the one small library that it calls while it loads, and empty libraries
# in place of the others. Their functions are missing, so Python must look up functions lazily.
pip --no-deps torch==2.15.0 nvidia-cuda-runtime==13.2.86
site="$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
empty() { # file name, version of its symbols, source
  echo "$2 { };" >"$site/torch/lib/$1.map"
  echo "${3:-}" | cc -shared -fPIC -nostdlib -x c - -o "$site/torch/lib/$1" \
    -Wl,-soname,"$1" -Wl,--version-script="$site/torch/lib/$1.map"
}
for library in libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libcufft.so.12 libcufile.so.0 \
  libcupti.so.13 libcusparse.so.12 libcusparseLt.so.0 libnccl.so.2 libnvrtc.so.13; do
  empty "$library" "$library"
done
empty libnvshmem_host.so.3 NVSHMEM "long nvshmem_selected_device_transport[64];"
echo 'import os, sys; sys.setdlopenflags(os.RTLD_LAZY)' >"$site/empty_cuda.pth"

.venv/bin/python - <<'PYTHON'
import gguf, llama_cpp, torch, transformers

torch.nn.functional.linear(torch.ones(8, 8), torch.ones(8, 8))
for package in (torch, transformers, llama_cpp):
    print(package.__name__, package.__version__)
PYTHON
