"""Writes a small Llama checkpoint with random weights (32M parameters, always the same), for
timing: speed does not depend on what the weights say.

    python3 random_checkpoint.py DIR
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers

NANO = Path(__file__).resolve().parents[2] / "models/nano"
VOCAB = 8192


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    out = parser.parse_args().out
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        intermediate_size=1408,
        vocab_size=VOCAB,
        max_position_embeddings=131072,
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(out)

    # asterism needs a tokenizer, and only chooses tokens that it can spell: nano's, filled up.
    shutil.copy(NANO / "tokenizer_config.json", out)
    tokenizer = json.loads((NANO / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    # A special token that the vocabulary lacked would move behind the fillers.
    vocab.update({token["content"]: token["id"] for token in tokenizer["added_tokens"]})
    taken = set(vocab.values())
    vocab.update({f"<filler-{i}>": i for i in range(VOCAB) if i not in taken})
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))


if __name__ == "__main__":
    main()
