"""`vqvideo phonemes`: every figure counted again by hand, what it leaves, and what it refuses."""

import json
import math
import random
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.data.metadata import Item, Segment, read_metadata, write_metadata
from vqvideo.generator import Generator
from vqvideo.recipes.speech.phonemes import OUTPUT_FILES, learn_phones
from vqvideo.recipes.speech.phonemes_metrics import (
    LabelledFrames,
    compute_phone_metrics,
    count_splits,
    map_codes_to_labels,
)
from vqvideo.recipes.speech.transcribe import transcribe

pytest.importorskip("matplotlib")

RATE, STRIDE = 16000, 64
TONES = {"AA": 0.05, "IY": 0.4, "S": 1.9, "SIL": 0.0}  # radians per sample
LABELS = ["AA", "IY", "S", "SIL"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


NET = {"name": "conv", "width": 8, "num_blocks": 1}
QUANTIZER = {"name": "ema", "codebook_size": 16, "init": "data", "warmup_steps": 1}
SMALL = {
    "encoder": NET,
    "decoder": NET,
    "quantizer": {**QUANTIZER, "code_dim": 4},
    "likelihood": "gaussian",
    "strides": [[2]] * 6,
    "rate": RATE,
}


def build_model(folder, **changes):
    """A small untrained model, its codebook begun with vectors of all tones, in a folder."""
    torch.manual_seed(0)
    generator = vqvideo.build("audio", **{**SMALL, **changes})
    tones = [torch.sin(torch.arange(1280) * step)[None] * 0.5 for step in TONES.values()]
    generator.vqvae.train()(torch.stack(tones))
    generator.vqvae.quantizer.update_codebook()
    vqvideo.save(Generator(generator.vqvae, None, generator.config), folder)
    return str(folder)


def write_speech(folder, speakers, *, labels=LABELS, seed=0):
    """A file for each speaker and split: tones of a few milliseconds, with their segments."""
    folder.mkdir()
    draw, items = random.Random(seed), []
    for number, (speaker, split) in enumerate(speakers):
        pieces, segments, begun = [], [], 0
        for _ in range(30):
            label, length = draw.choice(labels), draw.randrange(200, 900)
            loud = draw.uniform(0.3, 0.6)
            pieces.append(loud * torch.sin(torch.arange(length) * TONES.get(label, 0.1)))
            if draw.random() < 0.9:  # the rest has no label
                segments.append(Segment(begun / RATE, (begun + length) / RATE, label))
            begun += length
        path = folder / f"{number}.wav"
        media.write_audio(path, torch.cat(pieces)[None], RATE)
        items.append(Item(path, split, speaker=speaker, segments=tuple(segments)))
    write_metadata(folder, items)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    speakers = [("p1", "train"), ("p2", "train"), ("p2", "test"), ("p3", "test"), ("p4", "test")]
    return write_speech(tmp_path_factory.mktemp("data") / "speech", speakers)


@pytest.fixture(scope="module")
def learned_map(model, speech, tmp_path_factory):
    """What learning left: files and figures."""
    out = tmp_path_factory.mktemp("out") / "deep" / "phonemes"
    return learn_phones(model=model, data=speech, out=str(out))


def read_pairs(model, folder, split, *, silence):
    """Pairs of code and label by speaker, one frame after the other."""
    vqvae, found = vqvideo.load(model).vqvae, {}
    for item in read_metadata(folder):
        samples = media.read_audio(item.path).samples
        whole = math.ceil(samples.shape[1] / STRIDE) * STRIDE
        filled = torch.cat([samples, samples[:, -1:].expand(1, whole - samples.shape[1])], dim=1)
        for frame, code in enumerate(vqvae.encode(filled[None])[0].tolist()):
            middle = (frame + 0.5) * STRIDE / RATE
            for start, end, label in item.segments:
                if item.split == split and start <= middle < end and label not in silence:
                    found.setdefault(item.speaker, []).append((code, label))
    return found


def map_codes(pairs, size=16):
    """The most frequent label of each code, by a loop."""
    over_all = Counter(label for _, label in pairs)
    commonest = min(over_all, key=lambda label: (-over_all[label], label))
    phones = []
    for code in range(size):
        heard = Counter(label for each, label in pairs if each == code)
        best = min(heard, key=lambda label: (-heard[label], label)) if heard else commonest
        phones.append(best)
    return phones, commonest


def compute_entropy_bits(things):
    shares = [count / len(things) for count in Counter(things).values()]
    return -sum(share * math.log2(share) for share in shares)


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "silence"), [("", {"SIL"}), ("_with_silence", set())])
def test_all_metrics_are_those_of_a_loop_over_the_frames(
    learned_map, model, speech, ending, silence
):
    files, figures = learned_map
    train = [*chain(*read_pairs(model, speech, "train", silence=silence).values())]
    of_speaker = read_pairs(model, speech, "test", silence=silence)
    test = [*chain(*of_speaker.values())]
    phones, commonest = map_codes(train)
    stored = json.loads(files[0].read_text())
    assert stored["phones" + ending] == phones
    assert len(set(phones)) > 1  # a map of one phone would test little

    figure = {name: figures[name + ending] for name in figures if name + ending in figures}
    right = sum(phones[code] == label for code, label in test)
    assert figure["accuracy"] == pytest.approx(right / len(test))
    assert (figure["num_frames"], figure["num_train_frames"]) == (len(test), len(train))
    assert figure["num_labels"] == len({label for _, label in test})
    assert figure["num_codes_used"] == len({code for code, _ in test})
    assert figure["majority_phone"] == commonest
    baseline = sum(label == commonest for _, label in test) / len(test)
    assert figure["majority_accuracy"] == pytest.approx(baseline)
    assert figure["times_majority"] == pytest.approx(right / len(test) / baseline)
    drawn = sum(phones[code] == label for code, _ in test for _, label in test) / len(test) ** 2
    assert figure["random_codes_accuracy"] == pytest.approx(drawn)
    assert figure["times_random_codes"] == pytest.approx(right / len(test) / drawn)
    codes, labels = zip(*test, strict=True)
    bits = compute_entropy_bits(codes) + compute_entropy_bits(labels) - compute_entropy_bits(test)
    assert figure["mutual_information_bits"] == pytest.approx(bits)
    assert figure["phone_entropy_bits"] == pytest.approx(compute_entropy_bits(labels))
    for label, found in figure["recall"].items():
        here = [code for code, each in test if each == label]
        share = sum(phones[code] == label for code in here) / len(here)
        assert found == {"recall": pytest.approx(share), "num_frames": len(here)}
    counts = [found["num_frames"] for found in figure["recall"].values()]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == len(test)
    each = [
        sum(phones[code] == label for code, label in pairs) / len(pairs)
        for pairs in of_speaker.values()
    ]
    over = figure["accuracy_over_speakers"]
    assert over["mean"] == pytest.approx(sum(each) / 3)
    spread = math.sqrt(sum((value - sum(each) / 3) ** 2 for value in each) / 2)
    assert over["ci95"][1] - over["mean"] == pytest.approx(4.30265 * spread / math.sqrt(3))
    assert over["num_speakers"] == 3


def test_speaker_and_options_stand_beside_the_metrics(learned_map, model, speech):
    files, figures = learned_map
    assert [file.name for file in files] == list(OUTPUT_FILES)
    assert (figures["num_speakers"], figures["num_speakers_shared"]) == (3, 1)
    assert (figures["num_train_files"], figures["num_test_files"]) == (2, 3)
    assert (figures["silence"], figures["seconds_per_frame"]) == (["SIL"], STRIDE / RATE)
    assert (figures["data"], figures["test_data"], figures["model"]) == (speech, speech, model)
    assert json.loads(files[1].read_text()) == json.loads(json.dumps(figures))
    stored = json.loads(files[0].read_text())
    assert stored["fingerprint"] == vqvideo.load(model).vqvae.fingerprint()
    assert stored["labels"] == LABELS
    assert "SIL" not in stored["phones"]
    for file in files[3:]:
        _, height, width = media.read_image(file).shape
        assert min(height, width) > 100
    page = files[2].read_text()
    assert f"{figures['accuracy']:.1%}" in page
    assert "3 speakers are named in the test files; 1 of them is in the training files too." in page
    assert page.count("data:image/png;base64,") == 2


def make_frames(pairs, speaker=None):
    codes, labels = zip(*pairs, strict=True)
    return LabelledFrames(torch.tensor(codes), list(labels), speaker)


def test_of_equally_frequent_phones_the_first_by_name_is_taken_and_unseen_codes_are_commonest():
    train = make_frames([(0, "T"), (0, "AH"), (1, "T"), (1, "T"), (2, "S"), (2, "S")])
    split = count_splits([train], [train], codebook_size=4)
    assert [split.labels[index] for index in map_codes_to_labels(split.train)] == [
        "AH",
        "T",
        "S",
        "T",
    ]


def test_the_accuracy_of_random_codes_is_what_sampling_them_comes_to():
    draw = random.Random(0)
    pairs = [(draw.choices(range(6), range(1, 7))[0], draw.choice("AABC")) for _ in range(40)]
    split = count_splits([make_frames(pairs)], [make_frames(pairs)], codebook_size=6)
    phones, _ = map_codes(pairs, 6)
    codes, labels = zip(*pairs, strict=True)
    hits = [phones[draw.choice(codes)] == draw.choice(labels) for _ in range(100_000)]
    expected = sum(hits) / len(hits)
    assert compute_phone_metrics(split)["random_codes_accuracy"] == pytest.approx(
        expected, abs=0.01
    )


def test_a_label_that_training_lacks_is_counted_as_wrong_and_named():
    train, test = (
        make_frames([(0, "A"), (1, "B")]),
        make_frames([(0, "A"), (0, "ZH"), (1, "ZH"), (1, "B")]),
    )
    figures = compute_phone_metrics(count_splits([train], [test], codebook_size=2))
    assert figures["accuracy"] == 0.5
    assert figures["labels_unseen_in_training"] == ["ZH"]
    assert figures["recall"]["ZH"] == {"recall": 0.0, "num_frames": 2}


def test_a_ratio_to_nothing_is_none_and_without_names_there_is_no_interval():
    figures = compute_phone_metrics(
        count_splits([make_frames([(0, "A")])], [make_frames([(0, "B")])], codebook_size=2)
    )
    assert figures["times_majority"] is figures["times_random_codes"] is None
    assert figures["accuracy_over_speakers"] is None
    assert figures["mutual_information_bits"] == 0


def test_uninformative_codes_have_no_mutual_information_and_perfect_codes_the_entropy():
    nothing = make_frames([(code, label) for code in (0, 1) for label in "ABCD"])
    everything = make_frames([(code, "ABCD"[code]) for code in range(4)])
    for test, bits in ((nothing, 0.0), (everything, 2.0)):
        figures = compute_phone_metrics(count_splits([test], [test], codebook_size=4))
        assert figures["mutual_information_bits"] == pytest.approx(bits, abs=1e-12)


def test_the_test_split_of_another_folder_may_be_counted_on(model, speech, tmp_path):
    other = write_speech(tmp_path / "other", [("p9", "test"), ("p1", "train")], labels=["AA", "ZH"])
    files, figures = learn_phones(model=model, data=speech, test_data=other)
    assert files[0] == Path("outputs/phonemes/phones.json")
    assert (figures["num_test_files"], figures["num_train_files"]) == (1, 2)
    assert (figures["num_speakers"], figures["num_speakers_shared"]) == (1, 0)
    assert figures["accuracy_over_speakers"]["ci95"] is None
    assert figures["labels_unseen_in_training"] == ["ZH"]
    assert "No training frame has ZH, so every test frame" in files[2].read_text()
    assert "ZH" not in json.loads(files[0].read_text())["labels"]


def test_several_labels_may_be_silence(model, speech):
    _, figures = learn_phones(model=model, data=speech, silence=["SIL", "S"])
    assert set(figures["recall"]) == {"AA", "IY"}
    assert set(figures["recall_with_silence"]) == set(LABELS)


@pytest.mark.slow
def test_a_file_is_written_in_runs_of_equal_phones(model, learned_map, capsys):
    stored = json.loads(learned_map[0][0].read_text())
    sound = torch.cat([torch.sin(torch.arange(2000) * step) * 0.5 for step in (0.05, 1.9)])[:3990]
    media.write_audio("hello.wav", sound[None], RATE)
    command = ["phonemes", "hello.wav", "--model", model, "--phone-map", str(learned_map[0][0])]
    assert main(command) == 0
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()]
    folder = Path("outputs/phonemes/hello")
    assert printed.err.split() == [f"{folder}/phonemes.json", f"{folder}/phonemes.png"]

    samples = torch.cat([media.read_audio("hello.wav").samples, torch.zeros(1, 42)], dim=1)
    samples[:, 3990:] = samples[:, 3989]
    codes = vqvideo.load(model).vqvae.encode(samples[None])[0].tolist()
    phones = [stored["phones_with_silence"][code] for code in codes]
    seconds = [STRIDE / RATE * frame for frame in range(len(codes))] + [3990 / RATE]
    expected = []
    for frame, phone in enumerate(phones):
        if frame and phones[frame - 1] == phone:
            expected[-1][1] = seconds[frame + 1]
        else:
            expected.append([seconds[frame], min(seconds[frame + 1], 3990 / RATE), phone])
    assert rows == [[f"{start:.3f}", f"{end:.3f}", phone] for start, end, phone in expected]
    assert len({phone for *_, phone in expected}) > 1
    written = json.loads((folder / "phonemes.json").read_text())
    assert written["codes"] == codes
    for found, run in zip(written["segments"], expected, strict=True):
        assert found == [pytest.approx(run[0]), pytest.approx(run[1]), run[2]]
    _, height, width = media.read_image(folder / "phonemes.png").shape
    assert width > height

    line = json.dumps({"file": "hello.wav", "segments": written["segments"]})
    Path("metadata.jsonl").write_text(line)  # they are in the form of labels
    assert [list(each) for each in read_metadata(".")[0].segments] == written["segments"]

    assert main([*command, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == written["segments"]


@pytest.mark.slow
def test_the_map_in_the_folder_of_a_model_is_its_own(tmp_path, model, learned_map, speech):
    with pytest.raises(
        FileNotFoundError, match=r"no file .*phones.json, the map .* to phones; learn it with vqv"
    ):
        transcribe(f"{speech}/0.wav", model=model)
    own = build_model(tmp_path / "own")
    (tmp_path / "own" / "phones.json").write_bytes(learned_map[0][0].read_bytes())
    assert transcribe(f"{speech}/0.wav", model=own)[1]["map"] == f"{own}/phones.json"


@pytest.mark.slow
def test_silent_and_long_audio_can_be_plotted(model, learned_map, monkeypatch):
    monkeypatch.setattr("vqvideo.recipes.speech.phonemes_plots.MAX_ROWS", 2)
    media.write_audio("short.wav", torch.zeros(1, STRIDE), RATE)
    media.write_audio("long.wav", torch.zeros(1, STRIDE * 101), RATE)
    for name, number in (("short", 1), ("long", 101)):
        map_of = {"model": model, "phone_map": str(learned_map[0][0])}
        files, figures = transcribe(f"{name}.wav", out=name, **map_of)
        assert len(figures["codes"]) == number
        assert files[1].is_file()


def require_refusal(capsys, *arguments):
    """Run the command, which must fail with one line and leave nothing."""
    assert main(["phonemes", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert not Path("outputs").exists()
    return printed.err


def test_a_command_line_that_makes_no_sense_is_answered_with_what_to_give(model, speech, capsys):
    given = ["--model", model]
    message = "give either --data FOLDER, to learn the phone of each code, or FILE, to transcribe;"
    assert f"{message} got neither" in require_refusal(capsys, *given)
    assert f"{message} got both" in require_refusal(capsys, "a.wav", "--data", speech)
    assert "--phone-map is for FILE" in require_refusal(
        capsys, "--data", speech, "--phone-map", "x", *given
    )
    for more in (["--test-data", speech], ["--silence", "SIL"]):
        assert "are for --data, not for FILE" in require_refusal(capsys, "a.wav", *more, *given)


def test_speech_that_nothing_can_be_learnt_from_is_refused(model, speech, tmp_path, capsys):
    given = ["--model", model, "--data"]
    said = require_refusal(capsys, *given, speech, "--silence", "sil")
    assert "--silence 'sil' is not a label of any segment; the labels are: AA IY S SIL" in said
    nothing = ["--silence", "AA", "--silence", "IY", "--silence", "S", "--silence", "SIL"]
    said = require_refusal(capsys, *given, speech, *nothing)
    assert "no training frame has a label other than silence; see --silence" in said
    only = write_speech(tmp_path / "only", [("p1", "train")])
    assert "0.wav is in the train split and in the test" in require_refusal(capsys, *given, only)
    plain = tmp_path / "plain"
    plain.mkdir()
    media.write_audio(plain / "a.wav", torch.zeros(1, 640), RATE)
    assert "none of them has segments; its metadata.jsonl" in require_refusal(
        capsys, *given, str(plain)
    )
    media.write_audio(plain / "b.wav", torch.zeros(1, 40), RATE)
    label = (Segment(0.0, 0.1, "AA"),)
    items = [Item(plain / "b.wav", segments=label), Item(plain / "a.wav", "test", segments=label)]
    write_metadata(plain, items)
    said = require_refusal(capsys, *given, str(plain))
    assert "b.wav lasts 0.0025 s, less than a code of the model (0.0040 s); give a longer" in said


def test_a_file_that_cannot_be_transcribed_is_refused(model, learned_map, capsys):
    given = ["--model", model, "--phone-map", str(learned_map[0][0])]
    assert "missing.wav" in require_refusal(capsys, "missing.wav", *given)
    media.write_audio("short.wav", torch.zeros(1, 63), RATE)
    assert "short.wav lasts 0.0039 s, less than a code" in require_refusal(
        capsys, "short.wav", *given
    )
    Path("empty.wav").touch()
    assert "empty.wav" in require_refusal(capsys, "empty.wav", *given)
    said = require_refusal(capsys, "short.wav", "--model", model, "--phone-map", "none.json")
    assert "no file none.json" in said


def test_a_map_of_another_model_or_of_no_model_is_refused(
    model, learned_map, speech, tmp_path, capsys
):
    stored = json.loads(learned_map[0][0].read_text())
    other = build_model(tmp_path / "other", quantizer={**QUANTIZER, "code_dim": 5})
    file, given = f"{speech}/0.wav", ["--phone-map", "map.json"]

    def said(model, text):
        Path("map.json").write_text(text)
        return require_refusal(capsys, file, *given, "--model", model)

    answer = said(other, json.dumps(stored))
    assert f"map.json was learnt from the codes of another model than {other}; learn " in answer
    assert f"vqvideo phonemes --data FOLDER --model {other}" in answer
    assert "map.json is not JSON" in said(model, "{")
    assert "map.json must have exactly the keys fingerprint, seconds_per_frame" in said(model, "{}")
    short = {**stored, "phones": stored["phones"][1:]}
    assert "expected a phone for each of 16 codes" in said(model, json.dumps(short))
    odd = {**stored, "phones": [1] * 16}
    assert "expected 'phones' to be a list of labels" in said(model, json.dumps(odd))


def test_models_whose_codes_are_not_one_after_the_other_are_refused(speech, tmp_path, capsys):
    several = {"name": "residual", "num_codebooks": 2, "part": QUANTIZER}
    twice = build_model(tmp_path / "twice", quantizer=several)
    said = require_refusal(capsys, "--data", speech, "--model", twice)
    assert f"mapped to a phone, so --model must have one codebook; {twice} has 2" in said
    said = require_refusal(capsys, "--data", speech, "--model", "image")
    assert "speech needs an audio model, with codes of rank 1; image has rank 2" in said


@pytest.mark.slow
def test_what_is_there_is_kept_by_default(model, speech, capsys):
    command = ["phonemes", "--data", speech, "--model", model, "--out", "there"]
    Path("there").mkdir()
    Path("there/codes.png").write_text("mine")
    assert main(command) == 1
    assert "codes.png exists; give another --out or --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("accuracy: 0.")
    assert out[-len(OUTPUT_FILES) :] == [f"there/{name}" for name in OUTPUT_FILES]
    assert main([*command, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_test_files"] == 3


def test_without_matplotlib_no_work_is_started(model, speech, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'vqvideo[report]'" in require_refusal(
        capsys, "--data", speech, "--model", model
    )
