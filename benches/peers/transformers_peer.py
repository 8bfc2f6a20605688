"""Hugging Face Transformers as a peer: one forward pass over the whole input with SDPA, then greedy
decoding behind its cache.

    python3 transformers_peer.py --model DIR --threads 2 --dtype bf16
"""

import argparse
import time

from protocol import Answers, generated, token_ids


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="checkpoint folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    args = parser.parse_args()

    answers = Answers()
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[args.dtype]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=dtype, attn_implementation="sdpa"
    ).eval()

    @torch.inference_mode()
    def generate(length, decode, seed):
        ids = torch.tensor([token_ids(length, model.config.vocab_size, seed)])
        start = time.perf_counter()
        out = model(ids, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1:].argmax(-1)
        prefilled = time.perf_counter()
        tokens = [token.item()]
        for _ in range(decode):
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
            tokens.append(token.item())
        end = time.perf_counter()
        return generated(length, decode, prefilled - start, end - prefilled, tokens)

    version = f"{transformers.__version__}, torch {torch.__version__}"
    answers.serve({"version": version}, {"generate": generate})


if __name__ == "__main__":
    main()
