"""`vqvideo benchmark speech`: what a model of speech keeps of a voice, of what is said, and of whom
it was told (section 4.3 of van den Oord et al. 2017).

The paper's decoder is told who speaks, so that the same codes are heard in another voice. Whether
they are is judged here by a classifier that has heard recordings alone, and whether the same is
said by the phones that the codes of the converted voice stand for.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vqvideo.data.items import spread
from vqvideo.data.metadata import Item
from vqvideo.data.utterances import read_utterances
from vqvideo.generator import Generator
from vqvideo.jobs.benchmark.speech.figures import Tally, judged, means_of, over_speakers
from vqvideo.jobs.benchmark.speech.items import Recordings, recordings_of, speaker_of
from vqvideo.jobs.benchmark.speech.measuring import SpeechPass, si_snr_db
from vqvideo.jobs.benchmark.speech.picture import (
    NAMES,
    PICTURE,
    SOUNDS,
    Version,
    draw_speech,
    write_sounds,
)
from vqvideo.jobs.benchmark.speech.voices import Voices, voice_print
from vqvideo.jobs.finish import command_line
from vqvideo.jobs.folder import folder_of_whole_files
from vqvideo.jobs.model import output_files
from vqvideo.jobs.speech.model import open_speech_model, sample_rate
from vqvideo.jobs.speech.phone_map import PhoneMap, find_map
from vqvideo.likelihoods import Likelihood
from vqvideo.likelihoods.base import Bytes
from vqvideo.report.machine import setting
from vqvideo.report.picture import matplotlib_figure

FIGURES = "speech.json"
FILES = (FIGURES, PICTURE, *SOUNDS)
MOST_DRAWN = 8  # utterances of a folder, where nobody says how many


@dataclass(frozen=True, kw_only=True)
class SpeechBench:
    """What is measured, of which model.

    Attributes:
        model: of speech, told who speaks, by its name or the folder of a trained one.
        data: a folder of the speakers that it was trained on, whose test split is measured.
        unseen: a folder of other speakers. The classifier learns their voices from the first half
            of their utterances, the second is measured.
        phone_map: a `phones.json`; None is that of the model, if it has one.
        max_utterances: measured of each folder, evenly spread; None is all, or eight where the
            likelihood is autoregressive, whose decoding takes a pass for each sample. The
            classifier learns from, and is tested on, all of them whatever is measured.
        num_targets: speakers to whose voices each unseen one is converted, evenly spread.
        seed: of a decoder that draws.
        device: see `open_model`.
    """

    model: str
    data: str
    unseen: str
    phone_map: str | None = None
    max_utterances: int | None = None
    num_targets: int = 6
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("max_utterances", "num_targets"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


def benchmark_speech(
    bench: SpeechBench,
    *,
    out: str = "outputs/speech",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Reconstruct voices that a model knows and voices that it does not, and convert the latter.

    Every figure is a mean over speakers, each counted alike, with its 95 % interval.

    Args:
        bench: what is measured.
        out: a folder for `speech.json`, `speech.png` and the sounds of its picture, two recordings
            of a person among them.
        overwrite: replace the files of an earlier run.
        progress: called with (files heard, all), then with (utterances decoded, all).

    Returns:
        The files written, and the figures: `judge` (the classifier on recordings), `reconstruction`
        (see `SpeechPass.fidelity`), `conversion` (see `judged`) and `phones` (the shares of frames
        that are as was said, and as before; None where there is no map or there are no segments).

    Raises:
        ImportError: matplotlib or torchmetrics is missing (extra `report`).
        FileExistsError, FileNotFoundError, ValueError: before any work is done.
        media.MediaError: a sound cannot be read.
    """
    started, folder = time.monotonic(), Path(out)
    for name in FILES:
        output_files(folder / name, 1, overwrite)
    matplotlib_figure()  # what is missing is better known before the work than after
    si_snr_db(torch.ones(1, 2), torch.ones(1, 2))
    generator = open_speech_model(bench.model, bench.device)
    recordings = recordings_of(bench.data, bench.unseen, _known(generator, bench.model))
    targets = _targets(generator, recordings, bench.num_targets)
    phone_map = _phone_map(generator, bench)
    voices, judge = _judge(generator, recordings, progress)
    measuring = SpeechPass(
        generator=generator, voices=voices, targets=targets, phone_map=phone_map, seed=bench.seed
    )
    most = _most(generator.vqvae.likelihood, bench.max_utterances)
    held_out, others = spread(recordings.held_out, most), spread(recordings.unseen, most)
    shown = _measure(measuring, held_out, others, progress)
    figures = {
        **{name: getattr(bench, name) for name in ("model", "data", "unseen", "seed")},
        "targets": targets,
        "num_held_out": len(held_out),
        "num_unseen": len(others),
        "values": _values(generator.vqvae.likelihood),
        "judge": judge,
        "reconstruction": means_of(measuring.fidelity),
        "conversion": {k: judged(v, voices.names) for k, v in measuring.judgements.items()},
        "phones": means_of(measuring.phones) or None,
        "examples": [{v.name: v.title for v in versions} for versions in shown],
        "seconds": round(time.monotonic() - started, 2),
        "command": command_line(),
        "setting": setting("torchmetrics"),
    }
    with folder_of_whole_files(folder, FILES) as unfinished:
        text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
        (unfinished / FIGURES).write_text(text + "\n", encoding="utf-8")
        draw_speech(unfinished / PICTURE, shown, sample_rate(generator))
        write_sounds(unfinished, shown, sample_rate(generator))
    return [folder / name for name in FILES if (folder / name).is_file()], figures


def _known(generator: Generator, model: str) -> Sequence[str]:
    """The speakers whose voices the decoder has learnt."""
    if not (names := generator.vqvae.cond.speaker_names):
        raise ValueError(
            f"the decoder of {model} is not told who speaks, so it has no voices to convert to; "
            f"train one with --tell speaker"
        )
    return names


def _targets(generator: Generator, recordings: Recordings, number: int) -> list[str]:
    heard = {speaker_of(item) for item in recordings.voices}
    names = [name for name in generator.vqvae.cond.speaker_names if name in heard]
    if number > len(names):
        raise ValueError(
            f"num_targets is {number}, but --data has {len(names)} speakers that the model knows"
        )
    return spread(names, number)


def _phone_map(generator: Generator, bench: SpeechBench) -> PhoneMap | None:
    try:
        path = find_map(bench.model, bench.phone_map)
    except FileNotFoundError:
        if bench.phone_map is not None:
            raise
        return None
    return PhoneMap.read(path, generator.vqvae, bench.model)


def _most(likelihood: Likelihood, given: int | None) -> int | None:
    return MOST_DRAWN if given is None and likelihood.is_autoregressive else given


def _values(likelihood: Likelihood) -> str | None:
    """What there are bits of; None for a density."""
    if not likelihood.gives_bits:
        return None
    scale = "mu-law" if isinstance(likelihood, Bytes) and likelihood.mu_law else "evenly spaced"
    return f"{likelihood.num_values} {scale} levels"


def _judge(
    generator: Generator, recordings: Recordings, progress: Callable[[int, int], None] | None
) -> tuple[Voices, dict[str, Any]]:
    """The classifier of voices, and how often it is right about recordings it has not heard."""
    items, rate = list(itertools.chain(*recordings)), sample_rate(generator)
    prints = torch.stack(
        [
            voice_print(samples, rate)
            for _, samples in read_utterances(items, sample_rate=rate, progress=progress)
        ]
    )
    speakers = [speaker_of(item) for item in items]
    heard = len(recordings.voices)
    voices = Voices(prints[:heard], speakers[:heard])
    best = voices.log_probs(prints[heard:]).argmax(dim=1).tolist()
    right = [
        Tally(speaker, voices.names[index] == speaker)
        for speaker, index in zip(speakers[heard:], best, strict=True)
    ]
    trained = len(recordings.held_out)
    return voices, {
        "accuracy_trained": over_speakers(right[:trained]),
        "accuracy_unseen": over_speakers(right[trained:]),
        "chance": 1 / len(voices.names),
        "num_speakers": len(voices.names),
        "num_recordings_heard": heard,
    }


def _measure(
    measuring: SpeechPass,
    held_out: Sequence[Item],
    unseen: Sequence[Item],
    progress: Callable[[int, int], None] | None,
) -> list[list[Version]]:
    """Measure all; returns one utterance of each kind, to be shown."""
    examples = [held_out[len(held_out) // 2], unseen[len(unseen) // 2]]
    in_all = 2 * len(held_out) + (1 + len(measuring.targets)) * len(unseen)
    in_all += sum(1 + len(_shown_targets(measuring, item)) for item in examples)
    if progress:
        done = itertools.count(1)
        measuring.tell = lambda: progress(next(done), in_all)
    measuring.hear_trained(held_out)
    measuring.hear_unseen(unseen)
    return [_versions(measuring, item) for item in examples]


def _shown_targets(measuring: SpeechPass, item: Item) -> list[str]:
    """To whom the example is converted: two who are far apart in the list."""
    others = [target for target in measuring.targets if target != item.speaker]
    return list(dict.fromkeys([*others[:1], *others[-1:]]))


def _versions(measuring: SpeechPass, item: Item) -> list[Version]:
    """The original, the reconstruction and the conversions of an example."""
    rate, own = sample_rate(measuring.generator), speaker_of(item)
    samples = next(read_utterances([item], sample_rate=rate)).samples
    is_known = own in measuring.generator.vqvae.cond.speaker_names
    told = own if is_known else None
    kind = "a trained voice, held out" if is_known else "a voice not trained on"
    titles = [f"{own}, {kind}: recording"]
    titles.append(f"reconstruction, told {own}" if is_known else "reconstruction, told nothing")
    sounds = [samples, measuring.decoded(samples, told)]
    for target in _shown_targets(measuring, item):
        titles.append(f"conversion to {target}")
        sounds.append(measuring.decoded(samples, target))
    return [Version(*each) for each in zip(NAMES, titles, sounds, strict=False)]
