"""The same work for many things, on the machines of a Ray cluster.

Ray Data is given one task per block, so a worker that is lost costs the one task it was at, which
another does again. Ray's own cluster is joined where one runs (`RAY_ADDRESS`, or `ray start` on
this machine), else one is started on this machine for as long as the work takes.

Not here: the same in processes of this machine (processes.py).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import pickle
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from vqvideo.jobs.processes import Report, silent

Task = TypeVar("Task")
Result = TypeVar("Result")

ATTEMPTS = 3  # at a task; Ray would give one that kills its worker to others for ever


def import_ray() -> Any:
    """Ray with Ray Data.

    Raises:
        ImportError: it is not installed.
    """
    try:
        importlib.import_module("ray.data")
    except ImportError as cause:
        raise ImportError("the engine 'ray' needs Ray: pip install 'vqvideo[ray]'") from cause
    return importlib.import_module("ray")


def work_off(
    work: Callable[[Task, Report], Result],
    tasks: Sequence[Task],
    sizes: Sequence[int],
    num_processes: int,
    report: Report,
    *,
    use_gpus: bool = False,
) -> Iterator[Result]:
    """What `work` gives for each task, in the order in which they are done.

    Args:
        work: a function of a module that every machine has; called with a task.
        tasks: what can be sent to another machine.
        sizes: how much progress each is in all.
        num_processes: tasks worked on at once, each with an equal share of the cores.
        report: called with how much more is done.
        use_gpus: share the GPUs as well, if there are any; Ray hides them from other tasks.

    Raises:
        RuntimeError: a task killed several workers, or a machine cannot run it.
        ConnectionError: there is no cluster at `RAY_ADDRESS`.
    """
    if not tasks:
        return
    ray = import_ray()
    # Ray prints what it says about lost workers, and stdout is for results.
    with contextlib.redirect_stdout(sys.stderr), _connected(ray):
        share = shares([n["Resources"] for n in ray.nodes() if n["Alive"]], num_processes, use_gpus)
        rows = [{"number": n, "task": pickle.dumps(task)} for n, task in enumerate(tasks)]
        queue = ray.data.from_items(rows, override_num_blocks=len(rows))
        queue.context.enable_progress_bars = False
        done = queue.map(
            _row,
            fn_args=[work, ray.remote(num_cpus=0, max_restarts=-1)(Attempts).remote(), share],
            compute=ray.data.TaskPoolStrategy(size=min(num_processes, len(tasks))),
            **share,
        )
        try:
            for row in done.iter_rows():
                outcome = pickle.loads(row["outcome"])
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome
                report(sizes[row["number"]])
        except ray.exceptions.RayError as cause:
            raise RuntimeError(
                f"Ray gave up ({type(cause).__name__}): see --debug, and whether each machine has "
                f"this version of vqvideo; the same command goes on with what is missing"
            ) from cause


class Attempts:
    """How often each task was begun, as all workers know it."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """One more time; how often that is."""
        self._begun[number] += 1
        return self._begun[number]


def shares(
    machines: Sequence[Mapping[str, float]], number: int, use_gpus: bool
) -> dict[str, float]:
    """What each of `number` tasks may ask for, so that all of them find room at once.

    >>> shares([{"CPU": 16}, {"CPU": 4}], 3, use_gpus=False)
    {'num_cpus': 5}
    >>> shares([{"CPU": 64}, {"CPU": 16, "GPU": 2}], 2, use_gpus=True)
    {'num_cpus': 8, 'num_gpus': 1}
    """
    with_gpus = [machine for machine in machines if machine.get("GPU")]
    if not (use_gpus and with_gpus):
        return {"num_cpus": _share([machine.get("CPU", 0) for machine in machines], number)}
    gpus = min(1, _share([machine["GPU"] for machine in with_gpus], number))
    cpus = min(machine.get("CPU", 0) / machine["GPU"] for machine in with_gpus) * gpus
    return {"num_cpus": int(cpus) if cpus >= 1 else cpus, "num_gpus": gpus}


def _share(amounts: Sequence[float], number: int) -> float:
    """The largest whole amount of which `number` fit, or a fraction where there are too few."""
    for amount in range(int(max(amounts, default=0)), 0, -1):
        if sum(there // amount for there in amounts) >= number:
            return amount
    total = sum(int(there) for there in amounts)
    return 1 / math.ceil(number / total) if total else 1


@contextlib.contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """A cluster for one block; one that was joined is left as it was."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it logs the course of each run, and all that is raised
    ours = not ray.is_initialized()
    try:
        if ours:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        logger.setLevel(level)
        if ours:
            ray.shutdown()  # stops a cluster of our own, leaves any other


def _row(
    row: Mapping[str, Any],
    work: Callable[[Any, Report], Any],
    attempts: Any,
    share: Mapping[str, float],
) -> dict[str, Any]:
    """Do one task on a worker. An error is a result: Ray would wrap it in one of its own."""
    torch.set_num_threads(max(1, int(share["num_cpus"])))
    outcome: Any
    try:
        if import_ray().get(attempts.begin.remote(row["number"])) > ATTEMPTS:
            raise RuntimeError(
                f"a task killed its worker {ATTEMPTS} times, perhaps for want of memory; the same "
                f"command goes on with what is missing"
            )
        outcome = work(pickle.loads(row["task"]), silent)
    except Exception as error:
        error.add_note(traceback.format_exc())
        outcome = error
    return {"number": row["number"], "outcome": pickle.dumps(outcome)}
