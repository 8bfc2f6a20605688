"""Write a trained model in Hugging Face layout: bfloat16 shards, configuration, tokenizer.

    python export.py run/checkpoint.pt --tokenizer tokenizer.json --out nano

The result loads with Transformers and with asterism.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from model import NORM_EPS

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] != 'system' %}"
    "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant.<|eot_id|>"
    "{% endif %}"
    "{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


SHARD_BYTES = 16_000_000  # at most, so that each is quickly loaded, copied and checked


def write_weights(weights: dict[str, Tensor], out: Path) -> None:
    """The shards, in the model's order, and the index that says which tensor is where."""
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for part in _parts(weights):
        size = sum(2 * tensor.numel() for tensor in part.values())
        if filled + size > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1] |= {"model." + name: t.bfloat16().cpu().contiguous() for name, t in part.items()}
        filled += size
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, out / file, metadata={"format": "pt"})
        where |= dict.fromkeys(shard, file)
    total = sum(2 * tensor.numel() for tensor in weights.values())
    write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def _parts(weights: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Embedding, layers and final norm: each stays in one shard."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        key = ".".join(name.split(".")[:2]) if name.startswith("layers.") else name
        parts.setdefault(key, {})[name] = tensor
    return list(parts.values())


def write_configs(config: dict, tokenizer: Tokenizer, out: Path) -> None:
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    ends = [tokenizer.token_to_id("<|end_of_text|>"), tokenizer.token_to_id("<|eot_id|>")]
    model = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config["hidden"],
        "intermediate_size": config["ffn"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "num_key_value_heads": config["kv_heads"],
        "head_dim": config["head_dim"],
        "vocab_size": config["vocab"],
        "max_position_embeddings": config["max_positions"],
        "rope_theta": config["rope_theta"],
        "rms_norm_eps": NORM_EPS,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": begin,
        "eos_token_id": ends,
    }
    generation = {
        "bos_token_id": begin,
        "eos_token_id": ends,
        "pad_token_id": tokenizer.token_to_id("<|pad|>"),
        "do_sample": False,
    }
    text = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|pad|>",
        "model_max_length": config["max_positions"],
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(out / "config.json", model)
    write_json(out / "generation_config.json", generation)
    write_json(out / "tokenizer_config.json", text)


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path, default=Path("tokenizer.json"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    checkpoint = torch.load(args.checkpoint, map_location="cpu")
    args.out.mkdir(parents=True, exist_ok=True)
    write_weights(checkpoint["model"], args.out)
    write_configs(checkpoint["config"], Tokenizer.from_file(str(args.tokenizer)), args.out)
    shutil.copyfile(args.tokenizer, args.out / "tokenizer.json")
    for path in sorted(args.out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path.name}")


if __name__ == "__main__":
    main()
