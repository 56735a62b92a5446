"""Muon: orthogonalized updates, in float32 where the processor has no bfloat16."""

import time

import pytest
import torch
from timm.optim import create_optimizer_v2

from vqvideo.training import precision
from vqvideo.training.muon import Muon, is_matrix, orthogonalize
from vqvideo.training.optimizer import build_optimizer
from vqvideo.training.task import OptimizerConfig


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (7, 7)])
def test_orthogonalized_matrices_are_those_of_a_decomposition_with_singular_values_near_one(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalize(matrices, torch.float32)
    values = u.mT @ found @ vh.mT  # diagonal in the basis of the decomposition
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert torch.allclose(values, torch.diag_embed(diagonal), atol=1e-3)
    assert (diagonal > 0.6).all()
    assert (diagonal < 1.3).all()


def test_matrices_step_as_with_timms_nesterov_muon_and_the_rest_as_with_torchs_adamw():
    def build():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv3d(5, 6, (1, 2, 3)), torch.nn.Linear(7, 7))

    ours, muon, adamw = build(), build(), build()
    before = [parameter.detach().clone() for parameter in ours.parameters()]
    options = {"lr": 1e-2, "weight_decay": 0.1}
    optimizers = [
        Muon(ours.parameters(), **options),
        create_optimizer_v2(muon.parameters(), opt="nmuon", **options),
        torch.optim.AdamW(adamw.parameters(), betas=(0.9, 0.95), **options),
    ]
    for _ in range(3):
        for each in zip(ours.parameters(), muon.parameters(), adamw.parameters(), strict=True):
            gradient = torch.randn_like(each[0])
            for parameter in each:
                parameter.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    for start, *each in zip(
        before, ours.parameters(), muon.parameters(), adamw.parameters(), strict=True
    ):
        expected = each[1] if is_matrix(start) else each[2]
        assert (each[0] - expected).norm() < 0.03 * (each[0] - start).norm()  # bfloat16


def test_vectors_depthwise_and_flat_kernels_are_no_matrices():
    shapes = {(8,): False, (8, 1, 3, 3): False, (4, 1024): False, (3, 9): False, (8, 2, 3): True}
    assert {shape: is_matrix(torch.empty(shape)) for shape in shapes} == shapes


@pytest.mark.parametrize(("has_bf16", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_a_processor_without_bfloat16_orthogonalizes_in_float32(monkeypatch, has_bf16, dtype):
    monkeypatch.setattr("vqvideo.training.optimizer.has_bf16", lambda: has_bf16)
    optimizer = build_optimizer(torch.nn.Linear(8, 8), OptimizerConfig(name="muon"))
    assert optimizer.dtype == dtype


def test_a_torch_that_is_limited_to_avx2_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not precision.has_bf16()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert precision.has_bf16()


@pytest.mark.slow
def test_orthogonalization_in_float32_takes_at_most_a_fifth_of_a_training_step():
    from vqvideo import build

    vqvae = build("video").vqvae
    optimizer = Muon(vqvae.parameters())
    x = torch.rand(8, 3, 16, 64, 64) * 2 - 1
    seconds = {"step": [], "update": []}
    for _ in range(4):
        start = time.perf_counter()
        vqvae.loss(x).total.backward()
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        seconds["step"].append(time.perf_counter() - start)
        seconds["update"].append(time.perf_counter() - middle)
    assert min(seconds["update"]) < 0.2 * min(seconds["step"])  # a tenth where nothing else runs
