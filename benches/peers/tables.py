"""Tables of medians and of ratios between engines."""

from statistics import median

BUSY = 0.1  # cores used by other processes that make a figure doubtful


def header(about):
    lines = [f"{about['cpu']}, {about['cores']} cores"]
    lines[0] += f"; threads: {about['threads']}, rounds: {about['rounds']}"
    lines += [f"  {name}: {version}" for name, version in about["versions"].items()]
    return "\n".join(lines) + "\n"


def model(runs):
    """Prefill and decode of every engine, then the ratios to asterism."""
    rows = [["tokens", "engine", "prefill s", "tokens/s", "decode tokens/s", "peak MiB", "others"]]
    for size, name, group in groups(runs):
        rows.append(
            [
                size,
                name,
                spread([run["prefill_s"] for run in group], 2),
                f"{median(size / run['prefill_s'] for run in group):.0f}",
                spread([run["decode_tokens_per_s"] for run in group], 1),
                f"{max(run['peak_bytes'] for run in group) / 2**20:.0f}",
                busy(group),
            ]
        )
    parts = [table(rows)]
    ratios = [["tokens", "asterism", "peer", "prefill", "decode", "same greedy tokens"]]
    for size, name, peer, pairs in pairings(runs):
        ratios.append(
            [
                size,
                name.removeprefix("asterism "),
                peer,
                spread([b["prefill_s"] / a["prefill_s"] for a, b in pairs], 2),
                spread([ratio(a, b, "decode_tokens_per_s") for a, b in pairs], 2),
                agreement(pairs) if name.endswith("dense") else "",
            ]
        )
    if len(ratios) > 1:
        parts += ["asterism / peer, tokens per second (above 1: asterism is faster)", table(ratios)]
    return "\n\n".join(parts + warnings(runs))


def kernels(runs):
    """One line per shape: the speed of every engine, then the ratios to asterism."""
    names = list(dict.fromkeys(run["name"] for run in runs))
    peers = list(dict.fromkeys(peer for _, _, peer, _ in pairings(runs)))
    rows = [["GFLOP/s", *names, *(f"asterism / {peer}" for peer in peers), "others"]]
    ratios = {(size, peer): pairs for size, _, peer, pairs in pairings(runs)}
    for size in dict.fromkeys(run["size"] for run in runs):
        here = [run for run in runs if run["size"] == size]
        row = [size]
        for name in names:
            row.append(spread([run["gflops"] for run in here if run["name"] == name], 0))
        for peer in peers:
            row.append(spread([ratio(a, b, "gflops") for a, b in ratios[size, peer]], 2))
        rows.append([*row, busy(here)])
    return "\n\n".join([table(rows), *warnings(runs)])


def groups(runs):
    """(size, name, runs) in the order in which they were first measured."""
    for size, name in dict.fromkeys((run["size"], run["name"]) for run in runs):
        yield size, name, [run for run in runs if (run["size"], run["name"]) == (size, name)]


def pairings(runs):
    """(size, asterism's name, peer's name, pairs of runs of one round)."""
    for size, name, ours in groups(runs):
        for peer_size, peer, theirs in groups(runs):
            if ours[0]["engine"] == "asterism" != theirs[0]["engine"] and size == peer_size:
                yield size, name, peer, list(zip(ours, theirs))


def ratio(a, b, key):
    return a[key] / b[key] if a[key] and b[key] else None


def agreement(pairs):
    """How many greedy tokens agree before the first difference, of how many."""
    same = total = 0
    for a, b in pairs:
        equal = [x == y for x, y in zip(a["tokens"], b["tokens"])]
        same += (equal + [False]).index(False)
        total += len(equal)
    return f"{same} of {total}"


def spread(values, digits):
    """Median (least-most)."""
    if None in values:
        return "-"
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, median, max))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"


def busy(runs):
    cores = median(run["others_cores"] for run in runs)
    return f"{cores:.2f}" + ("!" if cores > BUSY else "")


def warnings(runs):
    doubtful = sum(run["others_cores"] > BUSY for run in runs)
    if not doubtful:
        return []
    return [
        f"! other processes used more than {BUSY} cores during {doubtful} of {len(runs)} runs: "
        "repeat on an idle machine before you quote these figures"
    ]


def table(rows):
    """Columns of equal width: text to the left, numbers to the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    columns = []
    for column in zip(*rows):
        width = max(map(len, column))
        numeric = all(cell[:1].isdigit() or cell in ("-", "") for cell in column[1:])
        columns.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in column])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns))
