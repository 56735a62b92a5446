"""Decode utterances for `vqvideo benchmark speech`, and measure each before it is dropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.data.metadata import Item
from vqvideo.data.utterances import Utterance, frame_labels, read_utterances
from vqvideo.generator import Generator
from vqvideo.jobs.benchmark.speech.figures import Judgement, Tally
from vqvideo.jobs.benchmark.speech.items import speaker_of
from vqvideo.jobs.benchmark.speech.voices import Voices, voice_print
from vqvideo.jobs.speech.convert_speaker import in_the_voice_of
from vqvideo.jobs.speech.model import codes_of, sample_rate, seconds_per_frame
from vqvideo.jobs.speech.phone_map import PhoneMap
from vqvideo.metrics import bits_per_dim
from vqvideo.spectra import mel_distance

Tallies = defaultdict[str, dict[str, list[Tally]]]


def _no_tallies() -> Tallies:
    return defaultdict(lambda: defaultdict(list))


@dataclass(kw_only=True)
class SpeechPass:
    """What is measured on utterance after utterance.

    Attributes:
        generator: the model.
        voices: the classifier.
        targets: the speakers to whose voices unseen ones are converted.
        phone_map: None measures no phones.
        seed: of a decoder that draws.
        tell: called after every decoding.
        fidelity: of reconstructions, by who speaks and what the decoder is told.
        judgements: of `original`, `told_nothing` and `converted` utterances of unseen speakers.
        phones: of the same, counted in frames.
    """

    generator: Generator
    voices: Voices
    targets: Sequence[str]
    phone_map: PhoneMap | None
    seed: int
    tell: Callable[[], object] = lambda: None
    fidelity: Tallies = field(default_factory=_no_tallies)
    judgements: dict[str, list[Judgement]] = field(default_factory=lambda: defaultdict(list))
    phones: Tallies = field(default_factory=_no_tallies)

    def decoded(self, samples: Tensor, speaker: str | None) -> Tensor:
        """Sound `[1, t]` in the voice of a speaker, or of nobody."""
        number = None if speaker is None else self._number(speaker)
        again = in_the_voice_of(self.generator, samples, number, seed=self.seed)
        self.tell()
        return again

    def hear_trained(self, items: Sequence[Item]) -> None:
        """Reconstruct utterances of speakers that the model knows, told who speaks and told
        nothing.
        """
        for item, samples in read_utterances(items, sample_rate=self._rate):
            speaker = speaker_of(item)
            for group, told in (("trained_told", speaker), ("trained_told_nothing", None)):
                self._compare(group, speaker, samples, self.decoded(samples, told), told)

    def hear_unseen(self, items: Sequence[Item]) -> None:
        """Reconstruct utterances of speakers that the model does not know, and convert them."""
        for utterance in read_utterances(items, sample_rate=self._rate):
            source, samples = speaker_of(utterance.item), utterance.samples
            nobody = self.decoded(samples, None)
            self._compare("unseen_told_nothing", source, samples, nobody, None)
            converted = {target: self.decoded(samples, target) for target in self.targets}
            self._judge("original", source, dict.fromkeys(self.targets, samples))
            self._judge("told_nothing", source, dict.fromkeys(self.targets, nobody))
            self._judge("converted", source, converted)
            self._count_phones("original", utterance, [samples])
            self._count_phones("told_nothing", utterance, [nobody])
            self._count_phones("converted", utterance, list(converted.values()))

    @property
    def _rate(self) -> int:
        return sample_rate(self.generator)

    def _number(self, speaker: str) -> int:
        return self.generator.vqvae.cond.number("speaker", speaker)

    def _compare(
        self, group: str, speaker: str, samples: Tensor, again: Tensor, told: str | None
    ) -> None:
        figures = self.fidelity[group]
        distance = mel_distance(samples, again, self._rate).item()
        figures["mel_distance"].append(Tally(speaker, distance))
        figures["si_snr_db"].append(Tally(speaker, si_snr_db(again, samples)))
        if self.generator.vqvae.likelihood.gives_bits:
            number = None if told is None else self._number(told)
            bits, count = bits_of(self.generator, samples, number)
            figures["bits_per_sample"].append(Tally(speaker, bits * count, count))

    def _judge(self, name: str, source: str, sounds: dict[str, Tensor]) -> None:
        """`sounds`: by the speaker whose voice each is to be."""
        for target, sound in sounds.items():
            log_probs = self.voices.log_probs(voice_print(sound, self._rate)[None])[0]
            self.judgements[name].append(Judgement(source, target, log_probs))

    def _count_phones(self, name: str, utterance: Utterance, sounds: Sequence[Tensor]) -> None:
        """How many frames that are not silence have the phone that was said, and how many the one
        that the codes of the original have.
        """
        if self.phone_map is None or not utterance.item.segments:
            return
        before = self._phones_of(utterance)
        each = seconds_per_frame(self.generator)
        labels = frame_labels(utterance.item.segments, len(before), each)
        silence = {None, *self.phone_map.silence}
        spoken = [i for i, label in enumerate(labels) if label not in silence]
        for sound in sounds if spoken else ():
            after = self._phones_of(utterance._replace(samples=sound))
            for figure, reference in (("accuracy", labels), ("as_before", before)):
                right = sum(after[i] == reference[i] for i in spoken)
                tally = Tally(speaker_of(utterance.item), right, len(spoken))
                self.phones[name][figure].append(tally)

    def _phones_of(self, utterance: Utterance) -> list[str]:
        assert self.phone_map is not None
        codes = codes_of(self.generator, utterance).tolist()
        return [self.phone_map.phones[code] for code in codes]


def si_snr_db(again: Tensor, original: Tensor) -> float:
    """Scale-invariant signal-to-noise ratio in decibels of sound `[1, t]`: of the waveform.

    A decoder that answers for a spectrum and not for the phase of every wave gives something like
    -30 dB however alike the two sound: its waves have nothing to do with those of the original.

    Raises:
        ImportError: torchmetrics is missing (extra `report`); the message says how to install it.
    """
    try:
        from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio
    except ImportError as cause:
        raise ImportError(
            "the SI-SNR is measured with torchmetrics; pip install 'vqvideo[report]'"
        ) from cause
    return scale_invariant_signal_noise_ratio(again, original).mean().item()


def bits_of(generator: Generator, samples: Tensor, speaker: int | None) -> tuple[float, int]:
    """Bits per sample of sound `[1, t]` given its codes, -log2 p(x | z_q) / t, and t, of as many
    samples as fill whole codes.
    """
    device = next(generator.parameters()).device
    count = samples.shape[1] // generator.vqvae.downsampling[0] * generator.vqvae.downsampling[0]
    cond = None if speaker is None else Cond(speaker=torch.tensor([speaker], device=device))
    first_stage = Generator(generator.vqvae)  # what the codes cost is not asked
    score = first_stage.log_prob(samples[None, :, :count].to(device), cond)
    return bits_per_dim(-score.reconstruction, count).item(), count
