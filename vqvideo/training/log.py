"""Logging of a run: the progress bar on stderr and the lines of `log.jsonl`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vqvideo.atomic import write_text


class TrainingLogger:
    """Progress bar, and one log line per evaluation.

    Args:
        path: path of `log.jsonl`; written from `start` on.
        steps: number of steps of the whole run.
        is_enabled: whether this process writes and shows anything.
    """

    def __init__(self, path: Path, steps: int, is_enabled: bool) -> None:
        self.path, self.is_enabled, self.start_time = path, is_enabled, time.monotonic()
        self.step_seconds = 0.0  # training steps and data loading only: no evaluation, no saving
        self.losses: list[float] = []
        self.shown_warnings: list[str] = []
        self.bar = tqdm(total=steps, unit="step", disable=None if is_enabled else True)
        self.lines: list[str] = []

    def start(self, steps_done: int) -> None:
        """Start the progress bar after `steps_done` steps."""
        self.bar.reset(self.bar.total)
        self.bar.initial = self.bar.n = steps_done
        self._write()

    def log_step(self, loss: float, metrics: dict[str, float], seconds: float) -> None:
        """Log one training step, which took `seconds`."""
        self.losses.append(loss)
        self.step_seconds += seconds
        shown = {"loss": loss, **metrics}
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()})
        self.bar.update()

    def log_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Append the validation metrics of a step to the log."""
        line: dict[str, Any] = {
            "step": step,
            "seconds": round(time.monotonic() - self.start_time, 1),
            "step_seconds": round(self.step_seconds, 1),
            "loss": sum(self.losses) / len(self.losses),
            **{f"val_{name}": value for name, value in metrics.items()},
        }
        self.losses.clear()
        self.lines.append(json.dumps(line))
        self._write()

    def warn(self, warnings: dict[str, str]) -> None:
        """Print warnings, each name only once."""
        for name, message in warnings.items():
            if name not in self.shown_warnings:
                self.shown_warnings.append(name)
                self.bar.write(f"warning: {message}", file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        """Return the state needed to resume a run."""
        return {
            "lines": list(self.lines),
            "losses": list(self.losses),
            "shown_warnings": list(self.shown_warnings),
            "seconds": time.monotonic() - self.start_time,
            "step_seconds": self.step_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`; log lines of later steps are dropped."""
        self.lines, self.losses = list(state["lines"]), list(state["losses"])
        self.shown_warnings, self.start_time = (
            list(state["shown_warnings"]),
            time.monotonic() - state["seconds"],
        )
        self.step_seconds = state["step_seconds"]

    def close(self) -> None:
        """Close the progress bar."""
        self.bar.close()

    def _write(self) -> None:
        if self.is_enabled:
            write_text(self.path, "".join(f"{line}\n" for line in self.lines))
