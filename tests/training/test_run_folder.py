"""What a run leaves in its folder for people, and what it does not let happen to it."""

import html.parser
import io
import json
import re
import shutil

import pytest
import torch
from filelock import FileLock

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.commands.finalize import finalize_run
from vqvideo.data.clips import ClipDataset
from vqvideo.report import write_run_page
from vqvideo.training import OptimizerConfig, TrainingConfig, train_vqvae
from vqvideo.training.previews import write_video_previews
from vqvideo.training.run_folder import LOCK_NAME
from vqvideo.training.state import ResumeError

pytestmark = pytest.mark.slow

SMALL = [
    "encoder.widths=[4,4]",
    "decoder.widths=[4,4]",
    "encoder.num_blocks=[1,1]",
    "decoder.num_blocks=[1,1]",
    "quantizer.codebook_size=16",
    "quantizer.warmup_steps=2",
]


def run_command(clips, out, *more):
    line = ["train-vqvae", "--model", "video", "--data", str(clips), "--out", str(out)]
    line += ["--batch-size", "2", "--steps", "6", "--eval-every", "3", "--precision", "fp32"]
    return [*line, *(f"--set={each}" for each in SMALL), *more]


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "<first> & best"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["/somewhere/vqvideo", *run_command("clips", "a b")])
        assert main(run_command(clips, out)) == 0
    return out


class Page(html.parser.HTMLParser):
    """The elements of a page, each closed that must be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "html"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        if tag != "html":
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_of_a_run_shows_metrics_images_command_config_and_versions(run):
    page = Page((run / "report.html").read_text())
    assert page.open == []
    text = "\n".join(page.words)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert "<first> & best" in text
    for said in (
        "vqvideo train-vqvae --model video --data clips --out 'a b' --batch-size 2",
        "6 of 6",
        f"{last['val_psnr_db']:.4g}",
        '"codebook_size": 16',
        "muon",
        f"torch\n{torch.__version__}",
    ):
        assert said in text, said
    for title in ("Metrics over the steps", "Validation clips above", "Codebook"):
        assert title in text
    assert len(page.sources) == 4
    assert all(re.match(r"data:(image/png|video/mp4);base64,", src) for src in page.sources)


def test_the_page_of_a_run_says_that_a_density_is_one(run, tmp_path):
    said = "The likelihood is gaussian, a density"
    assert said in (run / "report.html").read_text()
    other = shutil.copytree(run, tmp_path / "run")
    config = json.loads((other / "model" / "config.json").read_text())
    config["model"]["likelihood"] = {"name": "categorical"}
    (other / "model" / "config.json").write_text(json.dumps(config))
    page = write_run_page(other, "a command").read_text()
    assert "a density" not in page


def test_a_page_can_be_made_again_from_the_folder_alone(run, tmp_path):
    before = (run / "report.html").read_text()
    assert write_run_page(run, "another command") == run / "report.html"
    again = (run / "report.html").read_text()
    assert "another command" in again
    (run / "report.html").write_text(before)


def test_originals_move_above_their_reconstructions(run, clips):
    film, fps = media.read_video(run / "reconstructions.mp4").frames, 8.75
    held_out = ClipDataset(clips, (16, 64, 64), split="test")
    number = min(4, len(held_out))
    assert film.shape == (3, 16, 2 * 64 * 3, number * 64 * 3)
    for item in range(number):
        shown = film[:, :, : 64 * 3 : 3, item * 64 * 3 : (item + 1) * 64 * 3 : 3]
        assert (shown - held_out[item]["x"]).abs().mean() < 0.05
    assert media.probe(run / "reconstructions.mp4").fps == pytest.approx(fps)


def test_images_stand_side_by_side_above_their_reconstructions(tmp_path):
    rows = [torch.full((3, 3, 128, 160), value) for value in (-0.5, 0.5)]
    small = write_video_previews(tmp_path, "reconstructions", rows, fps=0.0)["reconstructions"]
    sheet = media.read_image(tmp_path / "reconstructions.png")
    assert sheet.shape == (3, 2 * 128 + 2, 3 * 160 + 2 * 2)
    assert sheet[0, 10, 10].item() == pytest.approx(-0.5, abs=0.01)
    assert sheet[0, 140, 330].item() == pytest.approx(0.5, abs=0.01)
    assert small.shape == (2 * 128, 3 * 160, 3) and small.dtype == torch.uint8
    assert not (tmp_path / "reconstructions.mp4").exists()


def test_tensorboard_gets_losses_validation_metrics_and_images(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"loss", "psnr_db", "usage", "val/psnr_db"} <= set(tags["scalars"])
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    logged = [(each.step, each.value) for each in events.Scalars("val/psnr_db")]
    assert logged == [(row["step"], pytest.approx(row["val_psnr_db"])) for row in rows]
    assert [each.step for each in events.Scalars("loss")] == list(range(1, 7))
    assert [each.step for each in events.Images("reconstructions")] == [3, 6]


def test_a_run_that_is_stopped_leaves_its_page_too(clips, tmp_path, monkeypatch, capsys):
    from vqvideo.training.trainer import Trainer

    monkeypatch.setattr(Trainer, "should_stop", lambda self, signals: True)
    line = run_command(clips, tmp_path / "run", "--eval-every", "1")
    assert main(line) == 130
    assert "stopped at step 1; continue with --resume" in capsys.readouterr().err
    assert "1 of 6" in (tmp_path / "run" / "report.html").read_text()


def test_a_run_that_diverges_says_so_whatever_becomes_of_its_page(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "log.jsonl").write_text("no JSON")
    with (
        pytest.raises(FloatingPointError, match="the loss is nan at step 5"),
        pytest.warns(UserWarning, match=r"the report page of .* was not written"),
        finalize_run(str(tmp_path)),
    ):
        raise FloatingPointError("the loss is nan at step 5; the last good model is there")


def test_batches_that_the_data_cannot_fill_are_said(small_changes, datasets, tmp_path, capsys):
    data, held_out = datasets
    few = torch.utils.data.Subset(data, range(3))
    train_first_stage(small_changes, few, held_out, tmp_path, batch_size=8)
    assert "3 items do not fill a batch of 8, so the batch size is 3" in capsys.readouterr().err


def train_first_stage(small_changes, data, held_out, out, *, resume=False, **options):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **small_changes)
    options = {"steps": 2, "batch_size": 2, "precision": "fp32", **options}
    train_vqvae(generator, data, held_out, out, TrainingConfig(**options), resume=resume)


@pytest.fixture
def datasets(clips):
    return [
        ClipDataset(clips, (16, 64, 64), clip_stride=4, split=split) for split in ("train", "test")
    ]


def test_two_runs_do_not_train_into_one_folder(small_changes, datasets, tmp_path):
    with (
        FileLock(tmp_path / LOCK_NAME),
        pytest.raises(RuntimeError, match=r"another process is training into .*; wait for it, or"),
    ):
        train_first_stage(small_changes, *datasets, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {LOCK_NAME}
    train_first_stage(small_changes, *datasets, tmp_path)
    train_first_stage(small_changes, *datasets, tmp_path)  # one after the other they may


def test_data_that_shrank_is_distinguished_from_other_changes(small_changes, datasets, tmp_path):
    data, held_out = datasets
    train_first_stage(small_changes, data, held_out, tmp_path)
    fewer = torch.utils.data.Subset(data, range(len(data) - 3))
    said = f"data has {len(fewer)} training items, but had {len(data)} when .* was started; restore"
    with pytest.raises(ResumeError, match=said):
        train_first_stage(small_changes, fewer, held_out, tmp_path, resume=True)


def test_what_a_killed_process_left_half_written_is_cleared_away(small_changes, datasets, tmp_path):
    (tmp_path / ".state.safetensors.123.tmp").write_bytes(b"half")
    (tmp_path / ".model.123.tmp").mkdir()
    (tmp_path / ".model.123.tmp" / "model.safetensors").write_bytes(b"half")
    train_first_stage(small_changes, *datasets, tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))


def test_the_progress_bar_shows_loss_psnr_and_usage(small_changes, datasets, tmp_path, monkeypatch):
    from vqvideo.training import log

    shown = []
    bar = log.tqdm

    def noted(*args, **kwargs):
        made = bar(*args, **{**kwargs, "disable": False, "file": io.StringIO()})
        monkeypatch.setattr(made, "set_postfix", shown.append)
        return made

    monkeypatch.setattr(log, "tqdm", noted)
    train_first_stage(small_changes, *datasets, tmp_path)
    assert len(shown) == 2
    assert list(shown[0]) == ["loss", "psnr_db", "usage"]
    assert 0 < float(shown[1]["usage"]) <= 1


def test_a_run_folder_that_cannot_be_written_to_is_said_before_any_work(
    small_changes, datasets, tmp_path
):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OSError, match="run"):
        train_first_stage(small_changes, *datasets, tmp_path / "run")


def test_the_average_is_an_option_of_the_command(clips, tmp_path, capsys):
    line = run_command(clips, tmp_path / "run", "--model-ema-decay", "0.5", "--optimizer", "adamw")
    assert main([*line, "--warmup-steps", "3", "--weight-decay", "0.02"]) == 0
    told = json.loads((tmp_path / "run" / "training.json").read_text())["optimizer"]
    expected = OptimizerConfig(warmup_steps=3, weight_decay=0.02, model_ema_decay=0.5)
    assert OptimizerConfig(**told) == expected
