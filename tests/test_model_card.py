"""The card beside a model says what the files say, and nothing of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo.checkpoint import CARD_NAME, CONFIG_NAME, NOTICE_NAME, WEIGHTS_NAME
from vqvideo.commands.export import export
from vqvideo.config import MODELS
from vqvideo.likelihoods import LIKELIHOODS
from vqvideo.model_card import (
    build_card,
    collect_card_data,
    read_notice,
    read_or_build_card,
    set_dtype_note,
    set_license,
    write_card,
)

TINY = {
    "sample_shape": (8, 12),
    "encoder": {"width": 8, "num_blocks": 1},
    "quantizer": {"codebook_size": 8, "code_dim": 3},
    "decoder": {"width": 8, "num_blocks": 1},
    "prior": {"width": 8, "num_layers": 2, "first_kernel_size": 3},
}
FACTS = {
    "name": "maze",
    "model": MODELS.get("video")().merge(quantizer={"codebook_size": 1024}).to_dict(),
    "dtype": "float32",
    "has_prior": True,
    "num_values": 1234567,
    "notice": False,
    "training": {
        "steps": 2000,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "precision": "bf16",
        "seed": 3,
        "metadata": {
            "vqvae": "/home/ann/runs/first/model",
            "init_from": "hf-hub:org/maze@v1",
            "data": "walks",
            "windows": 4120,
            "num_val_windows": 60,
        },
    },
    "measured": {"step": 1500, "loss": 1.0, "val_nats_per_code": 3.25, "val_odd": 0.5},
}


def test_the_card_of_a_run_names_model_data_steps_metrics_and_limits():
    text = build_card(FACTS)
    matter, body = text.split("---\n")[1:]
    assert matter.splitlines() == [
        "base_model: org/maze",
        "library_name: vqvideo",
        "tags:",
        "- vq-vae",
        "- video",
    ]
    for line in (
        "# maze",
        "| data | 3 x 16 x 64 x 64 at 8.75 frames per second |",
        "| weights | 1,234,567 values |",
        "| data | `walks`: 4,120 windows for training, 60 for validation |",
        "| first stage | `first` |",
        "| initialized from | `hf-hub:org/maze@v1` |",
        "| steps | 1,500 of 2,000 |",
        "| items per step | 8 per process |",
        "| precision | bf16 |",
        "| seed | 3 |",
        "| NLL of the prior | 3.250 nats per code |",
        "| odd | 0.5 |",
        'generator = vqvideo.load("hf-hub:org/name")  # or a folder with these files',
    ):
        assert line in body.splitlines(), line
    # 4 x 16 x 16 codes for 16 frames, 10 bits each
    rate = 4 * 16 * 16 * 8.75 / 16
    assert f"4 x 16 x 16, codebook size 1024; {rate:.0f} codes/s, {rate / 100:.2f} kbit/s" in body
    assert "encodes and decodes video data like `walks`, and generates new samples." in body
    assert "trained on 4,120 windows and not tested on other data" in body
    assert "/home" not in text
    assert "NOTICE" not in text


def test_the_code_of_a_card_runs_on_the_model_it_describes(tmp_path):
    generator = vqvideo.build("image", **TINY)
    for prior in (generator.prior, None):
        generator.prior = prior
        vqvideo.save(generator, tmp_path / "model", overwrite=True)
        text = read_or_build_card(tmp_path / "model").replace(
            "hf-hub:org/name", str(tmp_path / "model")
        )
        known = {"x": torch.zeros(1, 3, 8, 12)}
        exec(text.split("```python\n")[1].split("```")[0], known)
        if prior is None:
            assert known["codes"].shape == (1, 2, 3)
        else:
            assert known["new"].shape == (1, 3, 8, 12)


@pytest.mark.parametrize("name", sorted({*LIKELIHOODS.list_names()} - {"mel"}))
def test_a_density_is_said_to_be_one_and_nothing_else_is(name):
    model = {**FACTS["model"], "likelihood": {"name": name}}
    if name == "mel":  # is for sound
        sound = vqvideo.build("audio", likelihood="mel").config.to_dict()
        model = {**model, **sound}
    text = build_card({**FACTS, "model": model})
    assert (f"The likelihood is {name}, a density" in text) == (name == "gaussian")
    assert (f"The likelihood is {name}, a score" in text) == (name == "mel")


def test_a_score_that_is_no_distribution_is_said_to_be_one():
    text = build_card({**FACTS, "model": MODELS.get("audio")().to_dict()})
    assert "The likelihood is mel, a score that is not normalized" in text
    assert "a density" not in text


def test_what_is_not_recorded_is_said_to_be_not(tmp_path):
    vqvideo.save(vqvideo.build("image", **TINY), tmp_path / "tiny")
    text = read_or_build_card(tmp_path / "tiny")
    assert "# tiny\n" in text
    assert "The training data and settings are not recorded." in text
    assert "license" not in text
    assert "| codes | 2 x 3, codebook size 8 |" in text  # a picture lasts no time


def test_the_numbers_counted_are_those_of_the_model_however_stored(tmp_path):
    generator = vqvideo.build("image", **TINY)
    number = sum(tensor.numel() for tensor in generator.state_dict().values())
    for dtype in ("float32", "float16", "int8"):
        vqvideo.save(generator, tmp_path / dtype, dtype=dtype)
        assert collect_card_data(tmp_path / dtype)["num_values"] == number


@pytest.fixture
def run(tmp_path) -> Path:
    """The folder of a run, as far as a card asks."""
    run = tmp_path / "walk"
    vqvideo.save(vqvideo.build("image", **TINY), run / "model")
    (run / "training.json").write_text(json.dumps(FACTS["training"]))
    (run / "log.jsonl").write_text('{"step": 1}\n{"step": 2, "val_psnr_db": 21.456}\n')
    return run


def test_a_run_from_before_the_keys_were_renamed_has_the_same_card(run):
    expected = write_card(run).read_text()
    old = json.dumps(FACTS["training"])
    for new_key, old_key in (
        ("metadata", "about"),
        ("gradient_accumulation_steps", "accumulate"),
        ("num_val_windows", "held_out"),
    ):
        assert f'"{new_key}"' in old
        old = old.replace(f'"{new_key}"', f'"{old_key}"')
    (run / "training.json").write_text(old)
    (run / "log.jsonl").write_text('{"step": 2, "held_out_psnr_db": 21.456}\n')
    assert write_card(run).read_text() == expected


def test_a_card_is_written_beside_the_weights_with_the_notice_that_the_run_keeps(run):
    (run / NOTICE_NAME).write_text("by Ann\n")
    assert write_card(run) == run / "model" / CARD_NAME
    text = (run / "model" / CARD_NAME).read_text()
    assert "\n# walk\n" in text
    assert "| steps | 2 of 2,000 |" in text
    assert "| PSNR | 21.46 dB |" in text
    assert "`NOTICE` holds the attribution of the weights" in text
    assert (run / "model" / NOTICE_NAME).read_text() == "by Ann\n"
    (run / "model" / CARD_NAME).write_text(text + "\nI like it.\n")
    write_card(run)  # as a run does that has ended and is told to go on
    assert (run / "model" / CARD_NAME).read_text() == text + "\nI like it.\n"


def test_a_run_that_has_not_ended_has_a_card_and_a_notice_too(run):
    (run / NOTICE_NAME).write_text("by Ann")
    assert "| PSNR | 21.46 dB |" in read_or_build_card(run / "model")
    assert read_notice(run / "model") == "by Ann"
    (run / "training.json").unlink()
    assert read_notice(run / "model") is None  # of whatever else lies there


def test_new_weights_are_never_beside_the_card_of_old_ones(run):
    write_card(run)
    vqvideo.save(vqvideo.build("image", **TINY), run / "model", overwrite=True)
    assert {path.name for path in (run / "model").iterdir()} == {CONFIG_NAME, WEIGHTS_NAME}


def test_a_notice_stays_with_the_weights_through_load_and_save(run, tmp_path):
    (run / "model" / NOTICE_NAME).write_text("© Ann", encoding="utf-8")
    generator = vqvideo.load(run)
    assert generator.notice == "© Ann"
    vqvideo.save(generator, tmp_path / "again")
    assert vqvideo.load(tmp_path / "again").notice == "© Ann"
    assert vqvideo.build("image", **TINY).notice is None


def test_what_is_exported_takes_its_card_along_and_says_how_weights_are_stored(run, tmp_path):
    write_card(run)
    own = (run / "model" / CARD_NAME).read_text() + "\nI like it.\n"
    (run / "model" / CARD_NAME).write_text(own)
    export(model=str(run), out=str(tmp_path / "small"), dtype="int8")
    small = (tmp_path / "small" / CARD_NAME).read_text()
    assert small.startswith(own)
    assert small.removeprefix(own).startswith("\nThe weights are stored in int8, the rows of each")
    export(model=str(tmp_path / "small"), out=str(tmp_path / "half"), dtype="float16")
    half = (tmp_path / "half" / CARD_NAME).read_text()
    assert half == f"{own}\nThe weights are stored in float16; in memory they are float32.\n"
    export(model=str(tmp_path / "half"), out=str(tmp_path / "whole"), dtype="float32")
    assert (tmp_path / "whole" / CARD_NAME).read_text() == own


def test_a_card_without_an_export_says_how_weights_are_stored_too(tmp_path):
    vqvideo.save(vqvideo.build("image", **TINY), tmp_path / "tiny", dtype="int8")
    text = read_or_build_card(tmp_path / "tiny")
    assert text.count("The weights are stored in int8") == 1
    assert "stored" not in set_dtype_note(text, "float32")


def test_a_licence_changes_the_front_matter_and_nothing_else():
    text = build_card(FACTS)
    assert "license" not in text
    once = set_license(text, "mit")
    assert set_license(once, "apache-2.0") == once.replace("license: mit", "license: apache-2.0")
    assert once.replace("license: mit\n", "") == text
    assert set_license("# Mine\n", "mit") == "---\nlicense: mit\n---\n# Mine\n"
