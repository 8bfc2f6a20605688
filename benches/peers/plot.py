"""Draws what compare.py measured on models: time of prefill and of a decoded token over the length.

    python3 plot.py results.json figure.svg
"""

import json
import sys
from statistics import median

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

COLOURS = {"asterism": "#1f6fb2", "transformers": "#d1720f", "llamacpp": "#5a8f29"}
STYLES = ["-", "--", "-.", ":"]
MARKERS = "osD^v"


def series(runs, value):
    """{name: [(tokens, median, least, most)]}, in the order of the runs."""
    found = {}
    for run in runs:
        found.setdefault(run["name"], {}).setdefault(run["size"], []).append(value(run))
    return {
        name: [(size, median(values), min(values), max(values)) for size, values in sorted(sizes.items())]
        for name, sizes in found.items()
    }


def draw(axes, lines, title, unit):
    """One line per engine and method; a method that ran at one length is a single marker."""
    kinds = {}
    for name, points in lines.items():
        engine, _, method = name.partition(" ")
        kind = kinds.setdefault(method.removeprefix("bf16").strip() or "dense", len(kinds))
        sizes, middles, lows, highs = zip(*points)
        errors = [[m - low for m, low in zip(middles, lows)], [h - m for h, m in zip(highs, middles)]]
        axes.errorbar(
            sizes, middles, yerr=errors, label=name, color=COLOURS.get(engine, "#666666"),
            linestyle=STYLES[kind % len(STYLES)], marker=MARKERS[kind % len(MARKERS)],
            markersize=6, capsize=3, markerfacecolor="none" if kind else None,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = sorted({size for points in lines.values() for size, *_ in points})
    axes.set_xticks(sizes, [f"{round(size / 1024)}K" for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.set(title=title, xlabel="tokens", ylabel=unit)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as file:
        measured = json.load(file)
    plt.rcParams.update({"svg.hashsalt": "asterism", "svg.fonttype": "none", "font.size": 10})
    runs = measured["runs"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    draw(left, series(runs, lambda run: run["prefill_s"]), "encoding the context", "seconds")
    dense = [run for run in runs if "star" not in run["name"] and run["decode_tokens_per_s"]]
    if dense:
        step = series(dense, lambda run: 1000 / run["decode_tokens_per_s"])
        draw(right, step, "decoding a token", "milliseconds")
    about = measured["about"]
    versions = "; ".join(f"{name}: {version}" for name, version in about["versions"].items())
    figure.suptitle(f"{versions}; {about['rounds']} rounds", fontsize=9)
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
