"""The same work for many things, in one process or several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Report = Callable[[int], None]


def work_off(
    work: Callable[[Task, Report], Result],
    tasks: Sequence[Task],
    sizes: Sequence[int],
    num_processes: int,
    report: Report,
) -> Iterator[Result]:
    """What `work` gives for each task, in the order in which they are done.

    Args:
        work: a function of a module; called with a task and with what it may tell its progress.
        tasks: what can be sent to another process.
        sizes: how much progress each is in all.
        num_processes: in which they are done.
        report: called with how much more is done: within a task where there is one process.

    Raises:
        RuntimeError: a process was killed.
    """
    if num_processes == 1:
        for task in tasks:
            yield work(task, report)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy threads of torch midway
    with ProcessPoolExecutor(min(num_processes, max(1, len(tasks))), mp_context=context) as pool:
        waiting = {pool.submit(work, task, silent): n for task, n in zip(tasks, sizes, strict=True)}
        try:
            for future in as_completed(waiting):
                yield future.result()
                report(waiting[future])
        except BrokenProcessPool as cause:
            raise RuntimeError(
                "a process ended: it was killed, perhaps for want of memory, or a file did not "
                "answer and is named above; the same command goes on with what is missing"
            ) from cause
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def counting(progress: Callable[[int, int], None] | None, done: int, total: int) -> Report:
    """What turns "so much more is done" into calls of `progress(done, total)`."""

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, total)

    return report


def silent(more: int) -> None:
    """Progress that nobody looks at."""
