"""Processes that share the blocks of a context compute what one does."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

RANK = """
import json, sys, torch, torch.distributed as dist
from conftest import random_model
from test_cache import question_logits
from asterism.transformers import StarCache, star
family, context, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dist.init_process_group("nccl" if kind == "cuda" else "gloo")
device = torch.device(kind, dist.get_rank()) if kind == "cuda" else torch.device("cpu")
if kind == "cuda":
    torch.cuda.set_device(device)
model = random_model(family).to(device)
torch.manual_seed(7)
ids = torch.randint(0, 97, (1, 320)).to(device)
settings = {"max_new_tokens": 6, "do_sample": False}

def said_by(group):
    cache = StarCache(model.config, 64, 24, group=group).encode(model, ids[:, :context])
    logits = question_logits(model, cache, ids[:, : context + 20])
    mass = cache.mass()
    answer = cache.answer(model, ids[:, context : context + 20], **settings)
    revisited = cache.answer(model, ids[:, context : context + 20], revisit=40, **settings)
    chosen = cache.chosen.tolist()
    with star(model, block=64, anchor=24, context_length=context, group=group):
        within = model.generate(ids[:, : context + 20], **settings)[:, context + 20 :]
    tokens = [answer.tolist(), revisited.tolist(), chosen, within.tolist()]
    return [cache.own_tokens, [logits.tolist(), mass.tolist()], tokens]

said = [said_by(None), said_by(dist.group.WORLD)]
# NCCL waits for the others here: whoever still had to be read could not come.
dist.destroy_process_group()
print(json.dumps(said))
"""


def run(size, family, context, kind):
    """What each of `size` processes printed, on devices of `kind`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = os.path.dirname(__file__)
    paths = [here, os.environ.get("PYTHONPATH", "")]
    world = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, family, str(context), kind],
            env=os.environ | world | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(size)
    ]
    try:
        said = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * size
    return [json.loads(one.splitlines()[-1]) for one in said]


# The last has more ranks than blocks.
@pytest.mark.parametrize("size, family, context", [(2, "Llama", 300), (4, "Qwen3", 180)])
def test_ranks_together_are_one_alone(size, family, context):
    check(run(size, family, context, "cpu"), context)


# NCCL wants a GPU for each process.
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_ranks_on_gpus_are_one_alone(family):
    check(run(2, family, 300, "cuda"), 300)


def check(ranks, context):
    """Of each rank what it said alone and together with all."""
    alone = ranks[0][0]
    assert alone[0] == context
    assert sum(together[0] for _, together in ranks) == context
    assert max(together[0] for _, together in ranks) < context
    for _, (_, numbers, tokens) in ranks:
        # To the last bit what the other ranks have, and close to what one has.
        assert numbers == ranks[0][1][1]
        for got, expected in zip(numbers, alone[1]):
            got, expected = torch.tensor(got), torch.tensor(expected)
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
        assert tokens == alone[2]
