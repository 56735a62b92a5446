"""A first stage of sound whose decoder is told who speaks, from a folder of files to a run."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.cond import Cond, CondSpec
from vqvideo.data.clips import ClipDataset
from vqvideo.spectra import render_spectrogram
from vqvideo.training.previews import write_audio_previews
from vqvideo.training.trainer import Trainer

pytestmark = pytest.mark.slow

RATE, LENGTH = 16000, 2560
SPEAKERS = ("cleo", "ann", "bob")  # as the files name them; numbered in order of their names
SMALL = [
    "sample_shape=[1280]",
    "encoder.width=6",
    "encoder.num_blocks=1",
    "encoder.num_mel_bins=12",
    "decoder.width=6",
    "decoder.num_blocks=1",
    "quantizer.codebook_size=5",
    "quantizer.code_dim=4",
    "quantizer.warmup_steps=2",
]


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Nine files of hums, the pitch of each speaker their own; of each two to train on, or one."""
    folder = tmp_path_factory.mktemp("speech")
    lines = []
    for number in range(9):
        who = number % 3
        time = torch.arange(LENGTH + 300 * number) / RATE
        pitch = (110, 190, 310)[who] + 5 * number
        hum = sum(torch.sin(2 * math.pi * pitch * k * time) / k for k in (1, 2, 3))
        media.write_audio(folder / f"{number}.wav", 0.3 * hum[None], RATE)
        split = "test" if number in (2, 4, 6) else "train"
        row = {"file": f"{number}.wav", "split": split, "speaker": SPEAKERS[who]}
        lines.append(json.dumps({**row, "class": "hum" if number < 4 else "ham"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def run_command(data, out, *more, condition_on=("speaker",)):
    line = ["train-vqvae", "--model", "audio-25hz", "--data", str(data), "--out", str(out)]
    line += ["--batch-size", "3", "--steps", "4", "--eval-every", "2", "--precision", "fp32"]
    told = [word for what in condition_on for word in ("--condition-on", what)]
    return [*line, *(f"--set={each}" for each in SMALL), *told, *more]


@pytest.fixture(scope="module")
def run(speech, tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(run_command(speech, out)) == 0
    return out


def test_the_model_knows_how_many_speak_and_their_names(run):
    told = json.loads((run / "model" / "config.json").read_text())["model"]["cond"]
    assert told == {"num_speakers": 3, "speaker_names": ["ann", "bob", "cleo"]}
    generator = vqvideo.load(run)
    names = ("ann", "bob", "cleo")
    assert generator.vqvae.cond == CondSpec(num_speakers=3, speaker_names=names)
    x = torch.randn(1, 1, 1280).clamp(-1, 1)
    codes = generator.vqvae.encode(x)
    each = [generator.vqvae.decode(codes, Cond(speaker=torch.tensor([n]))) for n in range(3)]
    assert not torch.equal(each[0], each[1])


def test_a_stopped_run_resumes_bit_for_bit(run, speech, tmp_path, monkeypatch):
    asked = []

    def should_stop(self, signals):
        asked.append(1)
        return len(asked) == 3  # of four steps

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "should_stop", should_stop)
        assert main(run_command(speech, out)) == 130
    assert main(run_command(speech, out, "--resume")) == 0
    whole, again = (load_file(each / "model" / "model.safetensors") for each in (run, out))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_originals_sound_before_their_reconstructions_and_stand_above_them(run, speech):
    heard = media.read_audio(run / "reconstructions.wav")
    sheet = media.read_image(run / "reconstructions.png")
    held_out = ClipDataset(speech, (1280,), split="test", sample_rate=RATE)
    assert len(held_out) > 4
    number = 4
    assert heard.samples.shape == (1, number * 2 * 1280)
    assert heard.sample_rate == RATE
    width = 2 * 8  # 1,280 samples are 8 hundredths of a second, two pixels each
    assert sheet.shape[1] >= 2 * 160 and sheet.shape[2] >= number * width
    generator = vqvideo.load(run)
    for item in range(number):  # the first ones
        start = item * 2 * 1280
        original = heard.samples[:, start : start + 1280]
        torch.testing.assert_close(original, held_out[item]["x"], atol=1e-4, rtol=0)
        told = Cond(speaker=held_out[item]["speaker"][None])
        codes = generator.vqvae.encode(held_out[item]["x"][None])
        again = generator.vqvae.decode(codes, told)[0]
        after = heard.samples[:, start + 1280 : start + 2560]
        torch.testing.assert_close(after, again, atol=1e-3, rtol=1e-3)


def test_audio_of_every_row_is_written_item_by_item(tmp_path):
    rows = [torch.full((3, 1, 800), value) for value in (0.5, -0.25)]
    small = write_audio_previews(tmp_path, "samples", rows, 8000.0)["samples"]
    heard = media.read_audio(tmp_path / "samples.wav")
    assert heard.sample_rate == 8000
    each = heard.samples.reshape(3, 2, 800)
    torch.testing.assert_close(each[:, 0], torch.full((3, 800), 0.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(each[:, 1], torch.full((3, 800), -0.25), atol=1e-4, rtol=0)
    picture = render_spectrogram(rows[0][:1, 0], 8000)[0, 0]
    assert small.shape == (2 * 160, picture.shape[1], 3)
    assert (media.from_uint8(small[:160, :, 0]) - picture).abs().max() < 0.01
    sheet = media.read_image(tmp_path / "samples.png")  # as large as it can well be seen
    height, width = sheet.shape[1] - 2, sheet.shape[2] - 2 * 2
    assert (height % (2 * 160), height // (2 * 160)) == (0, width / (3 * picture.shape[1]))


def test_the_log_has_no_psnr_of_what_nobody_sees(run):
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all("val_loss" in row for row in rows)
    assert not any("psnr" in name for row in rows for name in row)


def test_a_decoder_may_be_conditioned_on_a_class_too(speech, tmp_path):
    out = tmp_path / "run"
    assert main(run_command(speech, out, "--steps", "1", condition_on=("class", "speaker"))) == 0
    names = {"class_names": ("ham", "hum"), "speaker_names": ("ann", "bob", "cleo")}
    told = vqvideo.load(out).vqvae.cond
    assert told == CondSpec(num_classes=2, num_speakers=3, **names)


def test_data_that_does_not_say_who_speaks_is_refused_before_any_work(speech, tmp_path, capsys):
    silent = shutil.copytree(speech, tmp_path / "speech")
    rows = [json.loads(line) for line in (silent / "metadata.jsonl").read_text().splitlines()]
    del rows[4]["speaker"]  # of one file nobody knows
    for row in rows:
        row.pop("class")
    (silent / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for what in ("speaker", "class"):
        assert main(run_command(silent, tmp_path / "run", condition_on=(what,))) == 1
        said = capsys.readouterr().err
        assert (
            f"--condition-on {what} needs a {what} for every file; add '{what}' to the metadata"
            in said
        )
        assert not (tmp_path / "run" / "model").exists()


def test_a_model_conditioned_by_a_change_alone_needs_data_with_that_condition(
    speech, tmp_path, capsys
):
    out = tmp_path / "run"
    told = "--set=cond.num_speakers=4"
    assert main(run_command(speech, out, told, "--steps", "1", condition_on=())) == 0
    assert vqvideo.load(out).vqvae.cond == CondSpec(num_speakers=4)
    silent = shutil.copytree(speech, tmp_path / "speech")
    (silent / "metadata.jsonl").unlink()
    assert main(run_command(silent, tmp_path / "other", told, "--steps", "1", condition_on=())) == 1
    assert "the model takes speaker, which the data does not have" in capsys.readouterr().err
