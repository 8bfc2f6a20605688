#!/usr/bin/env bash
# Builds the wheel as `cargo build` builds all else, installs it into fresh environments, and runs
# the tests there: alone, with the newest Transformers, and with the oldest. What takes long to
# install, PyTorch and Transformers, is kept below target. Needs Python 3.11 or newer and a C
# compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
kept=$PWD/target/python
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
mkdir -p "$kept"

# The newest, with PyTorch and the tools; the oldest finds PyTorch there.
if [ ! -e "$kept/newest/ready" ]; then
  python3 -m venv --clear "$kept/newest"
  benches/peers/cpu_torch.sh "$kept/newest"
  "$kept/newest/bin/pip" install -q transformers==5.24.0 maturin==1.16.0 mypy==2.4.1 pytest==9.2.0 \
    accelerate==1.15.0 gguf==0.19.0
  touch "$kept/newest/ready"
fi
if [ ! -e "$kept/oldest/ready" ]; then
  python3 -m venv --clear "$kept/oldest"
  "$kept/oldest/bin/pip" install -q transformers==4.57.6
  site() { "$kept/$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
  # Behind its own packages.
  echo "import site; site.addsitedir('$(site newest)')" >"$(site oldest)/newest.pth"
  touch "$kept/oldest/ready"
fi

# A checkpoint of somebody else's.
[ -e target/smollm2/config.json ] || "$kept/newest/bin/python" benches/smollm2.py target/smollm2

rm -rf "$kept/wheels"
"$kept/newest/bin/maturin" build -q --locked --profile dev -m python/Cargo.toml \
  -i "$kept/newest/bin/python" --out "$kept/wheels"

# As someone who has Python alone.
python3 -m venv --clear "$kept/fresh"
"$kept/fresh/bin/pip" install -q "$kept"/wheels/asterism-*.whl pytest==9.2.0
"$kept/fresh/bin/pytest" -q -p no:cacheprovider python/tests/test_*.py

# The stubs are what the module is.
"$kept/newest/bin/pip" install -q --force-reinstall --no-deps "$kept"/wheels/asterism-*.whl
(cd "$kept" && newest/bin/python -m mypy.stubtest asterism._asterism)

"$kept/newest/bin/pytest" -q -p no:cacheprovider \
  python/tests/test_engine_and_transformers.py python/tests/transformers
"$kept/oldest/bin/python" -m pytest -q -p no:cacheprovider \
  python/tests/test_engine_and_transformers.py python/tests/transformers
