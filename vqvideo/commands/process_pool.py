"""Run a function on many tasks, in one process or several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Advance = Callable[[int], None]


def run_tasks(
    fn: Callable[[Task, Advance], Result],
    tasks: Sequence[Task],
    sizes: Sequence[int],
    num_processes: int,
    advance: Advance,
) -> Iterator[Result]:
    """Yield the result of `fn` for each task, in the order of completion.

    Args:
        fn: a module-level function; called with a task and a progress callback.
        tasks: tasks, which must be picklable.
        sizes: total progress of each task.
        num_processes: number of processes.
        advance: called with the progress since the last call; within a task if there is only one
            process, else after each task.

    Raises:
        RuntimeError: a process was killed.
    """
    if num_processes == 1:
        for task in tasks:
            yield fn(task, advance)
        return
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork would copy torch's threads in an undefined state
    with ProcessPoolExecutor(min(num_processes, max(1, len(tasks))), mp_context=context) as pool:
        futures = {
            pool.submit(fn, task, ignore_progress): n for task, n in zip(tasks, sizes, strict=True)
        }
        try:
            for future in as_completed(futures):
                yield future.result()
                advance(futures[future])
        except BrokenProcessPool as cause:
            raise RuntimeError(
                "a worker process was killed, perhaps because memory ran out, or because reading "
                "a file (named above) timed out; run the same command again to resume"
            ) from cause
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def build_progress_callback(
    progress: Callable[[int, int], None] | None, done: int, total: int
) -> Advance:
    """Return a callback for increments of progress that calls `progress(done, total)`."""

    def report(increment: int) -> None:
        nonlocal done
        done += increment
        if progress:
            progress(done, total)

    return report


def ignore_progress(more: int) -> None:
    """Discard progress."""
