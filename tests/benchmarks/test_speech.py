"""`python tools/benchmark.py speech`: its figures by a dumber way, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from benchmarks.cli import main
from benchmarks.speech import run as speech
from benchmarks.speech.metrics import (
    SpeakerPrediction,
    UtteranceMetric,
    average_over_speakers,
    summarize_predictions,
)
from benchmarks.speech.plots import AUDIO_FILES, PLOT_FILE
from benchmarks.speech.recordings import split_recordings
from benchmarks.speech.run import SpeechBenchmarkConfig, benchmark_speech
from benchmarks.speech.speaker_classifier import (
    SHRINKAGE,
    SpeakerClassifier,
    compute_speaker_embedding,
)
from benchmarks.speech.table import format_speech_table

import vqvideo
from vqvideo import media
from vqvideo.cond import Cond
from vqvideo.data.metadata import Item, Segment, write_metadata
from vqvideo.generator import Generator
from vqvideo.likelihoods import CategoricalLikelihood
from vqvideo.likelihoods.base import mu_law_compress
from vqvideo.metrics import estimate_mean
from vqvideo.recipes.speech.phone_map import PhoneMap
from vqvideo.spectra import mel_distance

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib")
pytest.importorskip("torchmetrics")

RATE, STRIDE, LENGTH = 16000, 64, 5000  # samples of a file: 78 codes and a bit
PITCH = {
    "ann": 110.0,
    "bob": 170.0,
    "cleo": 260.0,
    "xena": 140.0,
    "yan": 330.0,
    "zoe": 200.0,
}  # in Hz
KNOWN = ("ann", "bob", "cleo")
SEGMENTS = (Segment(0.0, 0.1, "SIL"), Segment(0.1, 0.2, "AA"), Segment(0.21, 0.3, "IY"))


def make_voice(speaker, number):
    """A few harmonics of a pitch of the speaker's own, with pauses."""
    draw = torch.Generator().manual_seed(number)
    time = torch.arange(LENGTH) / RATE
    pitch = PITCH[speaker] * (1 + 0.02 * torch.rand((), generator=draw))
    loud = 0.1 + 0.2 * torch.rand(4, generator=draw)
    harmonics = [loud[k] * torch.sin(2 * math.pi * (k + 1) * pitch * time) for k in range(4)]
    pause = (time > 0.05) & ((time * 9 + number / 3) % 1 > 0.1)
    noise = 0.01 * torch.randn(LENGTH, generator=draw)
    return (sum(harmonics) * pause + noise)[None].clamp(-1, 1)


def record(folder, speakers, *, number=4, tests=1, segments=SEGMENTS):
    """So many files of each speaker, the last of them for testing."""
    folder.mkdir()
    items = []
    for speaker in speakers:
        for index in range(number):
            path = folder / f"{speaker}{index}.wav"
            media.write_audio(path, make_voice(speaker, index), RATE)
            split = "test" if index >= number - tests else "train"
            items.append(Item(path, split, speaker=speaker, segments=segments))
    write_metadata(folder, items)
    return str(folder)


def build_model(folder, **changes):
    """A small untrained model whose decoder is told who speaks."""
    torch.manual_seed(0)
    net = {"name": "conv", "width": 8, "num_blocks": 1}
    small = {
        "encoder": net,
        "decoder": net,
        "quantizer": {"name": "ema", "codebook_size": 16, "code_dim": 4, "warmup_steps": 1},
        "likelihood": {"name": "categorical", "mu_law": True},
        "strides": [[2]] * 6,
        "rate": RATE,
        "cond": {"num_speakers": len(KNOWN), "speaker_names": KNOWN},
    }
    generator = vqvideo.build("audio", **{**small, **changes})
    for part in (generator.vqvae.cond_embedding, generator.vqvae.decoder):  # begins at silence
        for parameter in part.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    sounds = torch.stack([make_voice(speaker, 0)[:, :4992] for speaker in KNOWN])
    generator.vqvae.train()(sounds)
    generator.vqvae.quantizer.update_codebook()
    vqvideo.save(Generator(generator.vqvae, None, generator.config), folder)
    return str(folder)


@pytest.fixture(scope="module")
def recorded_files(tmp_path_factory):
    """A model, its speakers, others, and a map of phones."""
    folder = tmp_path_factory.mktemp("speech")
    model = build_model(folder / "model")
    vqvae = vqvideo.load(model).vqvae
    phones = ("AA", "IY") * 8
    phone_map = PhoneMap(
        fingerprint=vqvae.fingerprint(),
        seconds_per_frame=STRIDE / RATE,
        silence=("SIL",),
        labels=("AA", "IY", "SIL"),
        phones=phones,
        phones_with_silence=phones,
    )
    phone_map.write(folder / "phones.json")
    return {
        "model": model,
        "data": record(folder / "data", KNOWN),
        "unseen": record(folder / "unseen", ["xena", "yan"], tests=4),
        "phone_map": str(folder / "phones.json"),
    }


@pytest.fixture(scope="module")
def results(recorded_files, tmp_path_factory):
    """What a run left: files and figures; and what it told on the way."""
    out, told = tmp_path_factory.mktemp("out") / "deep" / "speech", []
    bench = SpeechBenchmarkConfig(**recorded_files, num_targets=2)
    done = benchmark_speech(bench, out=str(out), progress=lambda *counts: told.append(counts))
    return (*done, told)


def read_samples(path):
    return media.read_audio(path).samples


def reconstruct_by_hand(vqvae, samples, speaker):
    """Reconstruction and parameters of a sound, decoded in one call."""
    filled = F.pad(samples, (0, -LENGTH % STRIDE), mode="replicate")[None]
    cond = None if speaker is None else Cond(speaker=torch.tensor([KNOWN.index(speaker)]))
    return vqvae.decode(vqvae.encode(filled), cond)[0, :, :LENGTH]


def test_a_classifier_recognizes_seen_speakers(results):
    judge = results[1]["judge"]
    assert judge["accuracy_trained"]["mean"] == judge["accuracy_unseen"]["mean"] == 1
    assert judge["chance"] == 1 / 5
    assert judge["num_recordings_heard"] == 3 * 3 + 2 * 2


def test_loudness_identifies_no_speaker():
    sound = make_voice("bob", 3)
    quieter = compute_speaker_embedding(0.3 * sound, RATE)
    torch.testing.assert_close(
        compute_speaker_embedding(sound, RATE), quieter, rtol=1e-4, atol=1e-4
    )


def test_pauses_identify_no_speaker():
    sound = make_voice("bob", 3)
    longer = torch.cat([sound, torch.zeros(1, 4096)], dim=1)
    level = (LENGTH / (LENGTH + 4096)) ** 0.5  # so that the same is left of both
    before, after = (
        compute_speaker_embedding(sound * level, RATE),
        compute_speaker_embedding(longer, RATE),
    )
    assert (before - after).abs().mean() < (
        before - compute_speaker_embedding(make_voice("ann", 3), RATE)
    ).abs().mean()


def test_the_classifier_is_that_of_normal_distributions_around_each_speaker():
    torch.manual_seed(0)
    speakers = ["ann", "bob", "bob", "ann", "cleo"] * 4
    means = {name: torch.randn(6, dtype=torch.float64) for name in KNOWN}
    prints = torch.stack([means[name] + torch.randn(6) * 0.5 for name in speakers])
    z = (prints - prints.mean(dim=0)) / prints.std(dim=0, correction=0)
    centres = {name: z[[s == name for s in speakers]].mean(dim=0) for name in KNOWN}
    apart = torch.stack([row - centres[name] for row, name in zip(z, speakers, strict=True)])
    covariance = sum(torch.outer(row, row) for row in apart) / (len(z) - 3)
    round_ = torch.eye(6, dtype=torch.float64) * covariance.diagonal().mean()
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * round_
    normals = [torch.distributions.MultivariateNormal(centres[name], shrunk) for name in KNOWN]
    nats = torch.stack([normal.log_prob(z) for normal in normals], dim=1)
    voices = SpeakerClassifier(prints, speakers)
    assert voices.speaker_names == list(KNOWN)
    torch.testing.assert_close(voices.predict_log_probs(prints), nats.log_softmax(dim=1))


def test_shares_of_judgements_are_counted_and_add_up_to_one():
    names = ["ann", "bob", "cleo", "dan"]
    said = [  # source, target, probabilities of the four
        ("ann", "bob", [0.1, 0.6, 0.2, 0.1]),  # the target, above the source
        ("ann", "cleo", [0.1, 0.6, 0.2, 0.1]),  # somebody else, target second
        ("dan", "bob", [0.1, 0.2, 0.3, 0.4]),  # the source, target third
    ]
    judgements = [SpeakerPrediction(a, b, torch.tensor(p).log()) for a, b, p in said]
    found = {
        name: figure["mean"] for name, figure in summarize_predictions(judgements, names).items()
    }
    assert found == {
        "target": 0.25,  # half of ann's, none of dan's
        "source": 0.5,
        "other_speaker": 0.25,
        "target_over_source": 0.5,
        "target_rank": (1.5 + 3) / 2,
    }


def test_every_speaker_counts_alike_whatever_there_is_of_them():
    tallies = [
        UtteranceMetric("ann", 3, 4),
        UtteranceMetric("ann", 0, 2),
        UtteranceMetric("bob", 1, 1),
    ]
    found = average_over_speakers(tallies)
    assert (found["mean"], found["ci95"]) == estimate_mean([0.5, 1.0])
    assert (found["num_speakers"], found["num_tallies"]) == (2, 3)


@pytest.mark.parametrize(
    ("group", "told"), [("trained_conditional", True), ("trained_unconditional", False)]
)
def test_the_metrics_of_reconstructions_are_those_of_decoding_each_by_hand(
    group, told, recorded_files, results
):
    vqvae, expected = vqvideo.load(recorded_files["model"]).vqvae.eval(), {}
    for speaker in KNOWN:
        x = read_samples(Path(recorded_files["data"]) / f"{speaker}3.wav")
        again = reconstruct_by_hand(vqvae, x, speaker if told else None)
        whole = x[:, : LENGTH // STRIDE * STRIDE]
        cond = Cond(speaker=torch.tensor([KNOWN.index(speaker)])) if told else None
        logits = vqvae(whole[None], cond).parameters[0].log_softmax(dim=0)
        levels = ((mu_law_compress(whole) + 1) * 127.5).round().long()
        bits = -logits.gather(0, levels).mean().item() / math.log(2)
        y, z = x - x.mean(), again - again.mean()
        part = (z * y).sum() / y.square().sum() * y
        ratio = 10 * (part.square().sum() / (z - part).square().sum()).log10().item()
        distance = mel_distance(x, again, RATE).item()
        for name, value in zip(
            ("mel_distance", "si_snr_db", "bits_per_sample"), (distance, ratio, bits), strict=True
        ):
            expected.setdefault(name, []).append(value)
    found = results[1]["reconstruction"][group]
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name]["mean"] == pytest.approx(sum(values) / 3, rel=1e-3), name
    assert results[1]["values"] == "256 mu-law levels"


def test_conversions_are_judged_as_decoding_each_by_hand_is(recorded_files, results):
    voices = train_classifier(recorded_files)
    vqvae, shares = vqvideo.load(recorded_files["model"]).vqvae.eval(), []
    assert results[1]["targets"] == ["ann", "cleo"]
    for source in ("xena", "yan"):
        for number in (2, 3):  # the second half
            x = read_samples(Path(recorded_files["unseen"]) / f"{source}{number}.wav")
            for target in ("ann", "cleo"):
                print_ = compute_speaker_embedding(reconstruct_by_hand(vqvae, x, target), RATE)
                said = voices.predict_log_probs(print_[None])[0]
                nats = dict(zip(voices.speaker_names, said.tolist(), strict=True))
                shares.append((nats[target] > nats[source], nats, target))
    found = results[1]["conversion"]["converted"]
    assert found["target_over_source"]["mean"] == sum(share for share, *_ in shares) / 8
    ranks = [sorted(p.values(), reverse=True).index(p[target]) + 1 for _, p, target in shares]
    assert found["target_rank"]["mean"] == sum(ranks) / 8
    assert found["target"]["mean"] == sum(max(p, key=p.get) == t for _, p, t in shares) / 8


def train_classifier(recorded_files):
    """The classifier, trained on the recordings that it should be trained on."""
    named = [(s, f"{recorded_files['data']}/{s}{i}.wav") for s in KNOWN for i in (0, 1, 2)]
    named += [
        (s, f"{recorded_files['unseen']}/{s}{i}.wav") for s in ("xena", "yan") for i in (0, 1)
    ]
    prints = torch.stack([compute_speaker_embedding(read_samples(path), RATE) for _, path in named])
    return SpeakerClassifier(prints, [speaker for speaker, _ in named])


def test_recordings_of_unseen_speakers_are_judged_as_their_own(results):
    found = {name: figure["mean"] for name, figure in results[1]["conversion"]["original"].items()}
    assert (found["source"], found["target"], found["target_over_source"]) == (1, 0, 0)
    for shares in results[1]["conversion"].values():
        in_all = sum(shares[name]["mean"] for name in ("target", "source", "other_speaker"))
        assert in_all == pytest.approx(1)


def test_phones_are_counted_frame_by_frame_without_silence(recorded_files, results):
    vqvae, rights, sames = vqvideo.load(recorded_files["model"]).vqvae.eval(), [], []
    for source in ("xena", "yan"):
        right, same = [], []
        for number in (2, 3):
            x = read_samples(Path(recorded_files["unseen"]) / f"{source}{number}.wav")
            sounds = [x, *(reconstruct_by_hand(vqvae, x, target) for target in ("ann", "cleo"))]
            filled = [F.pad(y, (0, -LENGTH % STRIDE), mode="replicate")[None] for y in sounds]
            before, *after = (vqvae.encode(y)[0].tolist() for y in filled)
            for codes in after:
                for frame, (code, old) in enumerate(zip(codes, before, strict=True)):
                    middle = (frame + 0.5) * STRIDE / RATE
                    said = [s.label for s in SEGMENTS if s.start <= middle < s.end]
                    if said and said != ["SIL"]:
                        right.append(said == [("AA", "IY")[code % 2]])
                        same.append(code % 2 == old % 2)
        rights.append(sum(right) / len(right))
        sames.append(sum(same) / len(same))
    found = results[1]["phones"]["converted"]
    assert found["accuracy"]["mean"] == pytest.approx(sum(rights) / 2)
    assert found["code_agreement"]["mean"] == pytest.approx(sum(sames) / 2)
    assert results[1]["phones"]["original"]["code_agreement"]["mean"] == 1


def test_the_folder_holds_metrics_a_plot_and_audio_as_long_as_the_recordings(results):
    paths, figures, _ = results
    assert {path.name for path in paths} == {"speech.json", PLOT_FILE, *AUDIO_FILES}
    stored = json.loads(paths[0].read_text())
    assert stored["reconstruction"].keys() == figures["reconstruction"].keys()
    assert [example["original"] for example in stored["examples"]] == [
        "bob, trained speaker, test split: recording",
        "yan, unseen speaker: recording",
    ]
    assert stored["examples"][0]["conversion_a"] == "conversion to ann"
    assert media.read_image(paths[1]).shape[0] == 3
    assert {media.read_audio(path).samples.shape[1] for path in paths[2:]} == {LENGTH}


def test_the_command_prints_tables_or_json_and_respects_its_limits(
    recorded_files, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speech, "plot_spectrograms", lambda path, *_: path.touch())  # slow
    given = [
        "--model",
        recorded_files["model"],
        "--data",
        recorded_files["data"],
        "--unseen",
        recorded_files["unseen"],
    ]
    given += ["--max-utterances", "1", "--num-targets", "1"]
    assert main(["speech", *given]) == 0
    printed = capsys.readouterr().out
    assert "1 utterances of trained speakers, 1 of unseen speakers" in printed
    assert "bits refer to 256 mu-law levels" in printed
    assert "\nconversion  " in printed
    assert "no phones: the model has no phone map" in printed
    assert "outputs/speech/speech.png" in printed
    assert main(["speech", *given, "--overwrite", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_held_out"], found["num_unseen"], found["phones"]) == (1, 1, None)
    assert main(["speech", *given]) == 1
    assert "give another --out or --overwrite" in capsys.readouterr().err


def test_the_table_has_means_and_half_of_their_intervals(results):
    found = json.loads(json.dumps(results[1]))
    found["reconstruction"]["trained_conditional"]["si_snr_db"] = {
        "mean": -30.0,
        "ci95": [-31.0, -29.0],
    }
    lines = format_speech_table(found).split("\n")
    assert any(
        line.startswith("trained speakers, conditional") and "-30.0 ± 1.0" in line for line in lines
    )
    assert any(line.startswith("recording") and "100.0 ± 0.0 %" in line for line in lines)


def test_progress_counts_every_file_and_every_decoding(results):
    heard, decoded = results[2][:20], results[2][20:]
    assert heard == [(number, 20) for number in range(1, 21)]  # 12 of data, 8 of others
    in_all = 2 * 3 + (1 + 2) * 4 + 2 * 3
    assert decoded == [(number, in_all) for number in range(1, in_all + 1)]


def test_of_an_unseen_speaker_the_first_half_is_heard_and_the_second_measured(recorded_files):
    found = split_recordings(recorded_files["data"], recorded_files["unseen"], KNOWN)
    names = [[item.path.stem for item in items] for items in found]
    assert names[0][9:] == ["xena0", "xena1", "yan0", "yan1"]
    assert names[1:] == [["ann3", "bob3", "cleo3"], ["xena2", "xena3", "yan2", "yan3"]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"unseen": ["xena", "bob"]},
            "must not contain speakers of --data or of the model, got bob",
        ),
        ({"data": ["ann", "zoe"]}, "the model knows no speaker 'zoe'; --data must only contain"),
        ({"data": ["ann"], "number": 1, "tests": 0}, "has 1 files but no separate test split"),
        ({"data": ["ann"], "number": 2, "tests": 2}, "has 2 files but no separate train split"),
        ({"unseen": ["xena"], "number": 1}, "xena0.wav is the only file of 'xena' in --unseen"),
    ],
    ids=str,
)
def test_recordings_that_cannot_be_measured_are_refused(changes, reason, recorded_files, tmp_path):
    counts = {name: changes.pop(name) for name in ("number", "tests") if name in changes}
    made = {name: record(tmp_path / name, who, **counts) for name, who in changes.items()}
    with pytest.raises(ValueError, match=reason):
        benchmark_speech(
            SpeechBenchmarkConfig(**{**recorded_files, **made}, num_targets=1),
            out=str(tmp_path / "out"),
        )
    assert not (tmp_path / "out").exists()


def test_a_speaker_without_files_for_training_or_without_a_name_is_refused(tmp_path):
    for name, speakers in (("data", ["ann", "bob"]), ("unseen", ["xena"])):
        record(tmp_path / name, speakers)
    items = [Item(tmp_path / "data" / f"ann{i}.wav", "test", speaker="ann") for i in (2, 3)]
    others = [Item(tmp_path / "data" / f"bob{i}.wav", speaker="bob") for i in (2, 3)]
    write_metadata(tmp_path / "data", [*items, *others])
    with pytest.raises(ValueError, match="all files of 'ann' in --data are in the test split"):
        split_recordings(str(tmp_path / "data"), str(tmp_path / "unseen"), KNOWN)
    nobody = dataclasses.replace(others[0], speaker=None)
    write_metadata(tmp_path / "data", [*items, nobody])
    with pytest.raises(
        ValueError, match=r"bob2\.wav has no speaker; set \"speaker\" for every file"
    ):
        split_recordings(str(tmp_path / "data"), str(tmp_path / "unseen"), KNOWN)


def test_models_maps_and_numbers_that_do_not_fit_are_refused(recorded_files, tmp_path):
    deaf = build_model(tmp_path / "deaf", cond={"num_speakers": 0, "speaker_names": ()})
    for changes, reason in (
        ({"model": deaf}, "is not conditioned on the speaker, so it has no voices to convert to"),
        ({"num_targets": 4}, "num_targets is 4, but --data has 3 speakers"),
    ):
        with pytest.raises(ValueError, match=reason):
            benchmark_speech(
                SpeechBenchmarkConfig(**{**recorded_files, **changes}), out=str(tmp_path / "out")
            )
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.json"):
        benchmark_speech(
            SpeechBenchmarkConfig(**{**recorded_files, "phone_map": "nowhere.json"}, num_targets=1),
            out=str(tmp_path / "out"),
        )
    for name in ("max_utterances", "num_targets"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            SpeechBenchmarkConfig(**recorded_files, **{name: 0})


@pytest.mark.parametrize(
    ("slow", "given", "most"), [(True, None, 8), (True, 3, 3), (False, None, None)]
)
def test_eight_utterances_are_measured_where_decoding_is_slow_and_nobody_says(slow, given, most):
    likelihood = CategoricalLikelihood()
    likelihood.is_autoregressive = slow
    assert speech._limit_utterances(likelihood, given) == most
