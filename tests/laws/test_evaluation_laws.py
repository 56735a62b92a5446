"""The laws of evaluation in training mode catch the faults planted for them."""

from functools import partial

import pytest
import torch
from torch import nn

from vqvideo.priors import CausalPrior, VQVAEPrior
from vqvideo.quantizers import EMAQuantizer
from vqvideo.testing import evaluation as laws
from vqvideo.testing.laws import check_laws

SMALL_PRIOR = {"width": 8, "kernel_radii": (1, 1), "dilations": (1, 2)}
SMALL = {"width": 8, "num_layers": 2}


class BoundDropoutQuantizer(EMAQuantizer):
    """A function keeps the module itself, so that a view of the quantizer still calls it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dropout = dropout = nn.Dropout(0.5)
        self.drop = lambda z_e: dropout(z_e)

    def quantize(self, z_e, mask):
        return super().quantize(self.drop(z_e), mask)


class BoundModeQuantizer(EMAQuantizer):
    """The mode of another object, which no hook sees."""

    def __init__(self, **options):
        super().__init__(**options)
        self.get_original = lambda: self

    def quantize(self, z_e, mask):
        return super().quantize(z_e * (2 - self.get_original().training), mask)


class RememberingQuantizer(EMAQuantizer):
    def quantize(self, z_e, mask):
        self.usage_ema *= 0.99
        return super().quantize(z_e, mask)


class SwitchingPrior(CausalPrior):
    def __init__(self, **options):
        super().__init__(**options)
        self.get_original = lambda: self

    def init_state(self, *args):
        self.get_original().net.eval()
        state = super().init_state(*args)
        self.get_original().net.train()
        return state


class SwitchingLatentPrior(VQVAEPrior):
    def __init__(self, *, rank, codebook_size):
        latents = {"codebook_size": 7, "code_dim": 3}
        sizes = {"strides": ((1,) * rank,), "width": 8, "quantizer": latents}
        super().__init__(rank=rank, codebook_size=codebook_size, bottom=SMALL, top=SMALL, **sizes)
        self.get_original = lambda: self

    def log_prob(self, codes, cond=None):
        self.get_original().top.eval()
        return super().log_prob(codes, cond)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (BoundDropoutQuantizer, "a Dropout is evaluated in training mode"),
        (BoundModeQuantizer, "values of result [01] differ from those in evaluation mode"),
        (RememberingQuantizer, "evaluation in training mode changed usage_ema"),
    ],
)
def test_a_quantizer_whose_evaluation_depends_on_its_mode_is_caught(broken, message):
    law = laws.a_quantizer_in_training_mode_is_evaluated_unchanged
    with pytest.raises(AssertionError, match=f"breaks the law {law.__name__}: .*{message}"):
        check_laws([law], "it", partial(broken, codebook_size=7, code_dim=4))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("broken", "options", "name"),
    [(SwitchingPrior, SMALL_PRIOR, "net"), (SwitchingLatentPrior, {}, "top")],
)
def test_a_prior_that_switches_its_mode_to_evaluate_is_caught(broken, options, name, rank):
    law = laws.a_prior_in_training_mode_is_evaluated_unchanged
    message = f"evaluation switches the mode of {name}, which other threads see"
    with pytest.raises(AssertionError, match=f"breaks the law {law.__name__}: {message}"):
        check_laws([law], "it", partial(broken, **options), rank)


def test_a_part_that_keeps_the_law_is_in_evaluation_mode_afterwards_with_no_hook_left():
    quantizers = []

    def build():
        torch.manual_seed(0)
        quantizers.append(EMAQuantizer(codebook_size=7, code_dim=4, z_channels=3))
        return quantizers[-1]

    laws.a_quantizer_in_training_mode_is_evaluated_unchanged(build)
    assert not any(module.training for module in quantizers[0].modules())
    assert not any(module._forward_pre_hooks for module in quantizers[0].modules())
