"""The figures of `vqvideo benchmark maze` as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vqvideo.jobs.benchmark.table import aligned, with_interval
from vqvideo.report.machine import as_line

WHO = {
    "imagined": "the prior, told what is done",
    "told_nothing": "the same, told nothing",
    "last_frame": "the last frame again",
}
TOLD = {
    "right": "what was done",
    "shuffled": "what was done elsewhere",
    "none": "nothing",
}


def maze_table(found: Mapping[str, Any]) -> str:
    """What `benchmark_maze` returned: a line about the machine, and tables for each folder."""
    parts = [
        as_line(found["setting"]),
        f"means over episodes, and half of their 95 % intervals; {found['codes_per_frame']} codes "
        f"of {found['codebook_size']} a frame; temperature {found['temperature']}, guidance "
        f"{found['guidance']}",
    ]
    for name in ("data", "other"):
        if found["measured"][name] is not None:
            parts += _parts(found[name], found["measured"][name])
    return "\n\n".join(parts)


def _parts(folder: str, figures: Mapping[str, Any]) -> list[str]:
    length, number = figures["num_frames"], figures["num_episodes"]
    recovered = figures["actions"]["imagined_over_real"]
    ratio = "-" if recovered is None else f"{recovered:.2f}"
    return [
        f"== {folder}: {number} episodes of {length} frames ==",
        f"Pictures beside real ones: PSNR, dB, and SSIM\n{aligned(_pictures(figures))}",
        f"How much better the prior predicts, told what is done, episode by episode: PSNR, dB\n"
        f"{aligned(_gains(figures['prediction']))}",
        f"Nats per code of the prior\n{aligned(_nats(figures['nats_per_code']))}",
        f"Actions that an inverse model sees between two frames; imagined/real {ratio}\n"
        f"{aligned(_actions(figures['actions']))}",
        f"Fréchet distance of frame statistics from those of real frames, in standard deviations\n"
        f"{aligned(_drift(figures['drift']))}",
    ]


def _pictures(figures: Mapping[str, Any]) -> list[list[str]]:
    predictions = figures["prediction"]
    ahead = [f"frame {each['frames_ahead']} after" for each in predictions]
    lines = [["", "all frames", *ahead]]
    for measure, digits in (("psnr_db", 2), ("ssim", 3)):
        name = "PSNR" if measure == "psnr_db" else "SSIM"
        whole = with_interval(figures["reconstruction"][measure], digits)
        lines.append([f"{name}, reconstruction", whole, *["-"] * len(ahead)])
        for who, title in WHO.items():
            cells = [with_interval(each[who][measure], digits) for each in predictions]
            lines.append([f"{name}, {title}", "-", *cells])
    return lines


def _gains(predictions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = [["", *(f"frame {each['frames_ahead']} after" for each in predictions)]]
    for who in ("told_nothing", "last_frame"):
        gains = [each[f"gain_over_{who}"]["psnr_db"] for each in predictions]
        lines.append([f"than {WHO[who]}", *(with_interval(gain, 2) for gain in gains)])
    return lines


def _nats(nats: Mapping[str, Any]) -> list[list[str]]:
    lines = [["", "nats", "more than told what was done", "over its standard error"]]
    for told, title in TOLD.items():
        cost = nats.get(f"{told}_over_right")
        more = "-" if cost is None else with_interval(cost, 4)
        error = None if cost is None else cost["standard_error"]
        times = f"{cost['mean'] / error:.1f}" if cost is not None and error else "-"
        lines.append([f"told {title}", with_interval(nats[told], 4), more, times])
    ratio = nats["right_over_unigram"]
    share = "-" if ratio is None else f"{ratio:.3f}"
    return [
        *lines,
        ["entropy of the frequencies (unigram)", f"{nats['unigram']:.4f}", "", ""],
        ["ln K", f"{nats['uniform']:.4f}", "", ""],
        ["told what was done / unigram", share, "", ""],
    ]


def _actions(actions: Mapping[str, Any]) -> list[list[str]]:
    """The share seen right: in all, of the turns alone, and of each action that was done."""
    lines = [["", "right", "the turn", *actions["names"]]]
    for source in ("real", "reconstructed", "imagined"):
        table = actions[source]["confusion"]
        shares = [f"{row[i] / sum(row):.0%}" if sum(row) else "-" for i, row in enumerate(table)]
        accuracies = [
            with_interval(actions[source][name], 1, 100, " %")
            for name in ("accuracy", "turn_accuracy")
        ]
        lines.append([f"{source} frames", *accuracies, *shares])
    return lines


def _drift(drift: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    sources = ("real", "reconstructed", "imagined")
    lines = [["frames after", *sources]]
    for part in drift:
        cells = ["-" if part[s] is None else with_interval(part[s], 2) for s in sources]
        lines.append([f"{part['first']} to {part['last']}", *cells])
    return lines
