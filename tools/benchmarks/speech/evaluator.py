"""Decode and evaluate utterances for `tools/benchmark.py speech`, without storing the audio."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from benchmarks.speech.metrics import SpeakerPrediction, UtteranceMetric
from benchmarks.speech.recordings import get_speaker
from benchmarks.speech.speaker_classifier import (
    SpeakerClassifier,
    compute_speaker_embedding,
)
from vqvideo.data.metadata import Item
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.metrics import bits_per_dim
from vqvideo.recipes.speech.convert_speaker import convert_voice
from vqvideo.recipes.speech.model import (
    build_speaker_cond,
    encode_utterance,
    get_sample_rate,
    get_seconds_per_frame,
)
from vqvideo.recipes.speech.phone_map import PhoneMap
from vqvideo.recipes.speech.utterances import Utterance, align_labels, read_utterances
from vqvideo.spectra import mel_distance

MetricGroups = defaultdict[str, dict[str, list[UtteranceMetric]]]


def _build_metric_groups() -> MetricGroups:
    return defaultdict(lambda: defaultdict(list))


@dataclass(kw_only=True)
class SpeechEvaluator:
    """Evaluates a model on utterances and collects the metrics.

    Attributes:
        generator: the model.
        speaker_classifier: the speaker classifier.
        targets: target speakers for conversion of unseen speakers.
        phone_map: map from codes to phones; None skips phones.
        seed: seed of a decoder that samples.
        on_decode: called after every decoding.
        reconstruction_metrics: metrics of reconstructions, by group (trained or unseen speaker,
            conditional or not).
        speaker_predictions: predictions for `original`, `unconditional` and `converted`
            utterances of unseen speakers.
        phone_metrics: phone metrics of the same utterances, counted in frames.
    """

    generator: Generator
    speaker_classifier: SpeakerClassifier
    targets: Sequence[str]
    phone_map: PhoneMap | None
    seed: int
    on_decode: Callable[[], object] = lambda: None
    reconstruction_metrics: MetricGroups = field(default_factory=_build_metric_groups)
    speaker_predictions: dict[str, list[SpeakerPrediction]] = field(
        default_factory=lambda: defaultdict(list)
    )
    phone_metrics: MetricGroups = field(default_factory=_build_metric_groups)

    def resynthesize(self, samples: Tensor, speaker: str | None) -> Tensor:
        """Encode and decode audio `[1, t]`, conditioned on a speaker if one is given."""
        speaker_id = None if speaker is None else self._get_speaker_id(speaker)
        reconstruction = convert_voice(self.generator, samples, speaker_id, seed=self.seed)
        self.on_decode()
        return reconstruction

    def evaluate_trained(self, items: Sequence[Item]) -> None:
        """Reconstruct utterances of trained speakers, with and without speaker conditioning."""
        for item, samples in read_utterances(items, sample_rate=self._sample_rate):
            speaker = get_speaker(item)
            for group, cond in (("trained_conditional", speaker), ("trained_unconditional", None)):
                self._compare(group, speaker, samples, self.resynthesize(samples, cond), cond)

    def evaluate_unseen(self, items: Sequence[Item]) -> None:
        """Reconstruct utterances of unseen speakers, and convert them to the target speakers."""
        for utterance in read_utterances(items, sample_rate=self._sample_rate):
            source, samples = get_speaker(utterance.item), utterance.samples
            unconditional = self.resynthesize(samples, None)
            self._compare("unseen_unconditional", source, samples, unconditional, None)
            converted = {target: self.resynthesize(samples, target) for target in self.targets}
            self._classify("original", source, dict.fromkeys(self.targets, samples))
            self._classify("unconditional", source, dict.fromkeys(self.targets, unconditional))
            self._classify("converted", source, converted)
            self._count_phones("original", utterance, [samples])
            self._count_phones("unconditional", utterance, [unconditional])
            self._count_phones("converted", utterance, list(converted.values()))

    @property
    def _sample_rate(self) -> int:
        return get_sample_rate(self.generator)

    def _get_speaker_id(self, speaker: str) -> int:
        return self.generator.vqvae.cond.get_id("speaker", speaker)

    def _compare(
        self,
        group: str,
        speaker: str,
        samples: Tensor,
        reconstruction: Tensor,
        cond_speaker: str | None,
    ) -> None:
        metrics = self.reconstruction_metrics[group]
        distance = mel_distance(samples, reconstruction, self._sample_rate).item()
        metrics["mel_distance"].append(UtteranceMetric(speaker, distance))
        metrics["si_snr_db"].append(UtteranceMetric(speaker, si_snr_db(reconstruction, samples)))
        if self.generator.vqvae.likelihood.is_discrete:
            speaker_id = None if cond_speaker is None else self._get_speaker_id(cond_speaker)
            bits, count = compute_bits_per_sample(self.generator, samples, speaker_id)
            metrics["bits_per_sample"].append(UtteranceMetric(speaker, bits * count, count))

    def _classify(self, name: str, source: str, audio: dict[str, Tensor]) -> None:
        """Classify the speakers of `audio`, given by target speaker."""
        for target, samples in audio.items():
            log_probs = self.speaker_classifier.predict_log_probs(
                compute_speaker_embedding(samples, self._sample_rate)[None]
            )[0]
            self.speaker_predictions[name].append(SpeakerPrediction(source, target, log_probs))

    def _count_phones(self, name: str, utterance: Utterance, audio: Sequence[Tensor]) -> None:
        """Count the speech frames whose predicted phone matches the label (`accuracy`) or the
        prediction for the original (`code_agreement`).
        """
        if self.phone_map is None or not utterance.item.segments:
            return
        original = self._predict_phones(utterance)
        seconds_per_frame = get_seconds_per_frame(self.generator)
        labels = align_labels(utterance.item.segments, len(original), seconds_per_frame)
        silence = {None, *self.phone_map.silence}
        speech = [i for i, label in enumerate(labels) if label not in silence]
        for samples in audio if speech else ():
            predicted = self._predict_phones(utterance._replace(samples=samples))
            for key, reference in (("accuracy", labels), ("code_agreement", original)):
                num_correct = sum(predicted[i] == reference[i] for i in speech)
                metric = UtteranceMetric(get_speaker(utterance.item), num_correct, len(speech))
                self.phone_metrics[name][key].append(metric)

    def _predict_phones(self, utterance: Utterance) -> list[str]:
        assert self.phone_map is not None
        codes = encode_utterance(self.generator, utterance).tolist()
        return [self.phone_map.phones[code] for code in codes]


def si_snr_db(reconstruction: Tensor, original: Tensor) -> float:
    """Return the scale-invariant signal-to-noise ratio of audio `[1, t]` in dB.

    It compares waveforms. A decoder trained on spectra, without phase, has about -30 dB however
    similar it sounds.

    Raises:
        ImportError: torchmetrics is missing (extra `report`); the message says how to install it.
    """
    try:
        from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio
    except ImportError as error:
        raise ImportError("the SI-SNR needs torchmetrics; pip install 'vqvideo[report]'") from error
    return scale_invariant_signal_noise_ratio(reconstruction, original).mean().item()


def compute_bits_per_sample(
    generator: Generator, samples: Tensor, speaker: int | None
) -> tuple[float, int]:
    """Return the bits per sample of audio `[1, t]` given its codes, -log2 p(x | z_q) / t', and t',
    the number of samples that fill complete codes.
    """
    device = get_device(generator)
    count = samples.shape[1] // generator.vqvae.downsampling[0] * generator.vqvae.downsampling[0]
    cond = build_speaker_cond(generator, speaker)
    first_stage = Generator(generator.vqvae)  # without the prior: the codes are not scored
    score = first_stage.log_prob(samples[None, :, :count].to(device), cond)
    return bits_per_dim(-score.reconstruction, count).item(), count
