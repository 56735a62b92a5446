"""Two processes that share every batch end with the codebook of one that sees it whole.

This file is also the program of the two processes: `python test_distributed.py FOLDER` trains
every case in both and leaves what came of it in FOLDER.
"""

import subprocess
import sys
import warnings
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vqvideo import distributed
from vqvideo.quantizers import QUANTIZERS

pytestmark = pytest.mark.slow

SMALL = {"codebook_size": 7, "code_dim": 3, "dead_code_threshold": 0.1}
VECTOR = {"name": "vector", **SMALL}
WIDE = {**SMALL, "z_channels": 5}


class DistributedCase(NamedTuple):
    """A quantizer and how each of its training steps is shared out."""

    name: str
    options: dict
    sizes: tuple[int, int] = (2, 2)  # items of each micro-batch that each process gets
    micro_batches: int = 1
    mask: str = ""  # "gaps", or "one" where all items of the second process are masked
    is_built_first: bool = False  # before the process group is there
    ddp: bool = False  # with an encoder, an optimizer and DistributedDataParallel
    no_sync: bool = False
    auto_update: bool = False


CASES = {
    "ema": DistributedCase("ema", SMALL),
    "ema from clusters": DistributedCase("ema", {**SMALL, "init": "kmeans"}),
    "ema after warm-up": DistributedCase("ema", {**SMALL, "warmup_steps": 2}),
    "ema of directions": DistributedCase("ema", {**SMALL, "cosine": True}),
    "ema of fewer vectors than codes": DistributedCase("ema", {**SMALL, "codebook_size": 50}),
    "ema over micro-batches": DistributedCase("ema", SMALL, micro_batches=2),
    "ema of uneven halves": DistributedCase("ema", SMALL, sizes=(3, 1), micro_batches=2),
    "ema, one process with nothing": DistributedCase("ema", SMALL, sizes=(0, 4)),
    "ema with gaps": DistributedCase("ema", SMALL, mask="gaps", micro_batches=2),
    "ema, one process masked": DistributedCase("ema", SMALL, mask="one"),
    "ema from clusters, one process masked": DistributedCase(
        "ema", {**SMALL, "init": "kmeans"}, mask="one"
    ),
    "ema built before the processes met": DistributedCase("ema", SMALL, is_built_first=True),
    "vector from clusters": DistributedCase("vector", {**SMALL, "init": "kmeans"}, micro_batches=2),
    "product": DistributedCase("product", {"part": SMALL}, sizes=(1, 3)),
    "residual": DistributedCase("residual", {"num_codebooks": 3, "part": SMALL}, micro_batches=2),
    "ddp ema": DistributedCase("ema", SMALL, ddp=True),
    "ddp ema projected": DistributedCase(
        "ema", {**WIDE, "warmup_steps": 2}, ddp=True, micro_batches=2
    ),
    "ddp ema by auto_update": DistributedCase("ema", SMALL, ddp=True, auto_update=True),
    "ddp vector": DistributedCase("vector", SMALL, ddp=True),
    "ddp vector, cosine, projected": DistributedCase("vector", {**WIDE, "cosine": True}, ddp=True),
    "ddp vector over micro-batches": DistributedCase("vector", SMALL, ddp=True, micro_batches=2),
    "ddp vector, no_sync": DistributedCase(
        "vector", SMALL, ddp=True, micro_batches=3, no_sync=True
    ),
    "ddp vector built first": DistributedCase("vector", SMALL, ddp=True, is_built_first=True),
    "ddp product": DistributedCase("product", {"part": VECTOR}, ddp=True, micro_batches=2),
    "ddp residual": DistributedCase("residual", {"part": VECTOR}, ddp=True, micro_batches=2),
}
STEPS = 7
REVIVED_AT = (4, 6)


class Model(nn.Module):
    """The least that has an encoder, a quantizer and a loss."""

    def __init__(self, quantizer):
        super().__init__()
        self.quantizer = quantizer
        self.encoder = nn.Conv1d(2, quantizer.z_channels, 1)

    def forward(self, x):
        out = self.quantizer(self.encoder(x))
        return (out.z_q - 1).square().mean() + out.commitment_loss + out.codebook_loss


def build(case, rank):
    # Other random numbers on every process: entries must not depend on them, and what else is
    # random `DistributedDataParallel` copies from the first.
    torch.manual_seed(rank or 0)
    quantizer = QUANTIZERS.build(case.name, case.options).train()
    quantizer.auto_update = case.auto_update
    return Model(quantizer) if case.ddp else quantizer


def make_batches(case, rank):
    """For each step its micro-batches, of one process; all of them as one where rank is None."""
    draw = torch.Generator().manual_seed(0)
    channels = 2 if case.ddp else QUANTIZERS.build(case.name, case.options).z_channels
    for _ in range(STEPS):
        micro_batches = []
        for _ in range(case.micro_batches):
            z_e = torch.randn(sum(case.sizes), channels, 11, generator=draw)
            share = torch.linspace(0.9, 0.2, sum(case.sizes))[:, None]
            mask = torch.rand(sum(case.sizes), 11, generator=draw) < share
            if case.mask != "gaps":
                mask.fill_(True)
            if case.mask == "one":
                mask[case.sizes[0] :] = False
            micro_batches.append((z_e, mask))
        if rank is None:
            yield [tuple(torch.cat(each) for each in zip(*micro_batches, strict=True))]
        else:
            yield [(z.split(case.sizes)[rank], m.split(case.sizes)[rank]) for z, m in micro_batches]


def kill_an_entry(quantizer):
    """Of each codebook the third entry, put far away as if nobody had won it for long."""
    for each in quantizer.modules():
        if hasattr(each, "codebook") and each.initialized:
            each.usage_ema[2] = 0
            far = torch.full((1, each.code_dim), 50.0)
            each._replace_entries(torch.tensor([2]), far, torch.tensor([1e-3]))


def train(case, rank, model):
    """The state after some steps of start, movement and revival."""
    quantizer = model.quantizer if case.ddp else model
    if case.ddp:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
        if rank is not None:
            model = DistributedDataParallel(model)  # copies buffers of the first at each forward
    for step, micro_batches in enumerate(make_batches(case, rank)):
        if step in REVIVED_AT:
            kill_an_entry(quantizer)
        for number, (z_e, mask) in enumerate(micro_batches):
            if not case.ddp:
                model(z_e, mask if case.mask else None)
                continue
            is_last = number + 1 == len(micro_batches)
            hush = case.no_sync and rank is not None and not is_last
            with model.no_sync() if hush else nullcontext():
                (model(z_e) / len(micro_batches)).backward()
        if case.ddp:
            optimizer.step()
            optimizer.zero_grad()
        if not case.auto_update:
            quantizer.update_codebook()
    return quantizer.state_dict()


def run_worker(rank, folder):
    torch.set_num_threads(1)
    built = {key: build(case, rank) for key, case in CASES.items() if case.is_built_first}
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting_point",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    found = {}
    for key, case in CASES.items():
        with warnings.catch_warnings():
            if "fewer vectors" in key:
                warnings.simplefilter("ignore")
            model = built[key] if case.is_built_first else build(case, rank)
            found[key] = train(case, rank, model)
        if rank == 0:  # evaluation waits for nobody
            model.eval()(next(make_batches(case, 0))[0][0])
    rows = torch.arange(6.0).view(3, 2)[: 3 * rank]
    found["gathered"] = {
        "from one": distributed.all_gather_rows(rows),
        "from both": distributed.all_gather_rows(torch.full((2 - rank,), rank)),
        "from none": distributed.all_gather_rows(rows[:0]),
        "summed": distributed.all_reduce_sum(torch.tensor([1.0, rank])),
    }
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def worker_results(tmp_path_factory):
    """What the two processes were left with."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-W", "error", __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("key", CASES)
def test_both_processes_end_with_the_same_bits(worker_results, key):
    one, other = (each[key] for each in worker_results)
    assert list(one) == list(other)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), f"{name} differs between the processes"


@pytest.mark.parametrize("key", CASES)
@pytest.mark.filterwarnings("ignore:the codebook is initialized from a step of 44 vectors")
def test_two_processes_end_with_what_one_process_ends_with(worker_results, key):
    case = CASES[key]
    alone = train(case, None, build(case, None))
    assert list(alone) == list(worker_results[0][key])
    for name, tensor in alone.items():
        error = (worker_results[0][key][name].double() - tensor.double()).abs().max()
        largest = tensor.double().abs().max()
        assert error <= 1e-6 * largest, f"{name} is off by {error:.1e} of {largest:.1e}"
        if name.endswith("codebook"):
            assert largest < 20, "the dead entry was not revived"
        if name.endswith("initialized"):
            assert tensor


def test_processes_gather_their_rows_in_order(worker_results):
    for each in worker_results:
        gathered = each["gathered"]
        assert gathered["from one"].tolist() == [[0, 1], [2, 3], [4, 5]]
        assert gathered["from both"].tolist() == [0, 0, 1]
        assert gathered["from none"].shape == (0, 2)
        assert gathered["summed"].tolist() == [2, 1]


if __name__ == "__main__":
    method = "fork" if sys.platform == "linux" else "spawn"  # to import torch once, not thrice
    torch.multiprocessing.start_processes(run_worker, (Path(sys.argv[1]),), 2, start_method=method)
