"""The table that the README shows: tapegrad against torch eager, one thread, float64, values and gradients verified first.

    python benchmarks/table.py            # prints the table
    python benchmarks/table.py --write    # also puts it into README.md
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import tapegrad as tg

sys.path.insert(0, str(Path(__file__).parent))
from compare import interleaved, step, time_of, verify  # noqa: E402
from workloads import LARGE, SMALL  # noqa: E402


def rows(torch, makes, rounds):
    for make in makes:
        verify(make, (tg, torch))
        pairs = [make(tg), make(torch)]
        forward = interleaved([f for f, _ in pairs], rounds)
        both = interleaved([step(*p) for p in pairs], rounds)
        yield make, forward, both


def table(torch) -> tuple[str, float]:
    lines = ["| program | tapegrad | torch eager | ratio | ratio, forward alone |", "|---|---|---|---|---|"]
    ratios = []
    for makes, rounds in ((SMALL, 15), (LARGE, 9)):
        for make, forward, both in rows(torch, makes, rounds):
            ratio = both[1] / both[0]
            if makes is SMALL:
                ratios.append(ratio)
            lines.append(
                f"| {make.__doc__.strip().rstrip('.')} | {time_of(both[0])} | {time_of(both[1])} | {ratio:.1f}x | {forward[1] / forward[0]:.1f}x |"
            )
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    lines.append(f"| **geometric mean of the small programs** | | | **{mean:.1f}x** | |")
    return "\n".join(lines), mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("the table compares with torch: pip install torch")
    torch.set_num_threads(1)
    tg.set_num_threads(1)
    text, _ = table(torch)
    print(text)
    if options.write:
        readme = Path(__file__).parent.parent / "README.md"
        before, _, rest = readme.read_text().partition("<!-- speed-table -->")
        _, _, after = rest.partition("<!-- /speed-table -->")
        readme.write_text(f"{before}<!-- speed-table -->\n{text}\n<!-- /speed-table -->{after}")


if __name__ == "__main__":
    main()
