"""All tables in one command; the README shows the first two.

    python benchmarks/table.py                     # speed, large, overhead, growth, startup
    python benchmarks/table.py speed large         # only these
    python benchmarks/table.py --write             # also puts speed and large into README.md

Every program's value and gradients are verified before it is timed.  speed: one thread, float64, one training step (forward and
backward, gradients cleared), all rivals in turn in one process.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import rivals
import startup
import test_large
import test_overhead
import test_tape_growth
from compare import geometric_mean, interleaved, step, time_of, verify
from workloads import SMALL

import tapegrad as tg

BEGIN, END = "<!-- speed-table -->", "<!-- /speed-table -->"


def speed(rounds=15) -> str:
    """The small programs: tapegrad, torch eager and every rival that is installed."""
    try:
        import torch
    except ImportError:
        sys.exit("the speed table compares with torch: pip install torch")
    torch.set_num_threads(1)
    tg.set_num_threads(1)
    names = rivals.available()
    heads = ["program", "tapegrad", "torch eager", "ratio", "ratio, forward alone", *names]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    ratios = []
    for make in SMALL:
        verify(make, (tg, torch))
        others = rivals.gradient_functions(make)
        pairs = [make(tg), make(torch)]
        forward = interleaved([f for f, _ in pairs], rounds)
        both = interleaved([*(step(*p) for p in pairs), *(run for run, _ in others.values())], rounds)
        ratios.append([t / both[0] for t in both[1:]])
        cells = [time_of(t) for t in both]
        for k, (name, (_, first)) in enumerate(others.items()):
            if name == "JAX, jitted":
                cells[2 + k] += f" (first call {first:.2f} s)"
        cells[2:2] = [f"{both[1] / both[0]:.1f}x", f"{forward[1] / forward[0]:.1f}x"]
        lines.append("| " + " | ".join([make.__doc__.strip().rstrip("."), *cells]) + " |")
    means = [geometric_mean(column) for column in zip(*ratios, strict=True)]
    means = [f"{mean:.2g}x" if mean < 1 else f"{mean:.1f}x" for mean in means]
    cells = ["**geometric mean of time over tapegrad's**", "", "", f"**{means[0]}**", "", *means[1:]]
    lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def large() -> str:
    before = tg.get_num_threads()
    try:
        return test_large.table()
    finally:
        tg.set_num_threads(before)


TABLES = {
    "speed": speed,
    "large": large,
    "overhead": test_overhead.table,
    "growth": test_tape_growth.table,
    "startup": startup.table,
}
IN_README = ("speed", "large")


def write(text: str) -> None:
    """Put `text` between the marks in README.md."""
    readme = Path(__file__).parent.parent / "README.md"
    if not readme.exists():
        sys.exit("there is no README.md to write to")
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md has no {BEGIN} .. {END}")
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"which of {', '.join(TABLES)} (default: all)")
    parser.add_argument("--write", action="store_true", help="put speed and large into README.md")
    options = parser.parse_args()
    unknown = set(options.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table is called {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    warnings.simplefilter("ignore")
    chosen = options.tables or list(TABLES)
    if options.write:
        chosen = [*IN_README, *(name for name in chosen if name not in IN_README)]
    made = {}
    for name in chosen:
        made[name] = TABLES[name]()
        print(f"\n{name}\n\n{made[name]}", flush=True)
    if options.write:
        write("\n\n".join(made[name] for name in IN_README))


if __name__ == "__main__":
    main()
