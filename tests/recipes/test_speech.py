"""Voices: converted, imagined, continued, decoded from code files, and decoders for given codes."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.commands.conditions import ConditionOptions
from vqvideo.commands.decode import decode
from vqvideo.commands.encode import encode
from vqvideo.commands.evaluate import evaluate
from vqvideo.commands.generate import generate_clip
from vqvideo.commands.prefix import Prefix
from vqvideo.commands.train_prior import train_prior
from vqvideo.commands.train_vqvae import train_vqvae
from vqvideo.cond import Cond
from vqvideo.data.clips import ClipDataset
from vqvideo.recipes.speech.convert_speaker import convert_speaker
from vqvideo.recipes.speech.phone_map import find_phone_map
from vqvideo.sampling import generate
from vqvideo.training import TrainingConfig
from vqvideo.training.decoder import DecoderTask

RATE, STRIDE = 16000, 80
SMALL = {
    "strides": ((40,), (2,)),
    "sample_shape": (400,),
    "encoder": {"hop_length": 40, "width": 8, "num_mel_bins": 10, "num_blocks": 1},
    "decoder": {"hop_length": 40, "width": 8, "num_blocks": 1},
    "quantizer": {"codebook_size": 6, "code_dim": 4},
    "prior": {"width": 8, "num_layers": 2},
}
NAMES = ("ann", "bob", "eve")
ANN, BOB, EVE = (ConditionOptions(speaker=name) for name in NAMES)
WAVENET = {"name": "wavenet", "width": 8, "num_layers": 3}
DRAWN = {
    "likelihood": {"name": "autoregressive", "num_features": 4, "mu_law": True, "prior": WAVENET},
    "decoder": {"name": "patchify", "widths": (4, 8), "num_blocks": (0, 1)},
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def build_model(folder="model", *, told=True, **changes):
    """A small untrained model that spreads its codes, told one of three speakers."""
    torch.manual_seed(0)
    cond = {"num_speakers": 3, "speaker_names": NAMES} if told else {}
    generator = vqvideo.build("audio-25hz", **{**SMALL, **changes}, cond=cond)
    x = 0.3 * torch.randn(4, 1, 400)
    for _ in range(40):  # warm-up, then a codebook from what the encoder gives
        generator.vqvae.train()(x)
        generator.vqvae.quantizer.update_codebook()
    vqvideo.save(generator.eval(), folder)
    return str(folder)


def make_audio(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(1, length, generator=generator).clamp(-3, 3)


def write_voices(folder="voices", speakers=("ann", "bob")):
    rows = []
    (folder := Path(folder)).mkdir()
    for number in range(8):
        name = f"{number}.wav"
        media.write_audio(folder / name, make_audio(1000, number), RATE)
        split = "test" if number > 5 else "train"
        rows.append({"file": name, "split": split, "speaker": speakers[number % len(speakers)]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def test_a_converted_voice_is_its_codes_decoded_as_the_other_speaker(capsys):
    name = build_model()
    media.write_audio("in.wav", make_audio(1030), RATE)
    arguments = ["in.wav", "out.flac", "--speaker", "bob", "--model", f"./{name}"]
    assert main(["convert-speaker", *arguments]) == 0
    assert capsys.readouterr().out.split() == ["out.flac", "out.png", "out.json"]
    found, vqvae = media.read_audio("out.flac"), vqvideo.load(name).vqvae
    assert found.sample_rate == RATE
    x = media.read_audio("in.wav").samples
    filled = torch.cat([x, x[:, -1:].expand(-1, 1040 - 1030)], dim=1)
    told = Cond(speaker=torch.tensor([1]))
    again = vqvae.decode(vqvae.encode(filled[None]), told)[0, :, :1030]
    assert found.samples.shape == (1, 1030)
    assert (found.samples - again).abs().max() < 1 / 32768
    other = vqvae.decode(vqvae.encode(filled[None]), Cond(speaker=torch.tensor([0])))
    assert not torch.equal(other[0, :, :1030], again)
    record = json.loads(Path("out.json").read_text())
    assert record["speaker"] == "bob"
    assert record["seconds"] == 1030 / RATE


def test_audio_at_another_rate_is_resampled_to_that_of_the_model():
    media.write_audio("in.wav", make_audio(4800), 48000)
    files, _ = convert_speaker("in.wav", speaker="ann", out="out.wav", model=f"./{build_model()}")
    assert media.read_audio(files[0]).samples.shape == (1, 1600)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"speaker": "zoe"}, ValueError, "no speaker 'zoe'; it has: ann, bob, eve"),
        ({"out": "out.mp3"}, ValueError, r"must end in \.wav or \.flac, got 'out.mp3'"),
        ({"file": "none.wav"}, FileNotFoundError, "none.wav"),
        ({"out": "in.wav"}, FileExistsError, "in.wav exists"),
        ({"file": "text.wav"}, media.MediaError, "text.wav"),
        ({"model": "image"}, ValueError, "rank 1; image has rank 2"),
        (
            {"model": "./untold"},
            ValueError,
            "has no speaker names; train one with condition_on=speaker",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(changes, error, message):
    build_model()
    build_model("untold", told=False)
    media.write_audio("in.wav", make_audio(400), RATE)
    Path("text.wav").write_text("no sound")
    given = {"file": "in.wav", "speaker": "ann", "out": "out.wav", "model": "./model", **changes}
    file = given.pop("file")
    with pytest.raises(error, match=message):
        convert_speaker(file, **given)
    assert not Path("out.wav").exists()


def test_a_voice_is_imagined_with_its_name_and_as_long_as_asked_for():
    files = generate_clip(model=f"./{build_model()}", out="new.wav", seconds=0.0311, conditions=EVE)
    assert [file.name for file in files] == ["new.wav", "new.png", "new.json"]
    length = round(0.0311 * RATE)
    generator = vqvideo.load("model")
    told = Cond(speaker=torch.tensor([2]))
    shape = (-(-length // STRIDE) * STRIDE,)
    expected = generator.sample(shape=shape, cond=told)[0, :, :length]
    assert (media.read_audio("new.wav").samples - expected).abs().max() <= 1 / 32768
    assert json.loads(files[-1].read_text())["speaker"] == "eve"


def test_audio_is_continued_and_its_prefix_kept():
    name = f"./{build_model()}"
    media.write_audio("in.wav", make_audio(3000), RATE)
    prefix = Prefix(file="in.wav", seconds=0.021)
    generate_clip(model=name, out="on.wav", num_frames=700, prefix=prefix, conditions=ANN, seed=3)
    found, x = media.read_audio("on.wav").samples, media.read_audio("in.wav").samples
    assert found.shape == (1, 700)
    assert torch.equal(found[:, :320], x[:, :320])  # whole codes: 336 samples hold four of 80
    assert not torch.equal(found[:, 320:], x[:, 320:700])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 1.0, "num_frames": 80}, "give only one"),
        ({"seconds": 0.0}, "seconds must be at least 1/16000, got 0.0"),
        (
            {"conditions": ConditionOptions(speaker="zoe")},
            "no speaker 'zoe'; it has: ann, bob, eve",
        ),
        ({"conditions": ConditionOptions(class_name="dog")}, "has no class names"),
        ({"prefix": Prefix(file="in.wav", seconds=0.001)}, "at least one code, 0.0050 s"),
        ({"prefix": Prefix(file="in.wav")}, "has 400 samples at 16000 Hz; the prefix needs 16000"),
        ({"prefix": Prefix(file="in.wav", num_frames=80, seconds=1.0)}, "in place of num_frames"),
        ({"prefix": Prefix(file="in.wav", num_frames=81)}, "not divisible"),
        (
            {"prefix": Prefix(file="in.wav", seconds=math.inf)},
            "one code, 0.0050 s; got inf",
        ),
        ({"prefix": Prefix(file="in.wav", fit="pad")}, "fit='pad' is for images and video"),
        ({"seconds": math.inf}, "seconds must be at least 1/16000, got inf"),
    ],
)
def test_audio_that_cannot_be_generated_is_refused(options, message):
    media.write_audio("in.wav", make_audio(400), RATE)
    with pytest.raises(ValueError, match=message):
        generate_clip(model=f"./{build_model()}", out="new.wav", **options)


def test_a_continuation_of_audio_is_as_long_as_a_sample_by_default():
    media.write_audio("in.wav", make_audio(400), RATE)
    prefix = Prefix(file="in.wav", num_frames=240)
    files = generate_clip(model=f"./{build_model()}", out="on.wav", prefix=prefix)
    assert media.read_audio(files[0]).samples.shape == (1, 240 + 400)


def test_a_decoder_that_draws_has_a_temperature_and_noise_of_its_own():
    name = f"./{build_model(**DRAWN)}"
    for out, options in (("a", {}), ("b", {"decoder_temperature": 0.0}), ("c", {"seed": 1})):
        generate_clip(model=name, out=f"{out}.wav", conditions=BOB, **options)
    assert json.loads(Path("b.json").read_text())["decoder_temperature"] == 0.0
    a, b, c = (media.read_audio(f"{out}.wav").samples for out in "abc")
    vqvae, prior = (generator := vqvideo.load(name)).vqvae, generator.prior
    codes, told = generate(prior, (5,)), Cond(speaker=torch.tensor([1]))
    assert (vqvae.decode(codes, told, temperature=0.0)[0] - b).abs().max() <= 1 / 32768
    assert not torch.equal(a, b)
    assert not torch.equal(a, c)
    same_noise = vqvae.decode(codes, told, seed=0)[0]
    assert (same_noise - a).abs().max() > 0.01


def test_images_have_no_seconds():
    with pytest.raises(ValueError, match="seconds is for video and audio"):
        generate_clip(model="image", out="new.png", seconds=1.0)


def test_codes_in_a_file_are_decoded_in_the_voice_of_who_spoke_if_the_model_knows_it(capsys):
    name = f"./{build_model()}"
    encode(write_voices(speakers=("bob", "zoe")), "codes", model=name)
    decode("codes", "decoded", model=name)
    message = "decoded without a speaker condition, unknown to the decoder: zoe"
    assert message in capsys.readouterr().err
    vqvae = vqvideo.load(name).vqvae
    for file, told in (("0", Cond(speaker=torch.tensor([1]))), ("1", None)):
        x = media.read_audio(f"voices/{file}.wav").samples
        filled = torch.cat([x, x[:, -1:].expand(-1, 40)], dim=1)[None]
        expected = vqvae.decode(vqvae.encode(filled), told)[0, :, :1000]
        found = media.read_audio(f"decoded/{file}.wav").samples
        assert (found - expected).abs().max() <= 1 / 32768


def train_decoder(out="drawn", *, steps=4, **options):
    return train_vqvae(
        model=None,
        data="voices",
        out=out,
        config=TrainingConfig(steps=steps, batch_size=2, eval_every=2),
        overrides=DRAWN,
        condition_on=["speaker"],
        tokenizer="./model",
        **options,
    )


@pytest.mark.slow
def test_another_decoder_is_trained_for_the_same_codes():
    build_model()
    write_voices()
    figures = train_decoder()
    old, new = vqvideo.load("model"), vqvideo.load("drawn")
    assert new.vqvae.fingerprint() == old.vqvae.fingerprint()
    assert new.vqvae.cond.speaker_names == ("ann", "bob")
    assert figures["bits_per_dim"] > 0
    started = vqvideo.build("audio-25hz", **{**SMALL, **DRAWN}, cond={"num_speakers": 2})
    for part in ("decoder", "likelihood", "cond_embedding"):
        before = dict(getattr(started.vqvae, part).named_parameters())
        after = dict(getattr(new.vqvae, part).named_parameters())
        assert before.keys() == after.keys()
        assert any(not torch.equal(before[name], after[name]) for name in before)
    assert {"reconstructions.png", "reconstructions.wav"} <= {
        file.name for file in Path("drawn").iterdir()
    }


@pytest.mark.slow
def test_a_decoder_whose_training_was_stopped_is_the_one_that_was_not():
    build_model()
    write_voices()
    train_decoder("whole", steps=4)
    stopped = train_decoder_until("stopped", 2)
    assert stopped
    train_decoder("stopped", steps=4, resume=True)
    whole, again = (load_file(f"{run}/model/model.safetensors") for run in ("whole", "stopped"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
def test_a_resumed_decoder_does_not_need_the_source_of_its_codes():
    build_model()
    write_voices()
    train_decoder_until("drawn", 2)
    Path("model").rename("elsewhere")
    train_decoder(resume=True)
    old, new = vqvideo.load("elsewhere"), vqvideo.load("drawn")
    assert new.vqvae.fingerprint() == old.vqvae.fingerprint()


def test_codes_are_those_of_the_model_whatever_its_decoder_is_trained_in():
    build_model()
    data = ClipDataset(write_voices(), (400,), sample_rate=RATE)
    task = DecoderTask(vqvideo.load("model"), data, data)
    x = torch.stack([data[index]["x"] for index in range(len(data))])
    with torch.autocast("cpu", torch.bfloat16):
        found = task._quantize(x).codes
    assert torch.equal(found, task.vqvae.quantizer(task.vqvae.encoder(x)).codes)


def train_decoder_until(out, step):
    """As if it had been told to stop after a measurement."""
    done, evaluate_ = [], DecoderTask.evaluate

    def stop(self):
        figures = evaluate_(self)
        done.append(figures)
        if len(done) == step // 2 + 1:
            raise KeyboardInterrupt
        return figures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecoderTask, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            train_decoder(out)
    return True


@pytest.mark.slow
def test_codes_of_another_kind_are_refused_with_what_differs():
    build_model()
    write_voices()
    with pytest.raises(ValueError, match=r"its encoder is .*'width': 8.*here it is .*'width': 4"):
        train_vqvae(
            data="voices",
            out="run",
            config=TrainingConfig(steps=1),
            overrides={"encoder": {"width": 4}},
            tokenizer="./model",
        )
    with pytest.raises(ValueError, match="give only one"):
        train_vqvae(
            data="voices",
            out="run",
            config=TrainingConfig(steps=1),
            tokenizer="./model",
            init_from="./model",
        )


@pytest.mark.slow
def test_a_prior_learns_longer_windows_than_the_first_stage_did():
    name = f"./{build_model(told=False)}"
    config = TrainingConfig(steps=2, batch_size=2, eval_every=2)
    train_prior(
        vqvae=name,
        data=write_voices(),
        out="prior",
        config=config,
        num_frames=800,
        clip_stride=STRIDE,
    )
    generator = vqvideo.load("prior")
    assert generator.sample_shape == (800,)
    assert generator.sample().shape == (1, 1, 800)
    assert {"samples.png", "samples.wav"} <= {f.name for f in Path("prior").iterdir()}
    with pytest.raises(ValueError, match="num_frames is for video and audio"):
        train_prior(vqvae="image", data="voices", out="no", config=config, num_frames=8)


@pytest.mark.slow
def test_audio_is_evaluated_by_its_mel_distance_and_can_be_heard():
    pytest.importorskip("matplotlib")
    data = write_voices(speakers=NAMES)
    files, figures = evaluate(model=f"./{build_model()}", data=data, temperatures=[1.0])
    names = {file.name for file in files}
    assert {"reconstructions.png", "reconstructions.wav", "samples.wav"} <= names
    assert figures["means"]["mel_distance"]["mean"] > 0
    assert any("a score that is not normalized" in note for note in figures["notes"])
    assert "data:audio/wav;base64" in Path("outputs/evaluation/evaluation.html").read_text()
    with pytest.raises(ValueError, match="knows the speakers ann, bob, eve; the data also has zoe"):
        evaluate(model="./model", data=write_voices("others", ("ann", "zoe")), out="no")


@pytest.mark.slow
def test_speakers_are_numbered_as_the_model_knows_them():
    pytest.importorskip("matplotlib")
    data = write_voices(speakers=("eve", "bob"))
    _, figures = evaluate(model=f"./{build_model()}", data=data, temperatures=[])
    generator = vqvideo.load("model")
    x = ClipDataset(data, (400,), split="test", sample_rate=RATE)
    told = [Cond(speaker=torch.tensor([number])) for number in (2, 2, 1, 1)]  # two windows each
    expected = [generator.log_prob(x[i]["x"][None], told[i]).reconstruction for i in range(4)]
    found = figures["means"]["reconstruction_nats"]["mean"]
    assert found == pytest.approx(torch.cat(expected).mean().item(), rel=1e-5)


def test_a_prior_numbers_speakers_as_the_decoder_does():
    build_model()
    data = write_voices(speakers=("bob", "eve"))
    with pytest.raises(ValueError, match="the decoder knows the speakers"):
        train_prior(
            vqvae="./model",
            data=data,
            out="prior",
            config=TrainingConfig(steps=1),
            prior={"cond": {"num_speakers": 2}},
        )


def test_phones_that_codes_stand_for_go_where_the_codes_go():
    build_model(told=False)
    Path("model/phones.json").write_text("{}")
    write_voices()
    config = TrainingConfig(steps=1, batch_size=2, eval_every=1)
    train_prior(vqvae="./model", data="voices", out="prior", config=config)
    assert Path("prior/phones.json").read_text() == "{}"
    assert find_phone_map("./prior", None) == Path("prior/phones.json").absolute()


def test_speakers_without_training_files_are_no_condition():
    folder = Path(write_voices(speakers=("ann", "bob")))
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows = [{**row, "split": "test" if row["speaker"] == "bob" else "train"} for row in rows]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="--condition-on speaker: no training file for bob,"):
        train_vqvae(
            model="audio-25hz",
            data="voices",
            out="run",
            config=TrainingConfig(steps=1),
            overrides=SMALL,
            condition_on=["speaker"],
        )


def test_the_rate_of_a_model_is_that_of_all_its_parts():
    generator = vqvideo.build("audio-25hz", **SMALL, rate=8000.0)
    assert generator.vqvae.encoder.sample_rate == 8000
    assert generator.vqvae.likelihood.sample_rate == 8000
