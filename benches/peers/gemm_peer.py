"""PyTorch's own kernels as a peer: linear layers and causal attention.

    python3 gemm_peer.py --threads 2
"""

import argparse

from protocol import Answers, speed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()

    answers = Answers()
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(args.threads)
    dtypes = {"bf16": torch.bfloat16, "f32": torch.float32}

    @torch.inference_mode()
    def linear(rows, inputs, outputs, dtype):
        x = torch.randn(rows, inputs).to(dtypes[dtype])
        w = torch.randn(outputs, inputs).to(dtypes[dtype])
        return speed(2 * rows * inputs * outputs, lambda: F.linear(x, w))

    @torch.inference_mode()
    def attention(tokens, heads, head_dim, dtype="bf16"):
        q, k, v = torch.randn(3, 1, heads, tokens, head_dim).to(dtypes[dtype])
        # Two products; a query sees half of the keys on average.
        flop = 2 * 2 * tokens * (tokens + 1) // 2 * heads * head_dim
        return speed(flop, lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))

    answers.serve({"version": torch.__version__}, {"linear": linear, "attention": attention})


if __name__ == "__main__":
    main()
