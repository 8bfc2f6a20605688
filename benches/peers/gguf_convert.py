"""Converts a Llama checkpoint folder to the GGUF file that llama.cpp reads.

The vocabulary is a dummy of the right size, since the peers are fed token ids, unless it is asked
for: a server reads text.

    python3 gguf_convert.py models/nano nano.gguf --dtype f16
    python3 gguf_convert.py models/nano nano.gguf --dtype f16 --vocabulary qwen2
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np

TYPES = {
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors(folder):
    """(name, f32 array) of every tensor; numpy has no bf16, so the bytes are read here."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise SystemExit(f"{folder} has no .safetensors file")
    for path in files:
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        for name, entry in json.loads(data[8:start].tobytes()).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            raw = data[start + begin : start + end].tobytes()
            if entry["dtype"] == "BF16":  # the upper half of an f32
                values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
            elif entry["dtype"] in ("F32", "F16"):
                values = np.frombuffer(raw, "<f" + str(int(entry["dtype"][1:]) // 8))
            else:
                raise SystemExit(f"{name} in {path} is {entry['dtype']}: need F32, F16 or BF16")
            yield name, values.astype(np.float32).reshape(entry["shape"])


def gguf_name(name):
    """`model.layers.3.mlp.up_proj.weight` is `blk.3.ffn_up.weight`."""
    stem, kind = name.rsplit(".", 1)
    prefix = ""
    if stem.startswith("model.layers."):
        layer, stem = stem.removeprefix("model.layers.").split(".", 1)
        prefix = f"blk.{layer}."
    if stem not in NAMES or kind != "weight":
        raise SystemExit(f"tensor {name} is not part of a plain Llama model")
    return f"{prefix}{NAMES[stem]}.weight"


def interleaved(weight, heads):
    """Rows of a q or k projection in the order of llama.cpp's rotation for Llama: it rotates
    neighbours (0, 1), (2, 3), ... where the checkpoint rotates (0, half), (1, half + 1), ..."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def add_dummy_vocabulary(writer, size):
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{i}>" for i in range(size)])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([gguf.TokenType.NORMAL] * size)


def add_vocabulary(writer, folder, size, splitting):
    """That of a byte-level BPE tokenizer, and the chat template. `splitting` is llama.cpp's name for
    the pattern by which the tokenizer splits text into words."""
    tokenizer = json.loads((Path(folder) / "tokenizer.json").read_text())
    texts = json.loads((Path(folder) / "tokenizer_config.json").read_text())
    if tokenizer["model"]["type"] != "BPE":
        raise SystemExit(f"{folder} has a {tokenizer['model']['type']} tokenizer: only BPE can be converted")
    ids = dict(tokenizer["model"]["vocab"])
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    ids.update(special)
    names = {number: text for text, number in ids.items()}
    controls = set(special.values())
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list([names.get(i, f"[PAD{i}]") for i in range(size)])
    writer.add_token_types([
        kinds.CONTROL if i in controls else kinds.NORMAL if i in names else kinds.UNUSED
        for i in range(size)
    ])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(special[texts["bos_token"]])
    writer.add_eos_token_id(special[texts["eos_token"]])
    writer.add_add_bos_token(False)
    writer.add_chat_template(texts["chat_template"])


def convert(folder, out, dtype, vocabulary=None):
    config = json.loads((Path(folder) / "config.json").read_text())
    if config["model_type"] != "llama":
        raise SystemExit(f"{folder} is a {config['model_type']} model: only llama can be converted")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise SystemExit(f"{folder} scales its rotation: only plain rope_theta can be converted")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or width // heads
    quantization, file_type = TYPES[dtype]

    partial = Path(f"{out}.part")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_file_type(file_type)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope.get("rope_theta") or config.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if vocabulary is None:
        add_dummy_vocabulary(writer, config["vocab_size"])
    else:
        add_vocabulary(writer, folder, config["vocab_size"], vocabulary)
    for name, values in tensors(folder):
        if name.endswith("q_proj.weight"):
            values = interleaved(values, heads)
        elif name.endswith("k_proj.weight"):
            values = interleaved(values, kv_heads)
        kind = quantization if values.ndim > 1 else TYPES["f32"][0]  # norms stay in f32
        writer.add_tensor(
            gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="checkpoint folder")
    parser.add_argument("out", help="the file to write")
    parser.add_argument("--dtype", choices=TYPES, default="f16")
    parser.add_argument("--vocabulary", metavar="NAME",
                        help="the tokenizer, too; llama.cpp's name for how it splits text")
    args = parser.parse_args()
    convert(args.model, args.out, args.dtype, args.vocabulary)
