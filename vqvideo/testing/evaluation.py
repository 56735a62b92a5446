"""Laws of evaluation on a part in training mode, which another thread may be training."""

from __future__ import annotations

import copy
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.modes import eval_view
from vqvideo.sampling import generate
from vqvideo.testing import likelihood_setup, prior_setup, quantizer_setup
from vqvideo.testing.autoencoder_setup import AutoencoderCase
from vqvideo.testing.grids import TINY_GRIDS, find_differences, format_mismatch
from vqvideo.testing.model_setup import ModelCase

REFERENCE = "vqvideo.modes.eval_view"


def a_network_in_training_mode_is_evaluated_unchanged(case: AutoencoderCase) -> None:
    """The view of an encoder or decoder in training mode gives bitwise its output in evaluation
    mode; meanwhile no module switches its mode, and no tensor changes.
    """
    _assert_evaluated_unchanged(case.net, lambda net: [eval_view(net)(case.x)])


def a_quantizer_in_training_mode_is_evaluated_unchanged(build: quantizer_setup.Build) -> None:
    """The view of a quantizer in training mode gives bitwise its codes and z_q in evaluation mode;
    meanwhile no module switches its mode, and no tensor changes.
    """
    quantizer, z_e = quantizer_setup.build_trained_quantizer(build, rank=2)
    _assert_evaluated_unchanged(quantizer, lambda part: eval_view(part)(z_e)[:2])


def a_prior_in_training_mode_is_evaluated_unchanged(build: prior_setup.Build, rank: int) -> None:
    """Sampling from a prior in training mode, and scoring by its view, give bitwise what they give
    in evaluation mode; meanwhile no module switches its mode, and no tensor changes.
    """
    prior, grid = prior_setup.build_noisy_prior(build, rank), TINY_GRIDS[rank]

    def run(part: Any) -> list[Tensor]:
        codes = generate(part, grid, batch=2, seed=1)
        return [codes, eval_view(part).log_prob(codes)]

    _assert_evaluated_unchanged(prior, run)


def a_likelihood_in_training_mode_is_evaluated_unchanged(
    build: likelihood_setup.Build, rank: int
) -> None:
    """Decoding with a likelihood in training mode, and scoring by its view, give bitwise what they
    give in evaluation mode; meanwhile no module switches its mode, and no tensor changes.
    """
    likelihood, parameters, x = likelihood_setup.build_case(build, rank)
    _assert_evaluated_unchanged(
        likelihood,
        lambda part: [*part.sample_stream([parameters]), eval_view(part).log_prob(parameters, x)],
    )


def a_model_in_training_mode_is_evaluated_unchanged(case: ModelCase) -> None:
    """Encoding, decoding, sampling and scoring with a model in training mode give bitwise what they
    give in evaluation mode; meanwhile no module switches its mode, and no tensor changes.
    """

    def run(generator: Any) -> list[Tensor]:
        codes, score = generator.vqvae.encode(case.x), generator.log_prob(case.x, case.cond)
        data = generator.vqvae.decode(codes, generator.select_decoder_cond(case.cond))
        sample = generator.sample(num_samples=len(case.x), cond=case.cond, seed=1)
        return [codes, data, sample, score.reconstruction, score.prior]

    _assert_evaluated_unchanged(case.generator, run)


@torch.no_grad()
def _assert_evaluated_unchanged(part: nn.Module, run: Callable[[Any], Sequence[Tensor]]) -> None:
    """Raise `AssertionError` unless `run(part)` returns the same in training mode as in evaluation
    mode and leaves no trace. The part is in evaluation mode afterwards.
    """
    expected = run(part.eval())
    before = copy.deepcopy(part.state_dict())
    try:
        with _watch_modes(part.train()):
            actual = run(part)
    finally:
        part.eval()
    for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert one.shape == other.shape and torch.equal(one, other), (
            f"in training mode {format_mismatch(one, other)} values of result {index} differ from "
            f"those in evaluation mode: a submodule is used that `eval_view` cannot replace, such "
            f"as one that a function has bound"
        )
    changed = find_differences(before, part.state_dict())
    assert not changed, f"evaluation in training mode changed {', '.join(changed)}"


@contextmanager
def _watch_modes(part: nn.Module) -> Iterator[None]:
    """Raise `AssertionError` if a submodule switches its mode, or runs in training mode."""
    modules = {id(module): name for name, module in part.named_modules()}
    set_attribute = nn.Module.__setattr__

    def check_attribute(module: nn.Module, name: str, value: Any) -> None:
        assert name != "training" or id(module) not in modules, (
            f"evaluation switches the mode of {modules[id(module)] or 'the part'}, which other "
            f"threads see; evaluate with `vqvideo.modes.eval_view`"
        )
        set_attribute(module, name, value)

    def check_mode(running: nn.Module, args: Any) -> None:
        assert not running.training, f"a {type(running).__name__} is evaluated in training mode"

    handles = [module.register_forward_pre_hook(check_mode) for module in part.modules()]
    try:
        with unittest.mock.patch.object(nn.Module, "__setattr__", check_attribute):
            yield
    finally:
        for handle in handles:
            handle.remove()
