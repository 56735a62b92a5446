"""`vqvideo benchmark`: the options of each benchmark."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import AddOptions, progress_bar


def _add_quantizer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sizes",
        type=lambda text: text.split(","),
        metavar="S1,S2,...",
        help="default all, S1 to S6; S6 needs 8 GB of memory",
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each takes its turn")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.set_defaults(run=_quantizer)


def _quantizer(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.quantizer import benchmark_quantizer
    from vqvideo.jobs.benchmark.table import table

    rows = benchmark_quantizer(
        sizes=options.sizes,
        rounds=options.rounds,
        num_threads=options.threads,
        progress=progress_bar("part"),
    )
    return rows if options.json else table(rows)


BENCHMARKS: dict[str, tuple[str, AddOptions]] = {
    "quantizer": ("Compare our quantizer with a peer, in time and memory.", _add_quantizer),
}
