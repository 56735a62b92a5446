"""`tools/benchmark.py speech`: reconstruction and speaker conversion by a speech model (section 4.3
of van den Oord et al. 2017).

The decoder of the paper is conditioned on the speaker, so that the same codes can be decoded in
another voice. Here a speaker classifier trained on recordings only evaluates the voice of the
conversions, and the phones of their codes evaluate whether the content is preserved.
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

from benchmarks.speech.evaluator import SpeechEvaluator, si_snr_db
from benchmarks.speech.metrics import (
    UtteranceMetric,
    average_groups,
    average_over_speakers,
    summarize_predictions,
)
from benchmarks.speech.plots import (
    AUDIO_FILES,
    PLOT_FILE,
    VERSION_NAMES,
    AudioVersion,
    plot_spectrograms,
    write_examples,
)
from benchmarks.speech.recordings import Recordings, get_speaker, split_recordings
from benchmarks.speech.speaker_classifier import (
    SpeakerClassifier,
    compute_speaker_embedding,
)
from vqvideo.atomic import replace_files
from vqvideo.commands.finalize import get_command_line
from vqvideo.commands.model import check_output_files
from vqvideo.data.items import evenly_spaced
from vqvideo.data.metadata import Item
from vqvideo.generator import Generator
from vqvideo.likelihoods import Likelihood
from vqvideo.likelihoods.base import ByteLikelihood
from vqvideo.recipes.speech.model import get_sample_rate, load_speech_model
from vqvideo.recipes.speech.phone_map import PhoneMap, find_phone_map
from vqvideo.recipes.speech.utterances import read_utterances
from vqvideo.report.codebook_plot import import_figure_class
from vqvideo.report.environment import collect_environment

METRICS_FILE = "speech.json"
OUTPUT_FILES = (METRICS_FILE, PLOT_FILE, *AUDIO_FILES)
MAX_AUTOREGRESSIVE_UTTERANCES = 8  # default per folder, since decoding is slow


@dataclass(frozen=True, kw_only=True)
class SpeechBenchmarkConfig:
    """The settings of the speech benchmark.

    Attributes:
        model: name or run folder of a speech model whose decoder is conditioned on the speaker.
        data: a folder of the speakers that it was trained on; the test split is evaluated.
        unseen: a folder of other speakers. The classifier is trained on the first half of their
            utterances; the second half is evaluated.
        phone_map: a `phones.json`; None takes the one of the model, if it has one.
        max_utterances: maximum number of evaluated utterances per folder, evenly spaced; None is
            all, or eight if the likelihood is autoregressive and decoding is slow. The classifier
            always uses all utterances.
        num_targets: number of target speakers for conversion, evenly spaced.
        seed: seed of a decoder that samples.
        device: see `load_model`.
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
    config: SpeechBenchmarkConfig,
    *,
    out: str = "outputs/speech",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Reconstruct speech of trained and unseen speakers, convert the latter, and evaluate both.

    Every metric is a mean over speakers, with equal weights, and has a 95 % interval.

    Args:
        config: the settings of the benchmark.
        out: a folder for `speech.json`, `speech.png` and the audio of the plotted examples, which
            include two original recordings.
        overwrite: replace the files of an earlier run.
        progress: called with (files read, total), then with (utterances decoded, total).

    Returns:
        The files written, and the metrics: `judge` (the classifier on recordings),
        `reconstruction` (see `SpeechEvaluator.reconstruction_metrics`), `conversion` (see
        `summarize_predictions`) and `phones` (phone accuracy and code agreement; None without a
        phone map or segments).

    Raises:
        ImportError: matplotlib or torchmetrics is missing (extra `report`).
        FileExistsError, FileNotFoundError, ValueError: before any work is done.
        media.MediaError: an audio file cannot be read.
    """
    start_time, folder = time.monotonic(), Path(out)
    for name in OUTPUT_FILES:
        check_output_files(folder / name, 1, overwrite)
    import_figure_class()  # raises before the work if a package is missing
    si_snr_db(torch.ones(1, 2), torch.ones(1, 2))
    generator = load_speech_model(config.model, config.device)
    recordings = split_recordings(
        config.data, config.unseen, _get_known_speakers(generator, config.model)
    )
    targets = _select_targets(generator, recordings, config.num_targets)
    phone_map = _load_phone_map(generator, config)
    classifier, classifier_metrics = _fit_speaker_classifier(generator, recordings, progress)
    evaluator = SpeechEvaluator(
        generator=generator,
        speaker_classifier=classifier,
        targets=targets,
        phone_map=phone_map,
        seed=config.seed,
    )
    limit = _limit_utterances(generator.vqvae.likelihood, config.max_utterances)
    test, unseen = evenly_spaced(recordings.test, limit), evenly_spaced(recordings.unseen, limit)
    examples = _evaluate_utterances(evaluator, test, unseen, progress)
    results = {
        **{name: getattr(config, name) for name in ("model", "data", "unseen", "seed")},
        "targets": targets,
        "num_held_out": len(test),
        "num_unseen": len(unseen),
        "values": _describe_levels(generator.vqvae.likelihood),
        "judge": classifier_metrics,
        "reconstruction": average_groups(evaluator.reconstruction_metrics),
        "conversion": {
            k: summarize_predictions(v, classifier.speaker_names)
            for k, v in evaluator.speaker_predictions.items()
        },
        "phones": average_groups(evaluator.phone_metrics) or None,
        "examples": [{v.name: v.title for v in versions} for versions in examples],
        "seconds": round(time.monotonic() - start_time, 2),
        "command": get_command_line(),
        "environment": collect_environment("torchmetrics"),
    }
    with replace_files(folder, OUTPUT_FILES, overwrite=overwrite) as temporary:
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        (temporary / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
        plot_spectrograms(temporary / PLOT_FILE, examples, get_sample_rate(generator))
        write_examples(temporary, examples, get_sample_rate(generator))
    return [folder / name for name in OUTPUT_FILES if (folder / name).is_file()], results


def _get_known_speakers(generator: Generator, model: str) -> Sequence[str]:
    """Return the speakers that the decoder was trained on; raise `ValueError` if there are none."""
    if not (names := generator.vqvae.cond.speaker_names):
        raise ValueError(
            f"the decoder of {model} is not conditioned on the speaker, so it has no voices to "
            f"convert to; train one with --condition-on speaker"
        )
    return names


def _select_targets(generator: Generator, recordings: Recordings, num_targets: int) -> list[str]:
    available = {get_speaker(item) for item in recordings.classifier_train}
    names = [name for name in generator.vqvae.cond.speaker_names if name in available]
    if num_targets > len(names):
        raise ValueError(
            f"num_targets is {num_targets}, but --data has {len(names)} speakers that the model "
            f"knows"
        )
    return evenly_spaced(names, num_targets)


def _load_phone_map(generator: Generator, config: SpeechBenchmarkConfig) -> PhoneMap | None:
    try:
        path = find_phone_map(config.model, config.phone_map)
    except FileNotFoundError:
        if config.phone_map is not None:
            raise
        return None
    return PhoneMap.read(path, generator.vqvae, config.model)


def _limit_utterances(likelihood: Likelihood, max_utterances: int | None) -> int | None:
    return (
        MAX_AUTOREGRESSIVE_UTTERANCES
        if max_utterances is None and likelihood.is_autoregressive
        else max_utterances
    )


def _describe_levels(likelihood: Likelihood) -> str | None:
    """Return a description of the discrete levels that bits refer to; None for a density."""
    if not likelihood.is_discrete:
        return None
    scale = (
        "mu-law"
        if isinstance(likelihood, ByteLikelihood) and likelihood.mu_law
        else "evenly spaced"
    )
    return f"{likelihood.num_values} {scale} levels"


def _fit_speaker_classifier(
    generator: Generator, recordings: Recordings, progress: Callable[[int, int], None] | None
) -> tuple[SpeakerClassifier, dict[str, Any]]:
    """Fit the speaker classifier, and return it with its accuracy on other recordings."""
    items, rate = list(itertools.chain(*recordings)), get_sample_rate(generator)
    embeddings = torch.stack(
        [
            compute_speaker_embedding(samples, rate)
            for _, samples in read_utterances(items, sample_rate=rate, progress=progress)
        ]
    )
    speakers = [get_speaker(item) for item in items]
    num_train = len(recordings.classifier_train)
    classifier = SpeakerClassifier(embeddings[:num_train], speakers[:num_train])
    predicted = classifier.predict_log_probs(embeddings[num_train:]).argmax(dim=1).tolist()
    correct = [
        UtteranceMetric(speaker, classifier.speaker_names[index] == speaker)
        for speaker, index in zip(speakers[num_train:], predicted, strict=True)
    ]
    num_test = len(recordings.test)
    return classifier, {
        "accuracy_trained": average_over_speakers(correct[:num_test]),
        "accuracy_unseen": average_over_speakers(correct[num_test:]),
        "chance": 1 / len(classifier.speaker_names),
        "num_speakers": len(classifier.speaker_names),
        "num_recordings_heard": num_train,
    }


def _evaluate_utterances(
    evaluator: SpeechEvaluator,
    test: Sequence[Item],
    unseen: Sequence[Item],
    progress: Callable[[int, int], None] | None,
) -> list[list[AudioVersion]]:
    """Evaluate all utterances; return one example each of a trained and an unseen speaker."""
    examples = [test[len(test) // 2], unseen[len(unseen) // 2]]
    total = 2 * len(test) + (1 + len(evaluator.targets)) * len(unseen)
    total += sum(1 + len(_select_example_targets(evaluator, item)) for item in examples)
    if progress:
        done = itertools.count(1)
        evaluator.on_decode = lambda: progress(next(done), total)
    evaluator.evaluate_trained(test)
    evaluator.evaluate_unseen(unseen)
    return [_resynthesize_versions(evaluator, item) for item in examples]


def _select_example_targets(evaluator: SpeechEvaluator, item: Item) -> list[str]:
    """Return two target speakers for an example, the first and the last in the list."""
    others = [target for target in evaluator.targets if target != item.speaker]
    return list(dict.fromkeys([*others[:1], *others[-1:]]))


def _resynthesize_versions(evaluator: SpeechEvaluator, item: Item) -> list[AudioVersion]:
    """Return the original, the reconstruction and the conversions of an example."""
    rate, speaker = get_sample_rate(evaluator.generator), get_speaker(item)
    samples = next(read_utterances([item], sample_rate=rate)).samples
    is_known = speaker in evaluator.generator.vqvae.cond.speaker_names
    cond_speaker = speaker if is_known else None
    kind = "trained speaker, test split" if is_known else "unseen speaker"
    titles = [f"{speaker}, {kind}: recording"]
    titles.append(
        f"reconstruction, conditioned on {speaker}" if is_known else "reconstruction, unconditional"
    )
    audio = [samples, evaluator.resynthesize(samples, cond_speaker)]
    for target in _select_example_targets(evaluator, item):
        titles.append(f"conversion to {target}")
        audio.append(evaluator.resynthesize(samples, target))
    return [AudioVersion(*args) for args in zip(VERSION_NAMES, titles, audio, strict=False)]
