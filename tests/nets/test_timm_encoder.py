"""The encoder on timm's backbones: shapes, frames apart, errors; nothing is downloaded."""

import sys

import pytest
import torch

from vqvideo.nets import ENCODERS


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


def test_a_code_frame_sees_its_own_frames_and_no_others(encoder):
    x = torch.randn(1, 3, 4, 32, 64, requires_grad=True)
    (grad,) = torch.autograd.grad(encoder(x)[:, :, 0].sum(), x)
    seen = grad[0].transpose(0, 1).flatten(1).abs().sum(dim=1) > 0
    assert seen.tolist() == [True, True, False, False]


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
        ({"backbone": "convnext_attoo"}, "timm has no backbone 'convnext_attoo'"),
        ({"strides": ((1, 3, 3),)}, "stages of reduction 4, 8, 16, 32, not 3"),
        ({"strides": ((1, 4, 2),)}, "height and width have the same downsampling"),
        ({"rank": 1, "strides": ((4,),)}, "for images and video"),
    ],
)
def test_what_it_cannot_do_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_timm_that_cannot_be_imported_says_what_to_check(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="check that torch and torchvision belong together"):
        build()
