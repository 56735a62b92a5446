"""A run starts from the weights of another as if those had never been saved, or not at all."""

import json
import shutil

import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.checkpoint import CARD_NAME, NOTICE_NAME
from vqvideo.cli import main
from vqvideo.commands.initialize import init_prior, init_vqvae
from vqvideo.commands.train_prior import train_prior
from vqvideo.commands.train_vqvae import build_clip_dataset, train_vqvae
from vqvideo.training import TrainingConfig
from vqvideo.training import train_vqvae as fit
from vqvideo.training.state import ResumeError

pytestmark = pytest.mark.slow

NETS = {"width": 8, "num_blocks": 1}
EMA = {"name": "ema", "codebook_size": 7, "code_dim": 3, "warmup_steps": 2, "init": "data"}
TINY = {"sample_shape": (8, 12), "encoder": NETS, "decoder": NETS, "quantizer": EMA}
PRIOR = {"width": 8, "num_layers": 2, "first_kernel_size": 3}
CONFIG = TrainingConfig(steps=4, batch_size=4, eval_every=2, precision="fp32")


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    """Twelve small pictures, of two classes."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    for number in range(12):
        picture = torch.rand(3, 8, 12, generator=draw) * 2 - 1
        media.write_image(folder / f"{number:02d}.png", picture)
    return folder


def train_first_stage(image_folder, out, **options):
    options = {"model": "image", "config": CONFIG, "overrides": TINY, **options}
    return train_vqvae(data=str(image_folder), out=str(out), **options)


def train_second_stage(image_folder, out, vqvae, **options):
    options = {"config": CONFIG, "prior": PRIOR, **options}
    return train_prior(vqvae=str(vqvae), data=str(image_folder), out=str(out), **options)


@pytest.fixture(scope="module")
def runs(image_folder, tmp_path_factory):
    """A folder with a run of each stage: `first` and `second`."""
    folder = tmp_path_factory.mktemp("runs")
    train_first_stage(image_folder, folder / "first")
    train_second_stage(image_folder, folder / "second", folder / "first")
    return folder


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert other[name].dtype == tensor.dtype, name
        assert torch.equal(other[name], tensor), name


def test_encoder_codebook_with_all_it_counts_and_decoder_are_taken_over_bit_for_bit(runs):
    torch.manual_seed(5)
    generator, trained = vqvideo.build("image", **TINY), vqvideo.load(runs / "first")
    before = {name: x.clone() for name, x in generator.vqvae.state_dict().items()}
    init_vqvae(generator, str(runs / "first"))
    now = generator.vqvae.state_dict()
    assert_same(now, trained.vqvae.state_dict())
    counted = [name for name in now if name.startswith("quantizer.")]
    assert sum(not torch.equal(now[name], before[name]) for name in counted) > 2
    assert now["quantizer.initialized"]


def test_training_continues_as_if_the_weights_had_never_been_saved(image_folder, tmp_path):
    torch.manual_seed(CONFIG.seed)
    generator = vqvideo.build("image", **TINY)
    sets = [
        build_clip_dataset(str(image_folder), generator.config, split, None)
        for split in ("train", "test")
    ]
    fit(generator, *sets, tmp_path / "begun", CONFIG)
    train_first_stage(image_folder, tmp_path / "on", init_from=str(tmp_path / "begun"))
    fit(generator, *sets, tmp_path / "unsaved", CONFIG)
    on = vqvideo.load(tmp_path / "on").vqvae.state_dict()
    assert_same(on, generator.vqvae.state_dict())
    before = vqvideo.load(tmp_path / "begun").vqvae.state_dict()
    assert not torch.equal(on["quantizer.codebook"], before["quantizer.codebook"])


def test_where_a_run_started_is_remembered_without_the_way_there(image_folder, runs, tmp_path):
    source = str(runs / "second" / "model")
    train_first_stage(image_folder, tmp_path / "tuned", init_from=source)
    metadata = json.loads((tmp_path / "tuned" / "training.json").read_text())["metadata"]
    assert metadata == {
        "model": "image",
        "init_from": source,
        "tokenizer": None,
        "data": "pictures",
        "windows": 11,
        "num_val_windows": 1,
    }
    card = (tmp_path / "tuned" / "model" / CARD_NAME).read_text()
    assert "| initialized from | `second` |" in card
    assert "| data | `pictures`: 11 windows for training, 1 for validation |" in card
    for way in (runs, tmp_path, image_folder.parent):
        assert str(way) not in card


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("stage", ["vqvae", "prior"])
def test_an_interrupted_run_resumes_without_the_weights_it_started_from(
    stage, image_folder, runs, tmp_path, monkeypatch
):
    source = tmp_path / "source"
    shutil.copytree(runs / "second", source)

    def train(out, **options):
        options["init_from"] = options.get("init_from", str(source))
        if stage == "vqvae":
            return train_first_stage(image_folder, out, **options)
        return train_second_stage(image_folder, out, runs / "first", **options)

    figures = train(tmp_path / "whole")
    step, steps = torch.optim.AdamW.step, []

    def stopping(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == 4:  # the state is that of step 2
            raise StopHereError
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stopping)
        with pytest.raises(StopHereError):
            train(tmp_path / "out")
    shutil.rmtree(source)
    with pytest.raises(ResumeError, match=r"was started with init_from .*source, not video; run"):
        train(tmp_path / "out", init_from="video", resume=True)
    with pytest.raises(ResumeError, match=r"was started with init_from .*source, not None; run"):
        train(tmp_path / "out", init_from=None, resume=True)
    assert train(tmp_path / "out", resume=True) == figures
    one, other = (vqvideo.load(tmp_path / name).state_dict() for name in ("whole", "out"))
    assert_same(one, other)
    assert "| initialized from | `source` |" in (tmp_path / "out" / "model" / CARD_NAME).read_text()
    with pytest.raises(FileNotFoundError, match="no checkpoint folder"):
        train(tmp_path / "new", resume=True)  # nothing to go on from: it would begin


def test_weights_that_do_not_fit_are_named_with_both_shapes_and_the_options(runs):
    wider = vqvideo.build("image", **{**TINY, "encoder": {"width": 12, "num_blocks": 1}})
    before = {name: x.clone() for name, x in wider.state_dict().items()}
    with pytest.raises(ValueError, match=r"do not match: encoder\.\S+ is \[8, 3, ") as refused:
        init_vqvae(wider, str(runs / "first"))
    assert "] there and [12, 3, " in str(refused.value)
    assert "build this model with the same options: its encoder is {" in str(refused.value)
    assert "'width': 8" in str(refused.value)
    assert_same(wider.state_dict(), before)

    vector = {"name": "vector", "codebook_size": 7, "code_dim": 3}
    other = vqvideo.build("image", **{**TINY, "quantizer": vector})
    with pytest.raises(ValueError, match=r"quantizer\.\S+ is \[.*\] there and missing here;"):
        init_vqvae(other, str(runs / "first"))


def test_training_of_a_prior_continues_over_the_same_codes(image_folder, runs, tmp_path):
    source = vqvideo.load(runs / "second")
    generator = vqvideo.load(runs / "second")
    for tensor in generator.prior.state_dict().values():
        tensor.zero_()
    init_prior(generator, str(runs / "second"))
    assert_same(generator.prior.state_dict(), source.prior.state_dict())
    train_second_stage(image_folder, tmp_path, runs / "first", init_from=str(runs / "second"))
    tuned = vqvideo.load(tmp_path)
    assert_same(tuned.vqvae.state_dict(), source.vqvae.state_dict())
    metadata = json.loads((tmp_path / "training.json").read_text())["metadata"]
    assert metadata["init_from"] == str(runs / "second")
    assert metadata["vqvae"] == str(runs / "first")
    card = (tmp_path / "model" / CARD_NAME).read_text()
    assert "| first stage | `first` |" in card
    assert "| initialized from | `second` |" in card


def test_a_prior_over_other_codes_is_refused(image_folder, runs, tmp_path):
    train_first_stage(
        image_folder, tmp_path / "other", overrides=TINY, config=TrainingConfig(steps=1, seed=3)
    )
    with pytest.raises(
        ValueError, match=r"was trained on the codes of another first stage"
    ) as refused:
        train_second_stage(
            image_folder, tmp_path / "out", tmp_path / "other", init_from=str(runs / "second")
        )
    assert f"give --vqvae {runs / 'second'}, or leave out --init-from" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_prior_starts_none(image_folder, runs, tmp_path):
    with pytest.raises(ValueError, match="has no prior to start from; leave out --init-from"):
        train_second_stage(image_folder, tmp_path, runs / "first", init_from=str(runs / "first"))


def test_a_prior_of_another_kind_or_size_is_refused(image_folder, runs, tmp_path):
    for prior, weight in (
        ({**PRIOR, "width": 12}, r"embedding\.weight is \[7, 8\] there and \[7, 12\] here;"),
        ({"name": "transformer"}, r"\S+ is (missing|\[.*\]) there and "),
    ):
        with pytest.raises(ValueError, match=f"do not match: {weight}") as refused:
            train_second_stage(
                image_folder, tmp_path, runs / "first", prior=prior, init_from=str(runs / "second")
            )
        assert "with the same options: its prior is {'name': 'pixelcnn'" in str(refused.value)


def test_classes_that_a_prior_knows_keep_their_numbers(image_folder, runs, tmp_path):
    told = {**PRIOR, "cond": {"num_classes": 2}}
    for folder, names in (("ab", "ab"), ("bc", "bc")):
        rows = [
            {"file": str(file), "split": "test" if n < 2 else "train", "class": names[n % 2]}
            for n, file in enumerate(sorted(image_folder.iterdir()))
        ]
        (tmp_path / folder).mkdir()
        for row in rows:
            shutil.copy(row["file"], tmp_path / folder)
            row["file"] = row["file"].rpartition("/")[2]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / folder / "metadata.jsonl").write_text(lines)
    train_second_stage(tmp_path / "ab", tmp_path / "told", runs / "first", prior=told)
    source = {"prior": told, "init_from": str(tmp_path / "told")}
    train_second_stage(tmp_path / "ab", tmp_path / "again", runs / "first", **source)
    assert vqvideo.load(tmp_path / "again").prior.cond.class_names == ("a", "b")
    with pytest.raises(ValueError, match=r"knows the classes \('a', 'b'\), the data has \('b', 'c"):
        train_second_stage(tmp_path / "bc", tmp_path / "other", runs / "first", **source)


def test_weights_that_ship_are_a_start_and_their_notice_goes_along(clips, tmp_path):
    shipped = vqvideo.build("video", pretrained=True).config.to_dict()
    told = {
        "model": "video",
        "data": str(clips),
        "config": TrainingConfig(steps=1, batch_size=1, precision="fp32"),
        "overrides": {part: shipped[part] for part in ("encoder", "quantizer", "decoder")},
    }
    run = tmp_path / "run"
    train_vqvae(out=str(run), init_from="video", **told)
    assert "Freedoom" in (run / "model" / NOTICE_NAME).read_text()
    assert "Freedoom" in vqvideo.load(run).notice
    card = (run / "model" / CARD_NAME).read_text()
    assert "| initialized from | `video` |" in card
    assert "`NOTICE` holds the attribution of the weights" in card
    train_vqvae(out=str(run), overwrite=True, **told)
    assert not (run / "model" / NOTICE_NAME).exists()
    assert "| initialized from | random weights |" in (run / "model" / CARD_NAME).read_text()


@pytest.mark.parametrize("stage", ["vqvae", "prior"])
def test_the_commands_hand_on_where_to_start(stage, monkeypatch):
    told = {}
    monkeypatch.setattr(
        f"vqvideo.commands.train_{stage}.train_{stage}", lambda **options: told.update(options)
    )
    command = [f"train-{stage}", "--model" if stage == "vqvae" else "--vqvae", "video"]
    command += ["--data", "in", "--out", "run", "--steps", "3"]
    for given, expected in (([], None), (["--init-from", "hf-hub:org/maze"], "hf-hub:org/maze")):
        assert main([*command, *given]) == 0
        assert told["init_from"] == expected


def test_without_a_name_the_model_is_that_of_the_weights_and_a_resumed_run_knows_it(
    image_folder, runs, tmp_path, monkeypatch
):
    source = tmp_path / "source"
    shutil.copytree(runs / "first", source)
    alone = {"model": None, "overrides": None, "init_from": str(source)}
    train_first_stage(image_folder, tmp_path / "named", init_from=str(source))
    train_first_stage(image_folder, tmp_path / "on", **alone)
    on, named = (vqvideo.load(tmp_path / name) for name in ("on", "named"))
    assert on.config == named.config
    assert_same(on.vqvae.state_dict(), named.vqvae.state_dict())
    shutil.rmtree(source)
    train_first_stage(image_folder, tmp_path / "on", **alone, resume=True)


def test_something_must_say_what_to_train(image_folder, tmp_path):
    with pytest.raises(ValueError, match="give --model, or weights with --init-from"):
        train_first_stage(image_folder, tmp_path, model=None, overrides=None)
