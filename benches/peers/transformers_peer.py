"""Hugging Face Transformers as a peer: one forward pass over the whole input with SDPA, then greedy
decoding behind its cache. With "method": "star" the input is encoded as the paper's code does it:
every block in a pass of its own behind the first tokens, which are computed again for each block, and
only the block's keys are kept; the last token then sees all of them.

    python3 transformers_peer.py --model DIR --threads 2 --dtype bf16 [--device cuda]
"""

import argparse
import time

from protocol import Answers, generated, token_ids


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="checkpoint folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--device", default="cpu", help="cpu, or a device as PyTorch names it")
    args = parser.parse_args()

    answers = Answers()
    import tokenizers
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[args.dtype]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=dtype, attn_implementation="sdpa", device_map=args.device
    ).eval()
    on_gpu = args.device != "cpu"
    # Rows of the vocabulary beyond those the tokenizer has only fill it up: no engine chooses one.
    spelled = tokenizers.Tokenizer.from_file(f"{args.model}/tokenizer.json").get_vocab_size()

    def now():
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def largest(out):
        return out.logits[:, -1:, :spelled].argmax(-1)

    def star(ids, block, anchor):
        """Phase 1 over all tokens but the last, phase 2 for that."""
        context = ids[:, :-1]
        positions = torch.arange(context.shape[1], device=ids.device)
        layers = model.config.num_hidden_layers
        kept = [[] for _ in range(layers)]  # per layer: keys and values of each block
        for start in range(0, context.shape[1], block):
            end = min(start + block, context.shape[1])
            before = min(anchor, start)
            here = torch.cat([positions[:before], positions[start:end]])
            out = model.model(
                context[:, here], position_ids=here[None], use_cache=True,
                past_key_values=transformers.DynamicCache(),
            )
            for layer in range(layers):
                found = out.past_key_values.layers[layer]
                kept[layer].append((found.keys[:, :, before:], found.values[:, :, before:]))
        cache = transformers.DynamicCache()
        for layer in range(layers):
            keys, values = (torch.cat(parts, dim=2) for parts in zip(*kept[layer]))
            cache.update(keys, values, layer)
            kept[layer] = None
        return model(ids[:, -1:], past_key_values=cache, use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def generate(length, decode, seed, method="dense", block=0, anchor=0):
        ids = torch.tensor([token_ids(length, model.config.vocab_size, seed)], device=args.device)
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        start = now()
        if method == "star":
            out = star(ids, block, anchor)
        else:
            out = model(ids, use_cache=True, logits_to_keep=1)
        token = largest(out)
        tokens = [token.item()]
        prefilled = now()
        for _ in range(decode):
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            token = largest(out)
            tokens.append(token.item())
        end = now()
        answer = generated(length, decode, prefilled - start, end - prefilled, tokens)
        if on_gpu:
            answer["device_bytes"] = torch.cuda.max_memory_allocated()
        return answer

    version = f"{transformers.__version__}, torch {torch.__version__}"
    answers.serve({"version": version}, {"generate": generate})


if __name__ == "__main__":
    main()
