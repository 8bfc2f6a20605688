#!/usr/bin/env bash
# Installs PyTorch for the CPU into a virtual environment: cpu_torch.sh ENVIRONMENT. Needs a C compiler.
#
# PyPI's torch for Linux is built for CUDA and declares several GB of libraries that a CPU never
# calls. So: torch alone, the one small library that it calls while it loads, and empty libraries
# in place of the others. Their functions are missing, so Python must look up functions lazily.
set -euo pipefail
python=$1/bin/python

"$python" -m pip install --quiet --disable-pip-version-check \
  filelock==4.2.12 fsspec==2026.9.0 jinja2==3.1.6 networkx==3.6.1 numpy==2.4.6 sympy==1.14.0 \
  typing-extensions
"$python" -m pip install --quiet --disable-pip-version-check --no-deps \
  torch==2.15.0 nvidia-cuda-runtime==13.2.86
site="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
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
"$python" -c 'import torch; torch.nn.functional.linear(torch.ones(8, 8), torch.ones(8, 8))'
