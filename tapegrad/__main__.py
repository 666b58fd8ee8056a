"""`python -m tapegrad`: the demo, the cache of compiled code, and what is installed."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path


# --- cache ----------------------------------------------------------------------------------------------------------
def objects(directory: Path) -> list[Path]:
    """The compiled objects in a directory; files that tapegrad did not write are left out."""
    from tapegrad.engine import build

    def is_own(path: Path) -> bool:
        try:
            with open(path, "rb") as file:
                return file.read(len(build.MAGIC)) == build.MAGIC
        except OSError:
            return False

    return sorted(path for path in directory.glob("*" + build.SUFFIX) if is_own(path))


def size_of(path: Path) -> int:
    """The bytes of a file, 0 if another process has just removed it."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


UNARY = "exp log sqrt rsqrt sin cos tanh sigmoid relu abs square reciprocal neg erf expm1 log1p"
BINARY = "add sub mul div maximum minimum pow"
COMPARISONS = "eq ne lt le gt ge"


def common_operations(tg, x, y) -> list:
    """Results of calls on two (3, 4) tensors."""
    unary = [getattr(tg, name)(x) for name in UNARY.split()]
    binary = [getattr(tg, name)(x, y) for name in (BINARY + " " + COMPARISONS).split()]
    return unary + binary + [
        (2 * x - 1) / 3 + 1 / x,
        x**2 + x**3 + x**0.5 + x**-1,
        x * y[0] + x[:, :1],
        tg.where(x > y, x, y),
        x.clamp(0.7, 1.2) + x.clamp(min=0.7),
        x.sum() + x.sum(0).sum() + x.sum(1, keepdim=True).sum(),
        x.mean() + x.mean(0).sum(),
        x.max() + x.amax(1).sum() + x.amin(1).sum(),
        x @ y.t(),
        tg.softmax(x, 1) + tg.log_softmax(x, 1),
        tg.cat([x.t().reshape(-1), x[1], tg.stack([x[0], y[1]]).flatten()]),
        x.detach().clone().add_(y.detach()).mul_(2.0).zero_(),
    ]


def warm_up() -> None:
    """Start the engine and run the common ops in float32 and float64, forward and backward, so that their kernels are in the cache."""
    import tapegrad as tg

    for dtype in (tg.float32, tg.float64):
        x = tg.linspace(0.5, 1.5, 12, dtype=dtype).reshape(3, 4).requires_grad_()
        y = tg.linspace(1.5, 0.5, 12, dtype=dtype).reshape(3, 4).requires_grad_()
        for out in common_operations(tg, x, y):
            if out.requires_grad:
                out.backward(tg.ones_like(out))


def cache(arguments: argparse.Namespace) -> int:
    from tapegrad.engine import build

    directory = build.cache_directory()
    if directory is None:
        print("There is no cache: TAPEGRAD_CACHE_DIR is empty, or its directory cannot be made.", file=sys.stderr)
        return 1
    if arguments.action == "clear":
        removed = 0
        for path in objects(directory):
            path.unlink(missing_ok=True)
            removed += 1
        print(f"removed {removed} objects")
        return 0
    if arguments.action == "warm":
        begin, before = time.perf_counter(), len(objects(directory))
        warm_up()
        print(f"compiled {len(objects(directory)) - before} objects in {time.perf_counter() - begin:.1f} s")
    found = objects(directory)
    print(f"location  {directory}{'' if os.access(directory, os.W_OK) else ' (read-only)'}")
    print(f"objects   {len(found)}")
    print(f"bytes     {sum(map(size_of, found))}")
    return 0


# --- info, demo -----------------------------------------------------------------------------------------------------
def info(arguments: argparse.Namespace) -> int:
    import tapegrad as tg
    from tapegrad import core, memory
    from tapegrad.engine import build

    core.start()
    cpu, _ = build.target()
    print(f"tapegrad  {tg.__version__}")
    print(f"python    {platform.python_version()} ({platform.system()} {platform.machine()})")
    for name in ("numpy", "scipy", "numba", "llvmlite"):
        print(f"{name:<10s}{metadata.version(name)}")
    print(f"cpu       {cpu}")
    print(f"threads   {tg.get_num_threads()}")
    print(f"cache     {build.cache_directory()}")
    print("memory")
    for name, value in memory.statistics().items():
        print(f"  {name:<14s}{value}")
    return 0


def demo(arguments: argparse.Namespace) -> int:
    from tapegrad import demo

    return demo.main(arguments)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tapegrad", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("demo", help="fit a predator-prey model to the Hudson's Bay Company's counts of hares and lynxes")
    command.add_argument("--save", metavar="PATH", default="lynx_hare.png", help="where to save the picture (default: %(default)s)")
    command.add_argument("--no-plot", action="store_true", help="draw no picture")
    command.set_defaults(run=demo)

    command = commands.add_parser("cache", help="the compiled code on disk")
    command.add_argument("action", choices=("show", "warm", "clear"), nargs="?", default="show",
                         help="show where it is and how large, warm it with the common operations, or clear it")
    command.set_defaults(run=cache)

    command = commands.add_parser("info", help="versions, threads and memory")
    command.set_defaults(run=info)

    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
