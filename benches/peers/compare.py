"""Compares asterism with other engines on this machine, in turns, and prints ratios.

    python3 compare.py --model DIR --lengths 4096,16384 --star "block=4096,anchor=1024"
    python3 compare.py --kernels

README.md beside this file explains the columns.
"""

import argparse
import json
import os
import platform
import re
import sys
from pathlib import Path

import tables
from peers import ENGINES, Peer, PeerError

WARM_UP = 512  # tokens of the request that is not counted
LINEARS = [(512, 512), (512, 1408), (2048, 2048), (4096, 4096)]
ATTENTIONS = [(tokens, dim) for dim in (64, 128) for tokens in (2048, 8192, 16384)]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="checkpoint folder")
    parser.add_argument("--kernels", action="store_true", help="compare linear and attention only")
    parser.add_argument("--lengths", type=numbers, default=[4096, 16384], help="tokens of input")
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded behind the input")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--engines",
        help=f"names with an optional precision, such as transformers:f32; of {', '.join(ENGINES)}",
    )
    parser.add_argument(
        "--star",
        type=stars,
        default=[],
        help='rows for Star Attention, such as "block=4096,anchor=4096;block=4096,anchor=1024"',
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:N (asterism, transformers)")
    parser.add_argument(
        "--star-lengths", type=numbers, help="lengths at which Star Attention runs; all if not given"
    )
    parser.add_argument(
        "--reference",
        action="store_true",
        help="Transformers runs the rows of --star too, as the paper's code does",
    )
    parser.add_argument("--pin", action="store_true", help="run on the first --threads cores only")
    parser.add_argument("--out", type=Path, help="JSON file for every single measurement")
    args = parser.parse_args()
    if not args.kernels and not args.model:
        parser.error("give a checkpoint folder with --model, or --kernels")
    if min(args.threads, args.rounds, *args.lengths) < 1 or args.decode < 0:
        parser.error("--threads, --rounds and --lengths are at least 1, --decode at least 0")
    default = "asterism,torch" if args.kernels else "asterism,transformers,llamacpp"
    args.engines = (args.engines or default).split(",")
    kernels = {"asterism", "torch"}
    if args.kernels and not kernels.issuperset(name.split(":")[0] for name in args.engines):
        parser.error("--kernels compares asterism and torch: other engines need --model")
    return args


def numbers(text):
    return [int(part) for part in text.split(",")]


def stars(text):
    plans = []
    for plan in text.split(";"):
        found = re.fullmatch(r"block=(\d+),anchor=(\d+)", plan.strip())
        if not found:
            raise argparse.ArgumentTypeError(f"{plan!r} is not such as block=4096,anchor=1024")
        plans.append({"block": int(found[1]), "anchor": int(found[2])})
    return plans


def model_requests(args, peers):
    """(peer, what it runs, input size, request), in the order of one round."""
    dense = {"method": "dense", "block": 4096, "anchor": 4096}
    for length in args.lengths:
        request = {"op": "generate", "length": length, "decode": args.decode}
        for peer in peers:
            ours = peer.engine == "asterism"
            name = f"{peer.name} dense" if ours else peer.name
            yield peer, name, length, {**request, **(dense if ours else {})}
            if not (ours or args.reference and peer.engine == "transformers"):
                continue
            for plan in args.star:
                # A block as long as the input is dense.
                if plan["block"] < length and length in (args.star_lengths or [length]):
                    name = f"{peer.name} star {plan['block']}/{plan['anchor']}"
                    yield peer, name, length, {**request, "method": "star", **plan}


def kernel_requests(peers):
    for dtype in ("bf16", "f32"):
        for inputs, outputs in LINEARS:
            shape = {"rows": 2048, "inputs": inputs, "outputs": outputs, "dtype": dtype}
            for peer in peers:
                size = f"linear {dtype} 2048x{inputs}x{outputs}"
                yield peer, peer.name, size, {"op": "linear", **shape}
    for tokens, head_dim in ATTENTIONS:
        shape = {"tokens": tokens, "heads": 8, "head_dim": head_dim}
        for peer in peers:
            size = f"attention bf16 {tokens}, 8x{head_dim}"
            yield peer, peer.name, size, {"op": "attention", **shape}


def measure(args, peers):
    """Every answer, taken in turns."""
    runs = []
    requests = list(kernel_requests(peers) if args.kernels else model_requests(args, peers))
    for round_ in range(args.rounds + (not args.kernels)):
        warm_up = round_ == 0 and not args.kernels  # the kernels' peers warm up themselves
        for peer, name, size, request in requests:
            if not args.kernels:
                # New input in every round, the same for all engines.
                request = {**request, "seed": round_}
                if warm_up:
                    if size != args.lengths[0]:
                        continue
                    request |= {"length": min(WARM_UP, size), "decode": min(2, args.decode)}
            progress(f"round {round_} of {args.rounds}: {name}, {size}")
            answer = peer.ask(request)
            if not warm_up:
                about = {"round": round_, "name": name, "engine": peer.engine, "size": size}
                runs.append({**about, **answer})
    progress("")
    return runs


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def machine():
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cpu = found[1] if found else platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


def main():
    args = arguments()
    if args.pin:
        cores = sorted(os.sched_getaffinity(0))[: args.threads]
        if len(cores) < args.threads:
            raise SystemExit(f"--pin: only {len(cores)} cores for {args.threads} threads")
        os.sched_setaffinity(0, cores)  # the peers inherit it
    peers = []
    try:
        for spec in args.engines:
            peers.append(Peer(spec, args.threads, None if args.kernels else args.model, args.device))
        runs = measure(args, peers)
    except PeerError as error:
        progress("")
        raise SystemExit(f"error: {error}")
    finally:
        for peer in peers:
            peer.stop()
    about = {**machine(), "threads": args.threads, "rounds": args.rounds, "pinned": args.pin}
    about["versions"] = {peer.name: peer.version for peer in peers}
    print(tables.header(about))
    print(tables.kernels(runs) if args.kernels else tables.model(runs))
    if args.out:
        args.out.write_text(json.dumps({"about": about, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
