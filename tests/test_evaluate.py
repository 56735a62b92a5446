"""`vqvideo evaluate`: every figure by hand, what it leaves, and what it refuses."""

import html.parser
import itertools
import json
import math
import re
import statistics
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.commands.evaluate import OUTPUT_FILES, evaluate
from vqvideo.commands.evaluate_metrics import compute_compression
from vqvideo.commands.evaluate_rows import score_items
from vqvideo.cond import Cond
from vqvideo.data.clips import ClipDataset
from vqvideo.generator import Generator
from vqvideo.likelihoods import LogisticMixtureLikelihood
from vqvideo.metrics import build_ssim, estimate_mean

pytest.importorskip("torchmetrics")
pytest.importorskip("matplotlib")

NET = {"width": 8, "num_blocks": 1}
SMALL = {
    "encoder": NET,
    "decoder": NET,
    "quantizer": {"codebook_size": 16, "code_dim": 4},
    "prior": {"width": 8, "num_layers": 2},
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def build_model(name, folder, shape, **changes):
    """A small untrained model whose codebook has begun, in a folder; its data has that shape."""
    torch.manual_seed(0)
    generator = vqvideo.build(name, **{**SMALL, "sample_shape": shape, **changes})
    channels = generator.config.channels
    generator.vqvae.train().loss(torch.rand(4, channels, *shape) * 2 - 1)
    vqvideo.save(generator, folder)
    return str(folder)


def write_images(folder, number, size=16):
    """Of classes "cat" and "dog" in turn, all held out but one."""
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    lines = []
    for i in range(number):
        pixels = torch.randint(256, (3, 4, 4), generator=draw, dtype=torch.uint8)
        large = pixels.repeat_interleave(size // 4, 1).repeat_interleave(size // 4, 2)
        media.write_image(folder / f"{i}.png", media.from_uint8(large))
        split = "test" if i else "train"
        lines.append({"file": f"{i}.png", "class": ("cat", "dog")[i % 2], "split": split})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(folder)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "pictures", 8)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "mixture"
    likelihood = {"name": "logistic-mixture", "num_mixtures": 2}
    return build_model("image", folder, (16, 16), likelihood=likelihood)


@pytest.fixture(scope="module")
def first_stage(image_model, tmp_path_factory):
    generator = vqvideo.load(image_model)
    folder = tmp_path_factory.mktemp("models") / "first"
    vqvideo.save(Generator(generator.vqvae, None, generator.config), folder)
    return str(folder)


@pytest.fixture(scope="module")
def evaluation_result(image_model, image_folder, tmp_path_factory):
    """What evaluating the image model gave: files, figures, items."""
    out = tmp_path_factory.mktemp("out") / "deep" / "down"
    files, figures = evaluate(model=image_model, data=image_folder, out=str(out), batch_size=3)
    return files, figures, json.loads((out / "evaluation.json").read_text())["items"]


def compute_code_nll(prior, codes, cond=None):
    """Log p(codes) position by position, each from logits of its own."""
    total, logits = 0.0, prior.logits(codes[None], cond)[0]
    for place in itertools.product(*map(range, codes.shape)):
        here = [logits[(k, *place)].item() for k in range(len(logits))]
        total += here[codes[place]] - math.log(sum(map(math.exp, here)))
    return total


STUDENT_QUANTILES = {
    2: 12.7062,
    3: 4.3027,
    7: 2.4469,
    30: 2.0452,
}  # 97.5 % quantiles, by number of items


def compute_interval_by_hand(values):
    mean = sum(values) / len(values)
    aside = STUDENT_QUANTILES[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return [mean - aside, mean + aside]


@pytest.mark.slow
@torch.no_grad()
def test_terms_of_an_image_are_those_of_it_alone(evaluation_result, image_model, image_folder):
    _, figures, items = evaluation_result
    generator = vqvideo.load(image_model).eval()
    vqvae, codes_seen = generator.vqvae, Counter()
    assert [Path(item["file"]).name for item in items] == [f"{i}.png" for i in range(1, 8)]
    for item in items:
        x = media.read_image(item["file"])
        parameters, quantized = vqvae(x[None])
        codes_seen.update(quantized.codes.flatten().tolist())
        reconstruction = vqvae.likelihood.log_prob(parameters, x[None]).item()
        prior = compute_code_nll(generator.prior, quantized.codes[0])
        uniform = -16 * math.log(16)
        expected = {
            "reconstruction": reconstruction,
            "prior": prior,
            "elbo": reconstruction + prior,
            "uniform": uniform,
            "uniform_elbo": reconstruction + uniform,
        }
        for name, nats in expected.items():
            assert item[f"{name}_nats"] == pytest.approx(nats, rel=1e-5), name
            bits = -nats / (3 * 16 * 16) / math.log(2)
            assert item[f"{name}_bits_per_dim"] == pytest.approx(bits, rel=1e-5), name
        error = statistics.fmean(
            (a - b) ** 2
            for a, b in zip(
                x.flatten().tolist(),
                vqvae.likelihood.mode(parameters).flatten().tolist(),
                strict=True,
            )
        )
        assert item["psnr_db"] == pytest.approx(10 * math.log10(4 / error), rel=1e-5)
    shares = [count / (7 * 16) for count in codes_seen.values()]
    assert figures["usage"] == pytest.approx(len(codes_seen) / 16)
    entropy = -sum(share * math.log(share) for share in shares)
    assert figures["perplexity"] == pytest.approx(math.exp(entropy), rel=1e-5)
    assert figures["is_density"] is False


def test_means_have_intervals_over_items(evaluation_result):
    _, figures, items = evaluation_result
    assert figures["num_items"] == figures["num_files"] == len(items) == 7
    for name in ("elbo_nats", "reconstruction_bits_per_dim", "psnr_db", "ssim"):
        values = [item[name] for item in items]
        mean = figures["means"][name]
        assert mean["mean"] == pytest.approx(sum(values) / 7), name
        assert mean["ci95"] == pytest.approx(compute_interval_by_hand(values), rel=1e-5), name
        assert mean["num_items"] == 7
    low, high = figures["means"]["uniform_nats"]["ci95"]
    assert low == high
    assert figures["interval"].startswith("95 % confidence interval of the mean over 7 items")
    assert "Each item is from a different file" in figures["interval"]
    error = sum(item["mean_squared_error"] for item in items) / 7
    assert figures["psnr_db_of_mean_squared_error"] == pytest.approx(10 * math.log10(4 / error))


def test_a_single_value_has_no_interval():
    assert estimate_mean([3.0]) == (3.0, None)


@pytest.mark.parametrize("number", STUDENT_QUANTILES)
def test_the_interval_of_few_values_is_students(number):
    values = [math.sin(i) for i in range(number)]
    assert estimate_mean(values).ci95 == pytest.approx(compute_interval_by_hand(values), rel=1e-4)


def test_compression_is_the_papers_and_audio_has_sixteen_bits():
    assert round(compute_compression((3, 128, 128), (32, 32), 512, None)["ratio"], 2) == 42.67
    found = compute_compression((1, 512), (8, 2), 16, -20 * math.log(2))
    assert found["data_bits"] == 512 * 16
    assert found["code_bits"] == 8 * 2 * 4
    assert found["prior_code_bits"] == pytest.approx(20)
    assert found["prior_ratio"] == pytest.approx(512 * 16 / 20)
    assert compute_compression((1, 512), (8,), 1, None)["ratio"] is None


@pytest.mark.parametrize(("num_values", "bits"), [(2, 1), (256, 8), (None, 8), (1024, 8)])
def test_a_model_is_not_credited_with_bits_that_its_likelihood_does_not_distinguish(
    num_values, bits
):
    found = compute_compression((3, 4, 4), (2, 2), 4, None, num_values)
    assert found["bits_per_value"] == bits
    assert found["data_bits"] == 3 * 4 * 4 * bits
    assert found["ratio"] == 3 * 4 * 4 * bits / (2 * 2 * 2)


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.sources, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_shows_every_metric_and_embeds_its_images(evaluation_result):
    files, figures, _ = evaluation_result
    assert [file.name for file in files] == [
        "evaluation.json",
        "evaluation.html",
        "reconstructions.png",
        "samples.png",
        "codebook.png",
    ]
    page = Page(files[1].read_text())
    text = "\n".join(page.words)
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for name in ("reconstruction", "prior", "elbo", "uniform", "uniform_elbo"):
        mean = figures["means"][f"{name}_nats"]["mean"]
        assert f"{mean:,.1f}" in text, name
        assert f"{figures['means'][f'{name}_bits_per_dim']['mean']:,.4f}" in text, name
    for said in (
        "log p(x | z_q)",
        "-N ln K",
        f"{figures['compression']['ratio']:,.2f}",
        f"{figures['compression']['prior_ratio']:,.2f}",
        "One row per temperature, from top to bottom 0.6, 0.8, 1:",
        figures["interval"],
        figures["advice"],
        f"torch\n{torch.__version__}",
    ):
        assert said in text, said


def test_contact_sheets_show_originals_above_reconstructions_and_a_row_for_each_temperature(
    evaluation_result, image_model, image_folder
):
    files, _, items = evaluation_result
    generator, size = vqvideo.load(image_model), 16 * 8
    sheet = media.read_image(files[2])
    assert sheet.shape == (3, 2 * size + 2, 7 * size + 6 * 2)
    for column, item in enumerate(items):
        x = media.read_image(item["file"])
        again = generator.vqvae.decode(generator.vqvae.encode(x[None]))[0]
        for row, expected in enumerate((x, again)):
            top, left = row * (size + 2), column * (size + 2)
            shown = sheet[:, top : top + size : 8, left : left + size : 8]
            torch.testing.assert_close(shown, expected, atol=0.01, rtol=0)
    rows = media.read_image(files[3])
    for row, temperature in enumerate((0.6, 0.8, 1.0)):
        samples = generator.sample(num_samples=7, temperature=temperature, seed=0)
        shown = rows[:, row * (size + 2) : row * (size + 2) + size : 8, :size:8]
        torch.testing.assert_close(shown, samples[0], atol=0.01, rtol=0)


@pytest.mark.slow
def test_metrics_do_not_depend_on_the_batch(evaluation_result, image_model, image_folder):
    _, figures, _ = evaluation_result
    _, alone = evaluate(model=image_model, data=image_folder, batch_size=1, temperatures=())
    for name, mean in figures["means"].items():
        assert alone["means"][name]["mean"] == pytest.approx(mean["mean"], rel=1e-5), name
    assert not Path("outputs/evaluation/samples.png").exists()


def test_fewer_items_are_evenly_spread_and_progress_counts_them_and_the_samples(
    image_model, image_folder
):
    steps = []
    evaluate(
        model=image_model,
        data=image_folder,
        max_items=3,
        batch_size=2,
        temperatures=(0.0, 1.0),
        progress=lambda *step: steps.append(step),
    )
    items = json.loads(Path("outputs/evaluation/evaluation.json").read_text())["items"]
    assert [Path(item["file"]).name for item in items] == ["1.png", "3.png", "5.png"]
    assert steps == [(2, 9), (3, 9), (6, 9), (9, 9)]


@pytest.mark.slow
@torch.no_grad()
def test_a_gaussian_video_model_is_scored_in_nats_of_a_density_alone(small_model, clips):
    files, figures = evaluate(
        model=str(small_model), data=str(clips), split="train", max_items=3, temperatures=(1.0,)
    )
    generator = vqvideo.load(small_model).eval()
    vqvae = generator.vqvae
    variance = vqvae.likelihood.variance.item()
    x = torch.stack([ClipDataset(clips, (16, 64, 64))[i]["x"] for i in (0, 3, 7)])
    nats, similarity = [], []
    for item in x:
        parameters, _ = vqvae(item[None])
        squares = (parameters[0].double() - item.double()).square().sum().item()
        number = 3 * 16 * 64 * 64
        nats.append(-squares / variance / 2 - number * math.log(2 * math.pi * variance) / 2)
        again = parameters[0].clamp(-1, 1)
        frames = [build_ssim()(again[:, t][None], item[:, t][None]).item() for t in range(16)]
        similarity.append(sum(frames) / 16)
    means = figures["means"]
    assert means["reconstruction_nats"]["mean"] == pytest.approx(sum(nats) / 3, rel=1e-5)
    assert means["reconstruction_nats"]["ci95"] == pytest.approx(
        compute_interval_by_hand(nats), rel=1e-4
    )
    assert means["ssim"]["mean"] == pytest.approx(sum(similarity) / 3, rel=1e-4)
    assert not any("bits_per_dim" in name for name in means)
    assert figures["notes"][0].startswith("The likelihood is gaussian, a density")
    text = files[1].read_text()
    assert "They may be positive" in text and "do not give bits per dimension" in text
    assert "<th>bits per dimension" not in text
    assert [file.name for file in files] == [
        name for name in OUTPUT_FILES if not name.endswith(".wav")
    ]
    assert text.count('src="data:video/mp4;base64,') == 2
    film = media.read_video("outputs/evaluation/reconstructions.mp4").frames
    assert film.shape == (3, 16, 2 * 64 * 3, 3 * 64 * 3)
    assert (film[:, :, : 64 * 3 : 3, : 64 * 3 : 3] - x[0]).abs().mean() < 0.05


@pytest.mark.slow
def test_windows_of_one_file_are_said_to_be_alike(small_model, tmp_path):
    (tmp_path / "clips").mkdir()
    frames = torch.rand(3, 40, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for name in ("a", "b"):
        media.write_video(tmp_path / "clips" / f"{name}.mp4", frames, fps=8)
    _, figures = evaluate(model=str(small_model), data="clips", temperatures=())
    assert (figures["num_items"], figures["num_files"]) == (2, 1)
    assert "windows of 1 files; windows of one file are correlated" in figures["interval"]
    items = json.loads(Path("outputs/evaluation/evaluation.json").read_text())["items"]
    assert [item["start"] for item in items] == [0, 16]
    _, figures = evaluate(
        model=str(small_model), data="clips", temperatures=(), max_items=1, overwrite=True
    )
    assert figures["interval"] == "a single item has no confidence interval"
    assert figures["means"]["psnr_db"]["ci95"] is None


@pytest.mark.slow
def test_without_a_prior_there_is_no_prior_term_and_no_sample_and_the_page_says_so(
    first_stage, image_model, image_folder
):
    evaluate(model=image_model, data=image_folder, max_items=2)
    assert Path("outputs/evaluation/samples.png").is_file()
    files, figures = evaluate(model=first_stage, data=image_folder, max_items=2, overwrite=True)
    assert "samples.png" not in [file.name for file in files]
    assert not Path("outputs/evaluation/samples.png").exists()  # of the other model
    assert not {"prior_nats", "elbo_nats", "prior_bits_per_dim"} & set(figures["means"])
    assert "uniform_elbo_bits_per_dim" in figures["means"]
    assert "prior_ratio" not in figures["compression"]
    assert "The model has no prior, so" in files[1].read_text()


@torch.no_grad()
def test_a_conditional_prior_gets_its_conditions_from_the_data(image_folder, tmp_path):
    cond = {"num_classes": 2, "class_names": ["cat", "dog"]}
    prior = {**SMALL["prior"], "cond": cond}
    model = build_model("image", tmp_path / "told", (16, 16), prior=prior)
    generator = vqvideo.load(model).eval()
    for weight in generator.prior.parameters():  # else a class makes little difference
        weight.copy_(torch.randn(weight.shape))
    vqvideo.save(generator, model, overwrite=True)
    evaluate(model=model, data=image_folder, max_items=4, temperatures=(1.0,))
    for item in json.loads(Path("outputs/evaluation/evaluation.json").read_text())["items"]:
        codes = generator.vqvae.encode(media.read_image(item["file"])[None])[0]
        number = int(Path(item["file"]).stem) % 2
        one, other = (
            compute_code_nll(generator.prior, codes, Cond(class_id=torch.tensor([each])))
            for each in (number, 1 - number)
        )
        assert item["prior_nats"] == pytest.approx(one, rel=1e-4)
        assert one != pytest.approx(other, rel=1e-3)


def test_data_of_other_classes_is_refused(image_folder, tmp_path):
    cond = {"num_classes": 2, "class_names": ["cat", "cow"]}
    model = build_model(
        "image", tmp_path / "told", (16, 16), prior={**SMALL["prior"], "cond": cond}
    )
    message = "the prior knows the classes cat, cow; the data also has dog. Give data with known"
    with pytest.raises(ValueError, match=message):
        evaluate(model=model, data=image_folder)


@pytest.mark.slow
def test_an_autoregressive_likelihood_reconstructs_a_few_items_only(tmp_path):
    data = write_images(tmp_path / "small", 11, size=8)
    likelihood = {
        "name": "autoregressive",
        "num_features": 4,
        "prior": {"width": 8, "num_layers": 2},
    }
    model = build_model("image", tmp_path / "ar", (8, 8), likelihood=likelihood)
    files, figures = evaluate(model=model, data=data, temperatures=())
    assert figures["num_items"] == figures["means"]["elbo_bits_per_dim"]["num_items"] == 10
    assert figures["means"]["psnr_db"]["num_items"] == figures["means"]["ssim"]["num_items"] == 8
    assert "PSNR and SSIM are averaged over only 8 evenly spread items" in files[1].read_text()


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 8])
def test_images_too_small_for_ssim_have_none_and_the_page_says_so(size, tmp_path):
    data = write_images(tmp_path / "small", 3, size=size)
    few = {"likelihood": "bernoulli", "quantizer": {"codebook_size": 4, "code_dim": 4}}
    model = build_model("image", tmp_path / "model", (size, size), **few)
    files, figures = evaluate(model=model, data=data, temperatures=())
    text = files[1].read_text()
    said = "There is no SSIM: it needs at least 6 pixels per side, these images are 4 x 4."
    assert ("ssim" in figures["means"]) == (size == 8)
    assert (said in figures["notes"]) == (said in text) == (size == 4)
    assert figures["compression"]["data_bits"] == 3 * size * size
    assert "an item, 1 bits per value" in text


def test_audio_is_shown_as_spectrograms_and_can_be_heard(tmp_path):
    (tmp_path / "sounds").mkdir()
    for number in range(2):
        sound = torch.sin(torch.arange(1100) * (0.05 + 0.02 * number))[None] * 0.5
        media.write_audio(tmp_path / "sounds" / f"{number}.wav", sound, 16000)
    model = build_model("audio", tmp_path / "audio", (512,))
    files, figures = evaluate(model=model, data="sounds", batch_size=1)
    assert [file.name for file in files] == [
        name for name in OUTPUT_FILES if not name.endswith(".mp4")
    ]
    heard = media.read_audio("outputs/evaluation/reconstructions.wav").samples
    assert figures["num_items"] == 2
    assert "ssim" not in figures["means"]
    x = torch.stack(
        [ClipDataset("sounds", (512,), split="test", sample_rate=16000)[i]["x"] for i in (0, 1)]
    )
    vqvae = vqvideo.load(model).vqvae
    again = vqvae.decode(vqvae.encode(x))
    in_turn = torch.stack([heard.reshape(-1, 512)[place] for place in (0, 2, 1, 3)]).view(2, 2, 512)
    assert (in_turn[:, :, None] - torch.stack([x, again])).abs().flatten(1).max() < 0.01
    error = (again - x).square().mean().item()
    expected = 10 * math.log10(4 / error)
    assert figures["psnr_db_of_mean_squared_error"] == pytest.approx(expected, rel=1e-4)
    assert figures["compression"]["data_bits"] == 512 * 16


def test_what_cannot_be_done_is_refused_before_any_work(
    image_model, image_folder, clips, monkeypatch
):
    def refuse(kind, message, **changes):
        with pytest.raises(kind, match=message):
            evaluate(**{"model": image_model, "data": image_folder, **changes})

    refuse(ValueError, "split must be 'train' or 'test', got 'dev'", split="dev")
    refuse(ValueError, "batch_size must be at least 1, got 0", batch_size=0)
    refuse(ValueError, "max_items must be at least 1, got 0", max_items=0)
    message = "temperature must be a finite number >= 0, got -0.5"
    refuse(ValueError, message, temperatures=(1.0, -0.5))
    (Path.cwd() / "sounds").mkdir()
    media.write_audio("sounds/a.wav", torch.zeros(1, 600), 16000)
    refuse(ValueError, "sounds holds no file ending in .png", data="sounds")
    Path("file").touch()
    refuse(NotADirectoryError, "file is a file", out="file")
    for name in OUTPUT_FILES:
        Path("there").mkdir()
        (Path("there") / name).write_text("mine")
        refuse(FileExistsError, f"{name} exists; give another --out or --overwrite", out="there")
        assert (Path("there") / name).read_text() == "mine"
        (Path("there") / name).unlink()
        Path("there").rmdir()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torchmetrics.functional.image", None)
        refuse(ImportError, "SSIM needs torchmetrics: pip install 'vqvideo.report.'")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    refuse(ImportError, "pip install 'vqvideo.report.'")
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_an_evaluation_that_is_stopped_leaves_the_one_before_as_it_was(
    image_model, first_stage, image_folder, monkeypatch
):
    evaluate(model=image_model, data=image_folder, max_items=2, temperatures=(1.0,))
    folder = Path("outputs/evaluation")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def stop(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("vqvideo.commands.evaluate.write_evaluation_page", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model=first_stage, data=image_folder, max_items=2, overwrite=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@torch.no_grad()
def test_a_term_that_is_not_finite_is_named_with_its_window(image_model, image_folder, monkeypatch):
    prior_class = type(vqvideo.load(image_model).prior)
    nan = lambda self, codes, cond=None: torch.full((len(codes),), math.nan)  # noqa: E731
    monkeypatch.setattr(prior_class, "log_prob", nan)
    message = r"prior_nats of .*1.png from 0 is nan: the log-probability is not finite"
    with pytest.raises(FloatingPointError, match=message):
        evaluate(model=image_model, data=image_folder)


def test_a_reconstruction_that_is_not_finite_is_not_called_a_log_probability(
    image_model, image_folder, monkeypatch
):
    monkeypatch.setattr(
        LogisticMixtureLikelihood, "mode", lambda self, p: torch.full((len(p), 3, 16, 16), math.nan)
    )
    message = r"mean_squared_error of .*1.png from 0 is nan: the reconstruction is not finite"
    with pytest.raises(FloatingPointError, match=message):
        evaluate(model=image_model, data=image_folder)


@pytest.mark.slow
def test_an_unreadable_window_is_left_out_and_its_file_named(image_model, tmp_path):
    data = write_images(tmp_path / "pictures", 6)
    whole, _ = evaluate(model=image_model, data=data, temperatures=())
    rows = json.loads(whole[0].read_text())["items"]
    damaged = Path(data) / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(media.MediaError, match=r"3\.png"):
        evaluate(model=image_model, data=data, temperatures=(), out="again")
    files, figures = evaluate(
        model=image_model, data=data, temperatures=(), batch_size=2, out="again", max_corrupt=0.5
    )
    items = json.loads(files[0].read_text())["items"]
    assert [Path(item["file"]).name for item in items] == ["1.png", "2.png", "4.png", "5.png"]
    for item in items:
        expected = next(row for row in rows if row["file"] == item["file"])
        assert item["elbo_nats"] == pytest.approx(expected["elbo_nats"], rel=1e-5)
    assert (figures["num_items"], figures["num_unreadable_windows"]) == (4, 1)
    [lost] = figures["unreadable_files"]
    assert Path(lost["file"]).name == "3.png"
    text = "".join(Page(files[1].read_text()).words)
    assert "1 of the windows to be scored could not be decoded" in text
    assert lost["file"] in text and lost["reason"] in text
    assert media.read_image(files[2]).shape == (3, 2 * 128 + 2, 4 * 128 + 3 * 2)


def test_where_no_window_can_be_read_there_is_nothing_to_score(image_model, tmp_path):
    data = write_images(tmp_path / "pictures", 3)
    clips = ClipDataset(data, (16, 16), split="test", max_corrupt=1)
    for name in ("1.png", "2.png"):
        (Path(data) / name).write_bytes((Path(data) / name).read_bytes()[:-20])
    generator = vqvideo.load(image_model)
    with pytest.raises(media.MediaError, match=r"none of 2 windows can be read.*1\.png"):
        score_items(generator, clips, [0, 1], batch_size=1, advance=lambda number: None)


@pytest.mark.slow
def test_the_command_prints_its_files_or_all_means_as_json(image_model, image_folder, capsys):
    command = ["evaluate", "--model", image_model, "--data", image_folder, "--max-items", "2"]
    assert main([*command, "--temperatures", "1"]) == 0
    printed = capsys.readouterr()
    names = printed.out.split()
    assert names[:2] == ["outputs/evaluation/evaluation.json", "outputs/evaluation/evaluation.html"]
    assert printed.err == ""
    assert main([*command, "--temperatures", "--json", "--overwrite"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [name for name in names if "samples" not in name]
    assert said["num_items"] == 2
    assert "items" not in said
    stored = json.loads(Path(names[0]).read_text())
    assert stored["means"] == said["means"]
    assert main(command) == 1
    assert re.search(r"evaluation.json exists; give another --out", capsys.readouterr().err)
