"""Choosing codes: filters by hand-made logits, noise by its streams, samples by exact shares."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vqvideo.priors import PRIORS, Prior
from vqvideo.sampling import GumbelNoise, SamplingParams, generate

METHODS = ("auto", "cached", "full", "fixed_point")


def filter_logits(sampling: SamplingParams, logits: Tensor) -> list[int]:
    """The codes that a filter leaves possible, for logits `[K]`."""
    return torch.nonzero(sampling.filter(logits) > -math.inf).flatten().tolist()


def make_noise(seed: int, batch: int, codebook_size: int, positions: int) -> Tensor:
    """Noise `[positions, b, K]`."""
    noise = GumbelNoise(seed, batch, codebook_size)
    return torch.stack([noise.next() for _ in range(positions)])


# -- filters --------------------------------------------------------------------------------

# The probabilities of five codes, in no order: 0.4, 0.25, 0.2, 0.1, 0.05.
SHARES = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2])
LOGITS = SHARES.log() + 3


@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 3.0])
def test_temperature_divides_logits(temperature):
    filtered = SamplingParams(temperature=temperature).filter(LOGITS)
    powers = SHARES ** (1 / temperature)
    torch.testing.assert_close(filtered.softmax(0), powers / powers.sum())


@pytest.mark.parametrize(
    ("top_k", "codes"),
    [(1, [1]), (2, [1, 3]), (3, [1, 3, 4]), (4, [0, 1, 3, 4]), (5, [0, 1, 2, 3, 4])],
)
def test_top_k_keeps_the_k_most_probable_as_they_were(top_k, codes):
    sampling = SamplingParams(top_k=top_k)
    assert filter_logits(sampling, LOGITS) == codes
    assert torch.equal(sampling.filter(LOGITS)[codes], LOGITS[codes])


@pytest.mark.parametrize(
    ("logits", "top_k"), [([1.0, 1.0, 1.0, 0.0], 2), ([0.0, 0.0, 0.0], 1), ([2.0, 1.0, 1.0], 2)]
)
def test_top_k_keeps_no_more_than_k_where_codes_are_equally_probable(logits, top_k):
    assert len(filter_logits(SamplingParams(top_k=top_k), torch.tensor(logits))) == top_k


@pytest.mark.parametrize(
    ("top_p", "codes"),
    [
        (1e-9, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.64, [1, 3]),
        (0.66, [1, 3, 4]),
        (0.84, [1, 3, 4]),
        (0.86, [0, 1, 3, 4]),
        (0.94, [0, 1, 3, 4]),
        (0.96, [0, 1, 2, 3, 4]),
        (1.0, [0, 1, 2, 3, 4]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_holds_the_probability(top_p, codes):
    sampling = SamplingParams(top_p=top_p)
    assert filter_logits(sampling, LOGITS) == codes
    assert torch.equal(sampling.filter(LOGITS)[codes], LOGITS[codes])


def test_top_p_cuts_equally_probable_codes_from_the_highest_index():
    assert filter_logits(SamplingParams(top_p=0.6), torch.zeros(4)) == [0, 1, 2]


def test_top_k_of_all_codes_and_top_p_of_one_change_nothing():
    assert torch.equal(SamplingParams(top_k=5, top_p=1.0).filter(LOGITS), LOGITS)


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        # Sharpened to 0.571, 0.223, 0.143, ...: one code holds a half, of the flat ones two do.
        ({"temperature": 0.5, "top_p": 0.5}, [1]),
        ({"temperature": 1.0, "top_p": 0.5}, [1, 3]),
        # Of two codes alone, 0.4 and 0.25 are 0.615 and 0.385.
        ({"top_k": 2, "top_p": 0.6}, [1]),
        ({"top_p": 0.6}, [1, 3]),
        # At temperature 2 the two are 0.558 and 0.442.
        ({"temperature": 2.0, "top_k": 2, "top_p": 0.6}, [1, 3]),
    ],
)
def test_temperature_comes_first_then_top_k_then_top_p(options, codes):
    assert filter_logits(SamplingParams(**options), LOGITS) == codes


def test_each_position_is_filtered_by_itself():
    logits = torch.randn(2, 3, 4, 7, generator=torch.Generator().manual_seed(0))
    sampling = SamplingParams(temperature=0.8, top_k=5, top_p=0.7)
    together = sampling.filter(logits)
    for place in itertools.product(range(2), range(3), range(4)):
        torch.testing.assert_close(together[place], sampling.filter(logits[place]))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"temperature": -0.1}, "temperature must be a finite number >= 0, got -0.1"),
        ({"temperature": math.inf}, "temperature must be a finite number >= 0, got inf"),
        ({"temperature": math.nan}, "temperature must be a finite number >= 0, got nan"),
        ({"top_k": 2.5}, "top_k must be an integer of at least 1, got 2.5"),
        ({"top_k": 0}, "top_k must be an integer of at least 1, got 0"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p must lie in \(0, 1\], got 1.1"),
        ({"top_p": math.nan}, r"top_p must lie in \(0, 1\], got nan"),
    ],
)
def test_options_out_of_range_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        SamplingParams(**options)


def test_more_codes_than_there_are_cannot_be_kept():
    with pytest.raises(ValueError, match="top_k is 6, but there are 5 codes"):
        SamplingParams(top_k=6).filter(LOGITS)


# -- choice and noise -----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}])
def test_no_temperature_one_code_or_a_tiny_share_take_the_most_probable(options):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 7, generator=generator)
    noise = 100 * torch.randn(2, 3, 7, generator=generator)
    assert torch.equal(SamplingParams(**options).sample(logits, noise), logits.argmax(-1))


TINY_TEMPERATURES = pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-38, 1e-44, 1e-300])


@TINY_TEMPERATURES
@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"top_p": 0.5}], ids=str)
def test_a_tiny_temperature_takes_the_most_probable_and_does_not_overflow(temperature, options):
    generator = torch.Generator().manual_seed(0)
    logits = 1e3 * torch.randn(4, 5, 7, generator=generator) + 1e4
    noise = torch.randn(4, 5, 7, generator=generator)
    chosen = SamplingParams(temperature=temperature, **options).sample(logits, noise)
    assert torch.equal(chosen, logits.argmax(-1))


@TINY_TEMPERATURES
def test_at_a_tiny_temperature_noise_still_decides_between_equally_probable_codes(temperature):
    logits = torch.tensor([90.0, 91.0, 91.0, 3.0])
    sampling = SamplingParams(temperature=temperature)
    assert sampling.sample(logits, torch.tensor([9.0, 0.0, 1.0, 9.0])).item() == 2
    assert sampling.sample(logits, torch.tensor([9.0, 1.0, 0.0, 9.0])).item() == 1


def test_adding_the_same_to_all_logits_changes_no_choice():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-8, 8, (50, 7), generator=generator).float()
    noise = torch.randn(50, 7, generator=generator)
    sampling = SamplingParams(temperature=0.5, top_k=4, top_p=0.9)
    chosen = sampling.sample(logits, noise)
    assert len(set(chosen.tolist())) > 1
    assert torch.equal(sampling.sample(logits + 512, noise), chosen)


def test_the_choice_is_the_best_sum_of_filtered_logit_and_noise():
    sampling = SamplingParams(temperature=0.5, top_k=3)
    noise = torch.tensor([9.0, 0.0, 0.0, 1.5, 0.0])  # code 0 is not among the three
    assert sampling.sample(LOGITS, noise).item() == 3  # 2 ln 0.25 + 1.5 > 2 ln 0.4
    assert sampling.sample(LOGITS, noise * 0).item() == 1


def test_half_precision_logits_are_divided_and_added_to_in_single_precision():
    logits = torch.tensor([1.0, 1.0078125], dtype=torch.bfloat16)
    thirds = [1 / 3 + 0.0023, 1.0078125 / 3]  # in bfloat16 1 / 3 is 0.3340 and would win
    assert thirds[0] < thirds[1]
    assert SamplingParams(temperature=3).sample(logits, torch.tensor([0.0023, 0.0])).item() == 1


def test_a_samples_noise_depends_on_seed_and_number_alone():
    wide, narrow = make_noise(3, 4, 5, 150), make_noise(3, 2, 5, 150)
    assert torch.equal(wide[:, :2], narrow)
    assert torch.equal(make_noise(3, 4, 5, 10), wide[:10])


def test_every_sample_and_seed_has_a_noise_of_its_own():
    first = {
        tuple(row.tolist())
        for seed in range(-3, 40)
        for row in make_noise(seed, 20, 4, 1).squeeze(0)
    }
    assert len(first) == 43 * 20


def test_noise_is_gumbel_distributed():
    noise = make_noise(0, 8, 50, 100).double()
    count = noise.numel()
    variance = math.pi**2 / 6
    # Five standard errors each; the kurtosis of a Gumbel is 5.4.
    assert noise.mean().item() == pytest.approx(0.57722, abs=5 * (variance / count) ** 0.5)
    assert noise.var().item() == pytest.approx(variance, abs=5 * variance * (4.4 / count) ** 0.5)
    below = (noise < 1).double().mean().item()
    assert below == pytest.approx(math.exp(-math.exp(-1)), abs=5 * (0.25 / count) ** 0.5)


def test_noise_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = make_noise(1, 2, 3, 70)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(make_noise(1, 2, 3, 70), first)


# -- generate -------------------------------------------------------------------------------

K, GRID = 3, (2, 2)
GRIDS = torch.tensor(list(itertools.product(range(K), repeat=4))).view(-1, *GRID)  # all 81


@pytest.fixture(scope="module")
def prior() -> Prior:
    """A tiny PixelCNN whose codes are far from equally probable, and depend on each other."""
    torch.manual_seed(0)
    options = {"width": 8, "num_layers": 2, "first_kernel_size": 3}
    built = PRIORS.build("pixelcnn", options, rank=2, codebook_size=K)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return built.eval()


class StatelessPrior(torch.nn.Module):
    """A prior without a step-by-step form: code 2 follows 1, 1 follows 0, 0 follows 2 or nothing.

    Notes how it was called.
    """

    codebook_size, num_codebooks, is_unbounded = 3, 1, True
    device = torch.device("cpu")

    def __init__(self, rank: int = 2) -> None:
        super().__init__()
        self.rank = rank
        self.modes: list[bool] = []

    def logits(self, codes: Tensor, cond: object = None) -> Tensor:
        self.modes.append(self.training)
        before = torch.nn.functional.pad(codes.flatten(1)[:, :-1], (1, 0), value=2)
        scores = 50 * torch.nn.functional.one_hot((before + 1) % 3, 3).float()
        return scores.movedim(-1, 1).view(len(codes), 3, *codes.shape[1:])

    @property
    def code_prior(self):
        return self

    def order(self, shape: tuple[int, ...]) -> range:
        return range(math.prod(shape))

    def init_state(self, batch: int, grid: tuple[int, ...], cond: object) -> None:
        return None


def compute_exact_probabilities(prior: Prior, temperature: float, top_k: int | None) -> Tensor:
    """The probability of each of the 81 grids, position by position and code by code."""
    with torch.no_grad():
        logits = prior.logits(GRIDS).flatten(2).movedim(1, 2).tolist()  # [81, 4, K]
    shares = torch.ones(len(GRIDS), dtype=torch.float64)
    for index, grid in enumerate(GRIDS.flatten(1).tolist()):
        for position, code in enumerate(grid):
            weights = [math.exp(score / temperature) for score in logits[index][position]]
            best = sorted(range(K), key=lambda k: -weights[k])[: top_k or K]
            shares[index] *= weights[code] / sum(weights[k] for k in best) if code in best else 0
    return shares


def bin_counts(counts: Tensor, expected: Tensor, least: float = 5) -> Iterator[tuple[float, float]]:
    """Counted and expected; grids too rare for a chi-square test are put together."""
    rare = expected < least
    yield from zip(counts[~rare].tolist(), expected[~rare].tolist(), strict=True)
    if expected[rare].sum() > 0:
        yield counts[rare].sum().item(), expected[rare].sum().item()


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.7, None), (0.7, 2)])
def test_codes_are_sampled_with_their_exact_probabilities(prior, temperature, top_k):
    shares = compute_exact_probabilities(prior, temperature, top_k)
    assert shares.sum().item() == pytest.approx(1, abs=1e-6)
    number = 4000
    drawn = generate(
        prior, GRID, batch=number, temperature=temperature, top_k=top_k, seed=1
    ).flatten(1)
    place = (drawn * torch.tensor([27, 9, 3, 1])).sum(dim=1)
    counts = torch.bincount(place, minlength=len(GRIDS)).double()
    assert counts[shares == 0].sum() == 0
    cells = list(bin_counts(counts, number * shares))
    freedom = len(cells) - 1
    assert freedom > 10
    chi_square = sum((count - expected) ** 2 / expected for count, expected in cells)
    # Wilson-Hilferty: passed by all but one seed in a thousand, if the shares are right.
    spread = 2 / (9 * freedom)
    assert chi_square < freedom * (1 - spread + 3.09 * spread**0.5) ** 3


def test_the_exact_shares_are_those_of_log_prob(prior):
    with torch.no_grad():
        log_prob = prior.log_prob(GRIDS).double()
    torch.testing.assert_close(
        compute_exact_probabilities(prior, 1.0, None), log_prob.exp(), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("method", METHODS)
def test_no_temperature_takes_the_most_probable_code_at_each_position(prior, method):
    best = torch.zeros(1, *GRID, dtype=torch.int64)
    for row, column in itertools.product(range(2), range(2)):
        with torch.no_grad():
            best[0, row, column] = prior.logits(best)[0, :, row, column].argmax()
    drawn = generate(prior, GRID, batch=2, temperature=0, method=method)
    assert drawn.tolist() == [best[0].tolist()] * 2


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_depends_on_seed_and_number_and_not_on_the_batch(prior, method):
    wide = generate(prior, (2, 3), batch=3, seed=7, method=method)
    assert torch.equal(generate(prior, (2, 3), batch=2, seed=7, method=method), wide[:2])
    assert not torch.equal(generate(prior, (2, 3), batch=3, seed=8, method=method), wide)
    assert wide.dtype == torch.int64


@pytest.mark.parametrize("method", METHODS)
def test_known_codes_stay_and_what_known_holds_elsewhere_does_not_matter(prior, method):
    mask = torch.tensor([[True, False, True, False], [False, True, False, False]])
    known = torch.tensor([[[2, 1, 0, 0], [0, 1, 2, 2]], [[1, 0, 2, 1], [1, 0, 0, 0]]])
    options = {"batch": 2, "mask": mask, "seed": 3, "method": method}
    drawn = generate(prior, (2, 4), known=known, **options)
    assert torch.equal(drawn[:, mask], known[:, mask])
    for filler in (2, -1, 999):
        filled = torch.where(mask, known, filler)
        assert torch.equal(generate(prior, (2, 4), known=filled, **options), drawn), filler


def test_known_is_not_changed_and_codes_after_it_depend_on_it(prior):
    mask = torch.tensor([[True, True], [False, False]])
    known = torch.tensor([[0, 0], [0, 0]]).expand(2000, 2, 2).clone()
    known[1000:, 0] = 2
    before = known.clone()
    drawn = generate(prior, GRID, batch=2000, known=known, mask=mask)
    assert torch.equal(known, before)
    shares = compute_exact_probabilities(prior, 1.0, None).view(K, K, K, K)
    for start, code in ((0, 0), (1000, 2)):
        rows = drawn[start : start + 1000, 1, 0]
        expected = shares[code, code].sum(dim=1) / shares[code, code].sum()
        counted = torch.bincount(rows, minlength=K) / 1000
        torch.testing.assert_close(
            counted.double(), expected, rtol=0, atol=5 * (0.25 / 1000) ** 0.5
        )


def test_everything_known_leaves_nothing_to_draw(prior):
    known = torch.randint(K, (2, 3, 4))
    mask = torch.ones(3, 4, dtype=torch.bool)
    for method in METHODS:
        drawn = generate(prior, (3, 4), batch=2, known=known, mask=mask, method=method)
        assert torch.equal(drawn, known)


@pytest.mark.parametrize(
    ("known", "mask", "complaint"),
    [
        (torch.zeros(1, 2, 2).long(), None, "known and mask must be given together: codes, and"),
        (None, torch.ones(2, 2).bool(), "known and mask must be given together"),
        (
            torch.zeros(2, 2).long(),
            torch.ones(2, 2).bool(),
            r"known must be integers of shape \[1, 2, 2\], got torch.int64 \[2, 2\]",
        ),
        (
            torch.zeros(1, 2, 2),
            torch.ones(2, 2).bool(),
            r"known must be integers of shape \[1, 2, 2\], got torch.float32 \[1, 2, 2\]",
        ),
        (
            torch.zeros(1, 2, 2).half(),
            torch.zeros(2, 2).bool(),  # even where none of them is used
            r"known must be integers of shape \[1, 2, 2\], got torch.float16 \[1, 2, 2\]",
        ),
        (
            torch.zeros(1, 2, 2).long(),
            torch.ones(1, 2, 2).bool(),
            r"mask must be bool of shape \[2, 2\], got torch.bool \[1, 2, 2\]",
        ),
        (
            torch.zeros(1, 2, 2).long(),
            torch.ones(2, 2),
            r"mask must be bool of shape \[2, 2\], got torch.float32 \[2, 2\]",
        ),
    ],
)
def test_known_and_mask_that_do_not_go_together_are_refused(prior, known, mask, complaint):
    with pytest.raises(ValueError, match=complaint):
        generate(prior, GRID, known=known, mask=mask)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_known_codes_may_be_any_integers(prior, dtype):
    mask = torch.tensor([[True, False], [True, False]])
    known = torch.tensor([[[2, 0], [1, 0]]])
    drawn = generate(prior, GRID, known=known, mask=mask)
    assert torch.equal(generate(prior, GRID, known=known.to(dtype), mask=mask), drawn)
    assert torch.equal(drawn[:, mask], known[:, mask])


def test_a_shape_may_be_a_list_as_json_has_it(prior):
    mask = torch.tensor([[True, False], [True, False]])
    known = torch.tensor([[[2, 0], [1, 0]]])
    drawn = generate(prior, list(GRID), known=known, mask=mask)
    assert torch.equal(drawn, generate(prior, GRID, known=known, mask=mask))


@pytest.mark.parametrize("batch", [0, -1])
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_nothing_is_refused(prior, batch, method):
    with pytest.raises(ValueError, match=f"batch must be at least 1, got {batch}"):
        generate(prior, GRID, batch=batch, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_grid_of_another_rank_than_the_priors_is_refused(prior, method):
    with pytest.raises(ValueError, match=r"shape must have 2 sizes .* got \(2, 2, 2\)"):
        generate(prior, (2, 2, 2), method=method)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_options_of_generate_are_those_of_sampling(prior, method):
    with pytest.raises(ValueError, match="temperature must be a finite number >= 0, got -1"):
        generate(prior, GRID, temperature=-1, method=method)
    with pytest.raises(ValueError, match="top_k is 4, but there are 3 codes"):
        generate(prior, GRID, top_k=4, method=method)


def test_a_method_that_does_not_exist_is_answered_with_those_that_do(prior):
    with pytest.raises(
        ValueError, match="method must be auto, fused, cached, full, fixed_point, got 'fast'"
    ):
        generate(prior, GRID, method="fast")


@pytest.mark.parametrize("method", ["auto", "full", "fixed_point"])
def test_a_prior_without_a_state_is_sampled_too(method):
    drawn = generate(StatelessPrior(3), (2, 3, 2), batch=2, method=method)
    assert drawn.flatten(1).tolist() == [[0, 1, 2] * 4] * 2


class LeakyPrior(StatelessPrior):
    """Each code depends on itself: it is always another one than it is."""

    def logits(self, codes: Tensor, cond: object = None) -> Tensor:
        self.modes.append(self.training)
        return 50 * torch.nn.functional.one_hot((codes + 1) % 3, 3).movedim(-1, 1).float()


def test_a_prior_that_leaks_has_no_fixed_point_and_does_not_run_for_ever():
    leaks = LeakyPrior().train()
    complaint = (
        r"no fixed point after \d+ iterations: a logit depends on its own or a later code; "
        r"run vqvideo\.testing\.check_prior to find which"
    )
    with pytest.raises(RuntimeError, match=complaint):
        generate(leaks, GRID, method="fixed_point")
    assert len(leaks.modes) == 5  # four codes are final after four passes, the fifth confirms
    assert leaks.training


def test_a_fixed_point_that_takes_a_pass_for_each_code_is_found():
    chain = StatelessPrior(1)
    drawn = generate(chain, (6,), method="fixed_point")
    assert drawn.tolist() == [[0, 1, 2, 0, 1, 2]]
    assert len(chain.modes) <= 7


def test_cached_sampling_of_a_prior_without_a_state_says_what_else_there_is():
    with pytest.raises(
        ValueError, match="StatelessPrior has no step-by-step state; use method='full' or"
    ):
        generate(StatelessPrior(), GRID, method="cached")


def test_a_prior_in_training_is_evaluated_and_then_trains_on():
    training = StatelessPrior().train()
    generate(training, GRID)
    assert training.modes == [False] * 4
    assert training.training
    with pytest.raises(ValueError, match="top_k is 4"):
        generate(training, GRID, top_k=4)
    assert training.training
    resting = StatelessPrior().eval()
    generate(resting, GRID)
    assert not resting.training


@pytest.mark.parametrize("method", METHODS)
def test_progress_rises_to_all_codes(prior, method):
    calls: list[tuple[int, int]] = []
    generate(prior, (2, 3), method=method, progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert {call[1] for call in calls} == {6}
    assert done == sorted(done)
    assert done[-1] == 6
    if method in ("cached", "full"):
        assert done == [1, 2, 3, 4, 5, 6]


def test_a_known_frame_is_taken_whole_and_counted(prior):
    options = {"width": 8, "num_layers": 2, "first_kernel_size": 3}
    torch.manual_seed(0)
    video = PRIORS.build("masked3d", options, rank=3, codebook_size=K).eval()
    known = torch.randint(K, (2, 3, 1, 2))
    mask = torch.zeros(3, 1, 2, dtype=torch.bool)
    mask[0] = True
    calls: list[int] = []
    options = {"batch": 2, "known": known, "mask": mask, "seed": 5}
    drawn = generate(
        video,
        (3, 1, 2),
        **options,
        method="cached",
        progress=lambda done, total: calls.append(done),
    )
    assert calls == [2, 3, 4, 5, 6]
    assert torch.equal(drawn[:, 0], known[:, 0])
    # Its noise is passed over, not put off: each position keeps the noise that is its own.
    assert torch.equal(generate(video, (3, 1, 2), **options, method="full"), drawn)


def test_a_known_code_outside_the_codebook_is_refused(prior):
    known = torch.full((1, 3, 4), K)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 0] = True
    with pytest.raises(ValueError, match=rf"known codes must lie in \[0, {K}\), got values"):
        generate(prior, (3, 4), known=known, mask=mask)


# -- networks of other kinds --------------------------------------------------------------------


class Wrapper(torch.nn.Module):
    """What `torch.compile` makes of a network, without compiling it."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self._orig_mod = net

    def forward(self, *args: Tensor) -> Tensor:
        return self._orig_mod(*args)


@pytest.mark.parametrize(("name", "shape"), [("wavenet", (5,)), ("transformer", (2, 3))])
def test_a_compiled_network_is_sampled_step_by_step_too(name, shape):
    torch.manual_seed(0)
    prior = PRIORS.build(
        name, {"width": 16, "num_layers": 2}, rank=len(shape), codebook_size=5
    ).eval()
    expected = generate(prior, shape, method="full", seed=1)
    prior.net = Wrapper(prior.net)
    for method in METHODS:
        assert torch.equal(generate(prior, shape, method=method, seed=1), expected), method


def test_a_network_without_a_state_is_named_with_what_to_override():
    prior = PRIORS.build("wavenet", {"width": 8, "num_layers": 2}, rank=1, codebook_size=5)
    prior.net = torch.nn.GRU(8, 8)
    with pytest.raises(TypeError, match="override init_state: GRU has no step-by-step state"):
        prior.init_state(1, (4,))
