"""What a run shows while it works: the progress bar on stderr and the lines of `log.jsonl`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Log:
    """The progress bar, and a line for each measurement.

    Args:
        path: of `log.jsonl`; written from `begin` on.
        steps: of the whole run.
        shown: whether this process writes and shows anything.
    """

    def __init__(self, path: Path, steps: int, shown: bool) -> None:
        self.path, self.shown, self.start = path, shown, time.monotonic()
        self.step_seconds = 0.0  # in steps alone, their data read: no measuring, no saving
        self.losses: list[float] = []
        self.warned: list[str] = []
        self.bar = tqdm(total=steps, unit="step", disable=None if shown else True)
        self.lines: list[str] = []

    def begin(self, steps_done: int) -> None:
        """The first step is next, or the one after so many."""
        self.bar.reset(self.bar.total)
        self.bar.initial = self.bar.n = steps_done
        self._write()

    def seen(self, loss: float, figures: dict[str, float], seconds: float) -> None:
        """A step is done, which took so long."""
        self.losses.append(loss)
        self.step_seconds += seconds
        shown = {"loss": loss, **figures}
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()})
        self.bar.update()

    def measured(self, step: int, figures: dict[str, float]) -> None:
        """Held-out figures are there."""
        line: dict[str, Any] = {
            "step": step,
            "seconds": round(time.monotonic() - self.start, 1),
            "step_seconds": round(self.step_seconds, 1),
            "loss": sum(self.losses) / len(self.losses),
            **{f"held_out_{name}": value for name, value in figures.items()},
        }
        self.losses.clear()
        self.lines.append(json.dumps(line))
        self._write()

    def warn(self, warnings: dict[str, str]) -> None:
        """Say what goes wrong, each thing the first time."""
        for name, sentence in warnings.items():
            if name not in self.warned:
                self.warned.append(name)
                self.bar.write(f"warning: {sentence}", file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on."""
        return {
            "lines": list(self.lines),
            "losses": list(self.losses),
            "warned": list(self.warned),
            "seconds": time.monotonic() - self.start,
            "step_seconds": self.step_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; what the log says of later steps is forgotten."""
        self.lines, self.losses = list(state["lines"]), list(state["losses"])
        self.warned, self.start = list(state["warned"]), time.monotonic() - state["seconds"]
        self.step_seconds = state["step_seconds"]

    def close(self) -> None:
        """The last step is done."""
        self.bar.close()

    def _write(self) -> None:
        if self.shown:
            write_whole(self.path, "".join(f"{line}\n" for line in self.lines))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or as it was."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
