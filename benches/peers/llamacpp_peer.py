"""llama.cpp as a peer, through llama-cpp-python: batches of 2048 tokens, flash attention, a cache
in f16, then greedy decoding.

    python3 llamacpp_peer.py --model DIR --threads 2 --dtype f16

The checkpoint is converted to GGUF once, into gguf/ beside this file.
"""

import argparse
import hashlib
import time
from pathlib import Path

from protocol import Answers, generated, token_ids

BATCH, MICRO_BATCH = 2048, 512


def gguf_file(model, dtype):
    """The converted checkpoint; converts it unless that was done after its last change."""
    folder = Path(model).resolve()
    tag = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    out = Path(__file__).parent / "gguf" / f"{folder.name}-{tag}-{dtype}.gguf"
    changed = max(path.stat().st_mtime for path in folder.iterdir())
    if not out.exists() or out.stat().st_mtime < changed:
        from gguf_convert import convert

        out.parent.mkdir(exist_ok=True)
        convert(folder, out, dtype)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="checkpoint folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", choices=["f16", "bf16", "f32"], default="f16")
    args = parser.parse_args()

    answers = Answers()
    import llama_cpp as lib
    import numpy as np

    path = gguf_file(args.model, args.dtype)
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {path}")
    vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def decode_batch(context, ids):
        """Appends `ids` to the context; returns the likeliest next token."""
        array = (lib.llama_token * len(ids))(*ids)
        status = lib.llama_decode(context, lib.llama_batch_get_one(array, len(ids)))
        if status:
            raise RuntimeError(f"llama_decode gives {status}")
        logits = lib.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, (vocab,)).argmax())

    def generate(length, decode, seed):
        ids = token_ids(length, vocab, seed)
        params = lib.llama_context_default_params()
        params.n_ctx = length + decode + 1
        params.n_batch, params.n_ubatch = BATCH, MICRO_BATCH
        params.n_threads = params.n_threads_batch = args.threads
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        context = lib.llama_init_from_model(model, params)
        if not context:
            raise RuntimeError(f"llama.cpp cannot make a context of {params.n_ctx} tokens")
        try:
            start = time.perf_counter()
            for i in range(0, length, BATCH):
                token = decode_batch(context, ids[i : i + BATCH])
            prefilled = time.perf_counter()
            tokens = [token]
            for _ in range(decode):
                token = decode_batch(context, [token])
                tokens.append(token)
            end = time.perf_counter()
        finally:
            lib.llama_free(context)
        return generated(length, decode, prefilled - start, end - prefilled, tokens)

    info = lib.llama_print_system_info().decode()
    version = f"llama-cpp-python {lib.__version__}"
    answers.serve({"version": version, "info": info}, {"generate": generate})


if __name__ == "__main__":
    main()
