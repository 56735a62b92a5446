"""However a step is cut into micro-batches, it leaves what one whole batch leaves."""

import copy

import pytest
import torch

from vqvideo.quantizers import QUANTIZERS
from vqvideo.testing.grids import GRIDS

SMALL = {"codebook_size": 7, "code_dim": 3, "dead_code_threshold": 0.3}
KINDS = {
    "ema": ("ema", SMALL),
    "ema kmeans": ("ema", {**SMALL, "init": "kmeans"}),
    "ema warm-up": ("ema", {**SMALL, "warmup_steps": 2}),
    "ema cosine": ("ema", {**SMALL, "cosine": True}),
    "ema projected": ("ema", {**SMALL, "z_channels": 5}),
    "ema projected kmeans cosine": (
        "ema",
        {**SMALL, "z_channels": 5, "init": "kmeans", "cosine": True},
    ),
    "vector": ("vector", SMALL),
    "vector kmeans": ("vector", {**SMALL, "init": "kmeans"}),
    "vector cosine projected": ("vector", {**SMALL, "cosine": True, "z_channels": 5}),
    "product": ("product", {"part": SMALL}),
    "product kmeans": ("product", {"part": {**SMALL, "init": "kmeans"}}),
    "residual": ("residual", {"part": SMALL}),
    "residual vector kmeans": (
        "residual",
        {"num_codebooks": 3, "part": {"name": "vector", **SMALL, "init": "kmeans"}},
    ),
}
CUTS = [(1, 5), (5, 1), (2, 2, 2), (3, 3), (1,) * 6, (4, 0, 2)]
STEPS = 6


def build_manual(name):
    torch.manual_seed(0)
    quantizer = QUANTIZERS.build(*KINDS[name]).train()
    quantizer.auto_update = False
    return quantizer


def list_codebooks(quantizer):
    return [m for m in quantizer.modules() if hasattr(m, "codebook")]


def kill_an_entry(quantizer):
    """Of each codebook the fourth entry, put far away as if nobody had won it for long."""
    for each in list_codebooks(quantizer):
        if each.initialized:
            entry = torch.tensor([3])
            each.usage_ema[entry] = 0
            each._replace_entries(entry, torch.full((1, 3), 50.0), torch.tensor([1e-3]))


def require_close(quantizer, other, what):
    for name, tensor in quantizer.state_dict().items():
        found = other.state_dict()[name]
        assert torch.allclose(found.double(), tensor.double(), rtol=1e-5, atol=1e-6), (
            f"{what}: {name} is {found}, not {tensor}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_micro_batches_leave_what_one_whole_batch_leaves(name, masked):
    """At the start, by movement, by revival, and with masks of unequal number per item."""
    whole = build_manual(name)
    twins = {cut: copy.deepcopy(whole) for cut in CUTS}
    for step in range(STEPS):
        if step in (3, 5):
            for each in (whole, *twins.values()):
                kill_an_entry(each)
        z_e = torch.randn(6, whole.z_channels, 4, 5)
        share = torch.rand(6)[:, None, None].clamp(0.2, 0.9)
        mask = torch.rand(6, 4, 5) < share if masked else None
        whole(z_e, mask)
        whole.update_codebook()
        for cut, twin in twins.items():
            masks = [None] * len(cut) if mask is None else mask.split(cut)
            for part, its_mask in zip(z_e.split(cut), masks, strict=True):
                twin(part, its_mask)
            twin.update_codebook()
            require_close(whole, twin, f"after step {step}, cut into {cut}")
    assert not whole.is_warming_up
    for each in list_codebooks(whole):
        assert each.codebook.abs().max() < 20, "the dead entry was not revived"


@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("name", ["ema", "vector kmeans", "residual"])
def test_micro_batches_do_not_show_on_any_grid(name, rank):
    whole = build_manual(name)
    parts = copy.deepcopy(whole)
    for step in range(4):
        z_e = torch.randn(6, whole.z_channels, *GRIDS[rank])
        whole(z_e)
        for part in z_e.split((1, 3, 2)):
            parts(part)
        for each in (whole, parts):
            each.update_codebook()
        require_close(whole, parts, f"after step {step}")


@pytest.mark.parametrize("name", KINDS)
def test_a_training_forward_steps_by_itself_where_nobody_else_does(name):
    by_itself = build_manual(name)
    by_hand = copy.deepcopy(by_itself)
    by_itself.auto_update = True
    for step in range(4):
        z_e = torch.randn(6, by_hand.z_channels, 9)
        one, other = by_itself(z_e), by_hand(z_e)
        by_hand.update_codebook()
        require_close(by_hand, by_itself, f"after step {step}")
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_codes_and_losses_of_a_micro_batch_are_from_the_codebook_before_the_step(name):
    quantizer = build_manual(name)
    for _ in range(5):
        quantizer(torch.randn(6, quantizer.z_channels, 9))
        quantizer.update_codebook()
    first = torch.randn(2, quantizer.z_channels, 9)
    fresh = copy.deepcopy(quantizer)(first)
    quantizer(torch.randn(4, quantizer.z_channels, 9) + 3)
    torch.testing.assert_close(quantizer(first), fresh, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["vector", "vector kmeans", "vector cosine projected"])
@pytest.mark.parametrize("cut", [(1, 5), (2, 2, 2)], ids=str)
def test_an_optimizer_on_accumulated_gradients_moves_as_on_the_whole_batch(name, cut):
    whole = build_manual(name)
    parts = copy.deepcopy(whole)
    optimizers = [torch.optim.SGD(q.parameters(), lr=2.0, momentum=0.9) for q in (whole, parts)]
    for step in range(5):
        z_e = torch.randn(6, whole.z_channels, 9)
        for each, sizes in [(whole, (6,)), (parts, cut)]:
            for part in z_e.split(sizes):
                out = each(part)
                loss = out.codebook_loss + out.commitment_loss + (out.z_q - part).square().mean()
                (loss * len(part) / 6).backward()
        for each, optimizer in zip((whole, parts), optimizers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            each.update_codebook()
        require_close(whole, parts, f"after step {step}")
