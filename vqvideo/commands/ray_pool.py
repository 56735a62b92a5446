"""Run a function on many tasks, on the machines of a Ray cluster.

Ray Data gets one task per block, so a lost worker costs only its current task, which another worker
repeats. A running cluster is joined (`RAY_ADDRESS`, or `ray start` on this machine); otherwise one
is started on this machine until the work is done.

For processes on this machine without Ray, see process_pool.py.
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

from vqvideo.commands.process_pool import Advance, ignore_progress

Task = TypeVar("Task")
Result = TypeVar("Result")

MAX_ATTEMPTS = 3  # per task; Ray would retry a task that kills its worker forever


def import_ray() -> Any:
    """Import Ray with Ray Data.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        importlib.import_module("ray.data")
    except ImportError as cause:
        raise ImportError("the engine 'ray' needs Ray: pip install 'vqvideo[ray]'") from cause
    return importlib.import_module("ray")


def run_tasks(
    fn: Callable[[Task, Advance], Result],
    tasks: Sequence[Task],
    sizes: Sequence[int],
    num_processes: int,
    advance: Advance,
    *,
    use_gpus: bool = False,
) -> Iterator[Result]:
    """Yield the result of `fn` for each task, in the order of completion.

    Args:
        fn: a function of a module that is installed on every machine; called with a task and a
            progress callback.
        tasks: tasks, which must be picklable.
        sizes: total progress of each task.
        num_processes: number of tasks that run at the same time, each with an equal share of the
            CPU cores.
        advance: called with the progress since the last call, after each task.
        use_gpus: share the GPUs too, if there are any; Ray hides a GPU from other tasks.

    Raises:
        RuntimeError: a task killed several workers, or a machine cannot run it.
        ConnectionError: there is no cluster at `RAY_ADDRESS`.
    """
    if not tasks:
        return
    ray = import_ray()
    # Ray prints messages about lost workers to stdout, which is for results.
    with contextlib.redirect_stdout(sys.stderr), _ray_session(ray):
        share = compute_worker_resources(
            [index["Resources"] for index in ray.nodes() if index["Alive"]], num_processes, use_gpus
        )
        rows = [{"number": index, "task": pickle.dumps(task)} for index, task in enumerate(tasks)]
        queue = ray.data.from_items(rows, override_num_blocks=len(rows))
        queue.context.enable_progress_bars = False
        results = queue.map(
            _run_task,
            fn_args=[fn, ray.remote(num_cpus=0, max_restarts=-1)(AttemptCounter).remote(), share],
            compute=ray.data.TaskPoolStrategy(size=min(num_processes, len(tasks))),
            **share,
        )
        try:
            for row in results.iter_rows():
                outcome = pickle.loads(row["outcome"])
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome
                advance(sizes[row["number"]])
        except ray.exceptions.RayError as cause:
            raise RuntimeError(
                f"Ray failed ({type(cause).__name__}): see --debug, and check that each machine "
                f"has this version of vqvideo; run the same command again to resume"
            ) from cause


class AttemptCounter:
    """Number of attempts at each task, shared by all workers."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def increment(self, number: int) -> int:
        """Count one more attempt at a task, and return the number of attempts."""
        self._counts[number] += 1
        return self._counts[number]


def compute_worker_resources(
    nodes: Sequence[Mapping[str, float]], num_tasks: int, use_gpus: bool
) -> dict[str, float]:
    """Return the resources per task with which `num_tasks` tasks fit on the nodes together.

    >>> compute_worker_resources([{"CPU": 16}, {"CPU": 4}], 3, use_gpus=False)
    {'num_cpus': 5}
    >>> compute_worker_resources([{"CPU": 64}, {"CPU": 16, "GPU": 2}], 2, use_gpus=True)
    {'num_cpus': 8, 'num_gpus': 1}
    """
    gpu_nodes = [node for node in nodes if node.get("GPU")]
    if not (use_gpus and gpu_nodes):
        return {"num_cpus": _compute_share([node.get("CPU", 0) for node in nodes], num_tasks)}
    gpus = min(1, _compute_share([node["GPU"] for node in gpu_nodes], num_tasks))
    cpus = min(node.get("CPU", 0) / node["GPU"] for node in gpu_nodes) * gpus
    return {"num_cpus": int(cpus) if cpus >= 1 else cpus, "num_gpus": gpus}


def _compute_share(amounts: Sequence[float], num_tasks: int) -> float:
    """Return the largest integer share of which `num_tasks` fit, or a fraction if none fits."""
    for share in range(int(max(amounts, default=0)), 0, -1):
        if sum(available // share for available in amounts) >= num_tasks:
            return share
    total = sum(int(available) for available in amounts)
    return 1 / math.ceil(num_tasks / total) if total else 1


@contextlib.contextmanager
def _ray_session(ray: Any) -> Iterator[None]:
    """Join or start a cluster for the block; a joined cluster keeps running afterwards."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it logs every run and every error
    owns_session = not ray.is_initialized()
    try:
        if owns_session:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        logger.setLevel(level)
        if owns_session:
            ray.shutdown()  # stops a cluster started here, leaves any other running


def _run_task(
    row: Mapping[str, Any],
    fn: Callable[[Any, Advance], Any],
    attempts: Any,
    share: Mapping[str, float],
) -> dict[str, Any]:
    """Run one task on a worker; return an error as a result, since Ray would wrap it."""
    torch.set_num_threads(max(1, int(share["num_cpus"])))
    outcome: Any
    try:
        if import_ray().get(attempts.increment.remote(row["number"])) > MAX_ATTEMPTS:
            raise RuntimeError(
                f"a task killed its worker {MAX_ATTEMPTS} times, perhaps because memory ran out; "
                f"run the same command again to resume"
            )
        outcome = fn(pickle.loads(row["task"]), ignore_progress)
    except Exception as error:
        error.add_note(traceback.format_exc())
        outcome = error
    return {"number": row["number"], "outcome": pickle.dumps(outcome)}
