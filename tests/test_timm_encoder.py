"""The encoder on timm's backbones: shapes, time, weights, errors; nothing is downloaded."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from vqvideo.nets import ENCODERS

TINY = {"model": "test_resnet", "width": 6}


def build(rank=3, strides=((2, 2, 2), (1, 2, 2)), **options):
    torch.manual_seed(0)
    return ENCODERS.build(
        "timm", options, rank=rank, channels=3, z_channels=5, strides=strides
    ).eval()


@pytest.fixture(scope="module")
def encoder():
    return build()


def test_the_grid_is_that_of_the_strides(encoder):
    with torch.no_grad():
        assert encoder(torch.zeros(2, 3, 4, 32, 64)).shape == (2, 5, 2, 8, 16)
    assert encoder.downsampling == (2, 4, 4)


@pytest.mark.parametrize("num_blocks", [0, 1, 2])
def test_a_code_frame_sees_its_own_frames_and_for_each_block_those_of_two_codes_before(num_blocks):
    encoder = build(**TINY, num_blocks=num_blocks)
    for parameter in encoder.blocks.parameters():  # blocks begin as nothing
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(1, 3, 14, 32, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(encoder(x)[:, :, 5].sum(), x)
    seen = grad[0].transpose(0, 1).flatten(1).abs().sum(dim=1) > 0
    first = 2 * max(5 - 2 * num_blocks, 0)
    assert seen.tolist() == [first <= frame < 12 for frame in range(14)]


@pytest.mark.parametrize("model", ["test_resnet", "test_mambaout"])
def test_blocks_are_initialized_as_the_identity_and_the_rest_after_the_backbone_as_one_linear_map(
    model,
):
    x = torch.randn(2, 3, 4, 32, 64)
    encoder = build(model=model, width=6, normalize=False)
    with torch.no_grad():
        frames = [encoder.backbone(x[:, :, t])[0] for t in range(4)]
        if model == "test_mambaout":  # gives its channels last
            frames = [frame.permute(0, 3, 1, 2) for frame in frames]
        pairs = torch.stack([torch.cat(frames[:2], dim=1), torch.cat(frames[2:], dim=1)], dim=2)
        kernel = encoder.merge.weight[..., 0, 0].transpose(1, 2).flatten(1)
        weight = encoder.blocks[-1].weight.flatten(1) @ kernel
        expected = torch.einsum("oi,bithw->bothw", weight, pairs)
        torch.testing.assert_close(encoder(x), expected, rtol=1e-3, atol=1e-5)


def test_codes_do_not_depend_on_the_rest_of_the_batch(encoder):
    x = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), rtol=1e-4, atol=1e-5)


def test_images_work_too():
    with torch.no_grad():
        z_e = build(rank=2, strides=((4, 4), (2, 2)))(torch.zeros(1, 3, 64, 32))
    assert z_e.shape == (1, 5, 8, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "convnext_attoo"}, "timm has no model 'convnext_attoo'"),
        ({"model": "hf-hub:timm/resnet18.a1_in1k"}, "timm has no model 'hf-hub"),
        ({"model": "test_mambaout", "pretrained": True}, "no weights for 'test_mambaout'; leave"),
        ({"pretrained": True, "weights": "a.pth"}, "weights='a.pth' exclude each other; give one"),
        ({"strides": ((1, 3, 3),)}, "stages of reduction 4, 8, 16, 32, not 3"),
        ({"model": "test_vit"}, "test_vit has stages of reduction 16, not 4; choose strides"),
        ({"strides": ((1, 4, 2),)}, "height and width have the same downsampling"),
        ({"rank": 1, "strides": ((4,),)}, "supports images and video"),
    ],
)
def test_what_it_cannot_do_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_transformers_take_images_of_any_size(name):
    encoder = build(rank=2, strides=((16, 16),), model=name, width=6)
    with torch.no_grad():
        for height, width in ((32, 48), (224, 224), (80, 16)):
            shape = encoder(torch.zeros(1, 3, height, width)).shape
            assert shape == (1, 5, height // 16, width // 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stride", "why"),
    [
        ("mixer_s32_224", 32, "128x192 .* Input height .128. doesn't match model .224."),
        ("levit_128s", 16, "64x96 .* size of tensor"),  # says so in no other way
        ("inception_v3", 8, r"32x48 image must give 4x6 .*\[1, 288, 1, 3\] returned"),
    ],
)
def test_a_model_for_images_of_some_sizes_is_refused_in_one_line(name, stride, why):
    with pytest.raises(
        ValueError, match=f"{name} does not support images of any size.*{why}"
    ) as said:
        build(rank=2, strides=((stride, stride),), model=name)
    assert "\n" not in str(said.value)


def test_a_model_that_does_not_give_its_stages_is_refused_in_one_line(monkeypatch):
    timm = pytest.importorskip("timm")

    def create(name, **options):
        raise RuntimeError("features_only not implemented\nfor this model")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(ValueError, match="test_resnet does not support features_only") as said:
        build(**TINY)
    assert "\n" not in str(said.value)


def test_a_timm_that_cannot_be_imported_says_what_to_check(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="check that the versions of torch and torchvision match"):
        build()


# -- weights --------------------------------------------------------------------------------


def build_timm_model(model, **options):
    """All of timm's model, its statistics too other than those it is built with."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    model = timm.create_model(model, **options)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand_like(tensor))
    return model.eval()


def save_weights(model, path):
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save({"state_dict": model.state_dict(), "epoch": 3}, path)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("model", ["test_resnet", "test_convnext"])
@pytest.mark.parametrize("classes", [1000, 7, 0])
def test_weights_come_from_a_file(model, ending, classes, tmp_path):
    source = build_timm_model(model, num_classes=classes)
    file = save_weights(source, tmp_path / f"weights.{ending}")
    x = torch.randn(2, 3, 32, 32)
    encoder = build(rank=2, strides=((4, 4),), model=model, weights=file)
    stage = encoder.backbone.feature_info.out_indices[0]
    with torch.no_grad():
        expected = source.forward_intermediates(x, indices=[stage], intermediates_only=True)[0]
        torch.testing.assert_close(encoder.backbone(x)[0], expected)


def test_weights_for_colours_serve_for_grey_images_as_their_sum(tmp_path):
    file = save_weights(source := build_timm_model("test_resnet"), tmp_path / "weights.pth")
    options = {"rank": 2, "z_channels": 5, "strides": ((4, 4),), "weights": file, **TINY}
    grey = ENCODERS.build("timm", options, channels=1).eval()
    colours = ENCODERS.build("timm", options, channels=3).eval()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        one, other = grey.backbone(x)[0], colours.backbone(x.expand(-1, 3, -1, -1))[0]
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert torch.equal(colours.backbone.conv1[0].weight, source.conv1[0].weight)


class Code:
    def __reduce__(self):
        return print, ("a pickle has run code",)


def save_incomplete_weights(path):
    state = build_timm_model("test_resnet").state_dict()
    del state["layer1.0.conv1.weight"]
    torch.save(state, path)


FILES = {
    "of another model": (
        lambda path: save_weights(build_timm_model("test_convnext"), path),
        'Missing key.* "conv1.0.weight"',
    ),
    "that lacks one": (save_incomplete_weights, 'Missing key.* "layer1.0.conv1.weight"'),
    "with one too many": (
        lambda path: torch.save(
            {**build_timm_model("test_resnet").state_dict(), "more": torch.ones(1)}, path
        ),
        'Unexpected key.* "more"',
    ),
    "with code": (lambda path: torch.save({"state_dict": Code()}, path), "builtins.print"),
    "of something else": (lambda path: torch.save([torch.ones(1)], path), "'list' object"),
    "of text": (lambda path: path.write_text("no weights"), "is not a weights file"),
}


@pytest.mark.parametrize("which", FILES)
def test_a_file_of_other_weights_is_refused_in_one_line(which, tmp_path, capsys):
    make, message = FILES[which]
    make(tmp_path / "weights.pth")
    with pytest.raises(
        ValueError, match=r"^.*weights\.pth is not a weights file of timm's test_resnet: "
    ):
        build(**TINY, weights=str(tmp_path / "weights.pth"))
    with pytest.raises(ValueError, match=message) as refused:
        build(**TINY, weights=str(tmp_path / "weights.pth"))
    assert "\n" not in str(refused.value)
    assert capsys.readouterr().out == ""


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"no weights file nowhere/resnet\.pth"):
        build(**TINY, weights="nowhere/resnet.pth")


def test_without_a_network_weights_of_the_hub_are_said_to_be_out_of_reach(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    said = (
        "the weights of timm's test_resnet could not be downloaded .* "
        "pass a weights file as weights=PATH$"
    )
    with pytest.raises(ConnectionError, match=said) as refused:
        build(**TINY, pretrained=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("cause", "kind", "message"),
    [
        (RuntimeError("No pretrained weights exist"), ValueError, "with timm's pretrained weights"),
        (ModuleNotFoundError("No module named 'open_clip'"), ImportError, "a package is missing"),
        (RuntimeError("package not installed"), ImportError, "a package is missing"),
        (OSError("no route to host"), ConnectionError, "could not be downloaded"),
    ],
)
def test_causes_of_missing_weights_are_distinguished(cause, kind, message, monkeypatch):
    timm = pytest.importorskip("timm")
    create = timm.create_model

    def fails(name, pretrained=False, **options):
        if pretrained:
            raise cause
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", fails)
    with pytest.raises(kind, match=f"{message}.*{cause}.*weights=PATH$"):
        build(**TINY, pretrained=True)


# -- what the weights expect ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_byobnet", "test_efficientnet", "test_resnet", "test_vit"])
def test_a_backbone_sees_data_as_timm_prepares_images_for_it(name):
    data = pytest.importorskip("timm.data")
    timm = pytest.importorskip("timm")
    stride = 16 if name == "test_vit" else 4
    encoder = build(rank=2, strides=((stride, stride),), model=name, width=6)
    pixels = torch.randint(256, (3, 32, 48), dtype=torch.uint8)
    told = data.resolve_model_data_config(timm.create_model(name))
    expected = torch.stack([(pixels[c] / 255 - told["mean"][c]) / told["std"][c] for c in range(3)])
    x = pixels[None] / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(encoder.normalizer(x)[0], expected)
        features = encoder.backbone(expected[None])[0]
        torch.testing.assert_close(encoder(x), encoder.blocks(encoder.merge(features)))


def test_whether_data_is_normalised_depends_on_that_option_alone(tmp_path):
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    file = save_weights(build_timm_model("test_byobnet"), tmp_path / "weights.pth")
    options = {"rank": 2, "strides": ((4, 4),), "model": "test_byobnet", "width": 6}
    drawn, read = build(**options), build(**options, weights=file)
    assert torch.equal(drawn.normalizer(x), read.normalizer(x))
    assert not [name for name in read.state_dict() if "as_expected" in name]
    raw = build(**options, weights=file, normalize=False)
    assert raw.state_dict().keys() == read.state_dict().keys()
    with torch.no_grad():
        seen = raw.blocks(raw.merge(raw.backbone(x)[0]))
        assert torch.equal(raw(x), seen)
        assert not torch.allclose(read(x), seen)


def test_grey_images_are_normalised_by_the_average_of_the_colours():
    options = {"rank": 2, "z_channels": 5, "strides": ((4, 4),), "model": "test_byobnet"}
    grey = ENCODERS.build("timm", options, channels=1)
    mean, std = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    x = torch.rand(1, 1, 4, 4) * 2 - 1
    torch.testing.assert_close(grey.normalizer(x), ((x + 1) / 2 - mean) / std)


def test_nothing_is_fetched_unless_it_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def forbidden(*args, **__):
        asked.append(args)
        raise OSError("no network")

    file = save_weights(build_timm_model("test_resnet"), tmp_path / "weights.safetensors")
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(f"socket.{name}", forbidden)
    build(**TINY)
    build(**TINY, weights=file)
    assert asked == []
