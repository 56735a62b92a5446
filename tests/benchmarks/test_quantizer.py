"""`python tools/benchmark.py quantizer`: that what it counts, times and weighs is what it says."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from benchmarks import implementations, memory, quantizer, timing
from benchmarks.cli import main
from benchmarks.environment import build_environment
from benchmarks.implementations import (
    PROBLEM_SIZES,
    Problem,
    ProblemSize,
    VQVideoEMA,
)
from benchmarks.table import format_quantizer_table

from vqvideo.quantizers import search

pytestmark = pytest.mark.slow

SMALL = ProblemSize(num_vectors=300, code_dim=8, codebook_size=40)
needs_linux = pytest.mark.skipif(
    not memory.can_measure(), reason="peak memory is read from Linux, with glibc's allocator"
)


@pytest.fixture
def peer():
    """For tests that compare: they are skipped where there is nothing to compare with."""
    return pytest.importorskip(
        "vector_quantize_pytorch", reason="needs the peer: pip install 'vqvideo[bench]'"
    )


# -- codes --------------------------------------------------------------------------------------


def test_planted_wrong_codes_are_counted():
    problem = Problem(SMALL)
    exact = quantizer.compute_exact_codes(problem.vectors, problem.codebook)
    difference = problem.vectors[:, None].double() - problem.codebook.double()
    assert torch.equal(exact, difference.square().sum(dim=2).argmin(dim=1))
    wrong = exact.clone()
    wrong[[3, 70, 299]] = (wrong[[3, 70, 299]] + 1) % SMALL.codebook_size
    assert quantizer.count_mismatches(exact, exact) == 0
    assert quantizer.count_mismatches(wrong, exact) == 3


def test_the_exact_codes_do_not_depend_on_how_many_are_found_at_once(monkeypatch):
    problem = Problem(SMALL)
    whole = quantizer.compute_exact_codes(problem.vectors, problem.codebook)
    monkeypatch.setattr(quantizer, "DISTANCES_PER_CHUNK", 7 * SMALL.codebook_size)
    assert torch.equal(quantizer.compute_exact_codes(problem.vectors, problem.codebook), whole)


# -- what is compared ---------------------------------------------------------------------------


def test_ours_and_the_peer_start_from_the_same_vectors_and_the_same_codebook(peer):
    problem = Problem(SMALL)
    ours, other = VQVideoEMA(problem), implementations.VectorQuantizePyTorch(problem)
    assert ours.z_e.data_ptr() == other.z_e.data_ptr() == problem.vectors.data_ptr()
    for training in (True, False):
        ours.reset(training=training)
        other.reset(training=training)
        assert torch.equal(ours.quantizer.codebook, problem.codebook)
        assert torch.equal(other.quantizer.codebook, problem.codebook)
        assert ours.quantizer.training == other.quantizer.training == training
    exact = quantizer.compute_exact_codes(problem.vectors, problem.codebook)
    assert torch.equal(ours.compute_codes(), exact)
    assert torch.equal(other.compute_codes(), exact)


def test_a_training_step_is_undone_before_the_next(peer):
    problem = Problem(SMALL)
    for contender in (VQVideoEMA(problem), implementations.VectorQuantizePyTorch(problem)):
        contender.reset(training=True)
        first = {name: value.clone() for name, value in contender.quantizer.state_dict().items()}
        contender.train_step()
        assert contender.z_e.grad is not None
        moved = contender.quantizer.state_dict()
        assert any(not torch.equal(moved[name], value) for name, value in first.items())
        contender.reset(training=True)
        assert contender.z_e.grad is None
        for name, value in contender.quantizer.state_dict().items():
            assert torch.equal(value, first[name]), name


def test_our_training_step_moves_the_codebook_as_by_hand():
    """m_i and N_i move by a hundredth of what each entry wins (appendix A.1, eq. 6 to 8)."""
    problem = Problem(SMALL)
    ours = VQVideoEMA(problem)
    ours.reset(training=True)
    ours.train_step()
    exact = quantizer.compute_exact_codes(problem.vectors, problem.codebook)
    won = torch.nn.functional.one_hot(exact, SMALL.codebook_size).float()
    counts = 0.99 * problem.vectors_per_entry + 0.01 * won.sum(dim=0)
    sums = 0.99 * problem.vectors_per_entry * problem.codebook + 0.01 * won.T @ problem.vectors
    torch.testing.assert_close(ours.quantizer.codebook, sums / counts[:, None])
    pull = 2 * 0.25 * (problem.vectors - problem.codebook[exact]) / problem.vectors.numel()
    torch.testing.assert_close(ours.z_e.grad[0].mT, 1 + pull)


def test_the_path_of_the_search_is_switched_and_switched_back(monkeypatch):
    calls = []

    def scores(vectors, entries, bias):
        calls.append(len(vectors))
        return vectors @ entries.T + bias

    monkeypatch.setattr(search, "_score_by_onednn", scores)
    problem, before = Problem(SMALL), search._has_fast_onednn
    with implementations.select_search_path(fast=False):
        plain = search.nearest_codes(problem.vectors, problem.codebook)
        assert calls == []
    with pytest.raises(KeyError), implementations.select_search_path(fast=True):
        assert torch.equal(search.nearest_codes(problem.vectors, problem.codebook), plain)
        assert sum(calls) == SMALL.num_vectors
        raise KeyError
    assert search._has_fast_onednn is before


def test_without_its_search_our_quantizer_takes_the_codes_it_is_given():
    ours = VQVideoEMA(Problem(SMALL))
    ours.reset(training=False)
    given = torch.arange(SMALL.num_vectors) % SMALL.codebook_size
    with implementations.override_codes(given):
        assert torch.equal(ours.compute_codes(), given)
    assert not torch.equal(ours.compute_codes(), given)


# -- time ---------------------------------------------------------------------------------------


def test_a_time_is_the_median_of_rounds_in_turns_and_the_first_does_not_count(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def taking(name, *seconds):
        left = iter(seconds)

        def call():
            order.append(name)
            clock[0] += next(left)

        def prepare():
            clock[0] += 100

        return timing.TimedCall(call, prepare)

    timed = {"a": taking("a", 50, 3, 1, 7), "b": taking("b", 60, 2, 2, 90)}
    rounds = itertools.count()
    assert timing.measure_median_ms(timed, rounds=3, on_round_end=lambda: next(rounds)) == {
        "a": 3000,
        "b": 2000,
    }
    assert order == ["a", "b"] * 4
    assert next(rounds) == 4


def test_what_is_soon_over_is_called_several_times_a_round():
    calls = itertools.count()
    timing.measure_median_ms({"a": timing.TimedCall(lambda: next(calls))}, rounds=2)
    assert next(calls) == 1 + 2 * timing.MAX_CALLS_PER_ROUND


# -- memory -------------------------------------------------------------------------------------

PLANTED = """
import torch
from benchmarks.memory import lower_mmap_threshold, measure_peak_bytes
lower_mmap_threshold()
def sixty_four_mib(): return torch.ones(16 * 2**20)
def twice(): sixty_four_mib(); sixty_four_mib()
def both(): return sixty_four_mib(), sixty_four_mib()
print(measure_peak_bytes(sixty_four_mib), measure_peak_bytes(twice), measure_peak_bytes(both))
"""


@needs_linux
def test_memory_is_what_is_held_at_a_time():
    done = subprocess.run(
        [sys.executable, "-c", PLANTED],
        capture_output=True,
        text=True,
        check=True,
        env=build_environment(),
    )
    mib = [int(figure) / 2**20 for figure in done.stdout.split()]
    assert mib == pytest.approx([64, 64, 128], rel=0.1)


@needs_linux
def test_our_quantizer_stays_within_the_memory_it_is_allowed():
    """5 inputs, 2 codebooks and 8 MiB in training; 1.2 inputs and 8 MiB in evaluation."""
    num_vectors, code_dim, codebook_size = PROBLEM_SIZES["S3"]
    one_input, one_codebook = num_vectors * code_dim / 2**18, codebook_size * code_dim / 2**18
    assert memory.compute_allowed_mib(PROBLEM_SIZES["S3"]) == {
        "train": 5 * one_input + 2 * one_codebook + 8,
        "eval": 1.2 * one_input + 8,
    }
    peak = memory.measure_peak_mib("ours", "S3")
    assert one_input < peak["eval"] <= 1.2 * one_input + 8
    assert one_input < peak["train"] <= 5 * one_input + 2 * one_codebook + 8


@needs_linux
def test_memory_that_cannot_be_measured_is_none_and_a_fault_is_said(monkeypatch):
    assert memory.measure_peak_mib("ours", "S1", timeout_s=0.01) is None
    for code, what in ((-9, None), (1, "no such thing")):
        done = subprocess.CompletedProcess([], code, stdout="", stderr="no such thing\n")
        monkeypatch.setattr(memory.subprocess, "run", lambda *args, done=done, **options: done)
        if what is None:
            assert memory.measure_peak_mib("ours", "S1") is None
        else:
            with pytest.raises(RuntimeError, match=what):
                memory.measure_peak_mib("ours", "S1")
    monkeypatch.setattr(memory, "can_measure", lambda: False)
    assert memory.measure_peak_mib("ours", "S1") is None


# -- table --------------------------------------------------------------------------------------


def make_row(**changes):
    ms = {
        "product": 10.0,
        "product_new": 20.0,
        "search_plain": 12.0,
        "train_peer": 300.0,
        "train_plain": 15.0,
        "eval_peer": 1250.0,
        "eval_plain": 12.5,
        "statistics": 0.75,
    }
    return {
        "size": "S1",
        **PROBLEM_SIZES["S1"]._asdict(),
        "ms": ms,
        "wrong_codes": {"plain": 0, "peer": 4},
        "peak_mib": {"ours": {"train": 4.5, "eval": 4.0}, "peer": {"train": 90.0, "eval": 10.0}},
        "allowed_mib": {"train": 10.75, "eval": 8.6},
        "environment": {
            "vqvideo": "0.1.0",
            "torch": "2.15.0",
            "vector_quantize_pytorch": "1.32.0",
            "python": "3.11.7",
            "cpu": "Abacus",
            "threads": 2,
            "thp_mem_alloc_enable": None,
            "load_average": 0.25,
        },
        **changes,
    }


def get_last_line(part):
    return " ".join(part.split("\n")[-1].split())


def test_the_table_has_times_and_their_ratios():
    setting, nearest, train, evaluation, peaks = format_quantizer_table([make_row()]).split("\n\n")
    assert "torch 2.15.0" in setting
    assert "Abacus, 2 threads, THP_MEM_ALLOC_ENABLE unset, load average before 0.25" in setting
    rows = [get_last_line(part) for part in (nearest, train, evaluation, peaks)]
    assert rows[0] == "S1 2048 64 512 10.0 20.0 12.0 1.20x - - 0 - 4"
    assert rows[1] == "S1 300 15.0 20.0x - - 0.75 5.0%"
    assert rows[2] == "S1 1250 12.5 100x - -"
    assert rows[3] == "S1 4.50 10.8 90.0 20.0x 4.00 8.60 10.0 2.50x"


def test_the_columns_of_the_table_are_aligned():
    rows = [make_row(), make_row(size="S5", num_vectors=65536)]
    for part in format_quantizer_table(rows).split("\n\n")[1:]:
        heading, *lines = part.split("\n")[-3:]
        assert {len(line) for line in lines} == {len(heading)}


def test_the_table_shows_the_fast_path_and_what_was_not_measured():
    row = make_row()
    row["ms"] |= {"search_fast": 5.0, "train_fast": 7.5, "eval_fast": 6.25}
    row["wrong_codes"]["fast"] = 1
    row["peak_mib"]["peer"] = None
    _, nearest, train, _, peaks = (
        get_last_line(part) for part in format_quantizer_table([row]).split("\n\n")
    )
    assert nearest.endswith(" 1.20x 5.00 0.50x 0 1 4")
    assert train.endswith(" 7.50 40.0x 0.75 10.0%")
    assert peaks == "S1 4.50 10.8 - - 4.00 8.60 - -"


# -- the command --------------------------------------------------------------------------------


def test_the_command_measures_and_the_codes_of_all_are_right(peer, capsys, monkeypatch):
    monkeypatch.setattr(timing, "MIN_ROUND_SECONDS", 0.0)
    peaks = {"train": 3.0, "eval": 2.0}
    monkeypatch.setattr(
        quantizer, "measure_peak_mib", lambda contender, size, *, num_threads: peaks
    )
    before = torch.get_num_threads()
    arguments = ["quantizer", "--sizes", "S1", "--rounds", "1", "--threads", "1"]
    assert main([*arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["size"] == "S1"
    assert [row[name] for name in ProblemSize._fields] == list(PROBLEM_SIZES["S1"])
    assert set(row["wrong_codes"].values()) == {0}
    assert {"plain", "peer"} <= set(row["wrong_codes"])
    assert row["peak_mib"] == {"ours": peaks, "peer": peaks}
    assert row["environment"]["threads"] == 1
    paths = set(row["wrong_codes"]) - {"peer"}
    for path in paths:
        assert {f"search_{path}", f"train_{path}", f"eval_{path}"} <= set(row["ms"])
    assert all(0 <= value < 60_000 for value in row["ms"].values())
    assert torch.get_num_threads() == before
    assert main(arguments) == 0
    assert "\nS1    2048  64  512 " in capsys.readouterr().out


def test_progress_reports_every_part_that_is_done(peer, monkeypatch):
    monkeypatch.setattr(quantizer, "PROBLEM_SIZES", {"A": SMALL, "B": SMALL})
    monkeypatch.setattr(quantizer, "measure_peak_mib", lambda contender, size, *, num_threads: None)
    monkeypatch.setattr(timing, "MIN_ROUND_SECONDS", 0.0)
    told = []
    rows = quantizer.benchmark_quantizer(rounds=2, progress=lambda *parts: told.append(parts))
    assert [row["size"] for row in rows] == ["A", "B"]
    assert told == [(done, 12) for done in range(1, 13)]


def test_a_missing_peer_is_named_with_the_way_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    assert main(["quantizer"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "vector-quantize-pytorch" in error
    assert "pip install 'vqvideo[bench]'" in error


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--sizes", "S1,S9"], "unknown size 'S9'; known: S1, S2, S3, S4, S5, S6"),
        (["--sizes", ""], "unknown size ''; known: S1"),
        (["--rounds", "0"], "rounds must be at least 1, got 0"),
        (["--threads", "-2"], "threads must be at least 1, got -2"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_line_before_any_work(arguments, reason, capsys):
    assert main(["quantizer", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"benchmark.py: {reason}")
    assert printed.err.count("\n") == 1


# -- commands within a group --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: benchmark.py [-h] COMMAND"),
        ([], "the following arguments are required: COMMAND"),
        (["quantiser"], "invalid choice: 'quantiser'"),
        (
            ["quantizer", "--round", "3"],
            "benchmark.py quantizer: error: unknown option --round; did you mean --rounds?",
        ),
        (["quantizer", "--round=3"], "--rounds --sizes --threads -h"),
        (["quantizer", "S1"], "unknown argument S1."),
        (["--json", "quantizer"], "put --json after the command"),
        (["quantizer", "--rounds", "many"], "invalid int value: 'many'"),
    ],
    ids=str,
)
def test_wrong_usage_of_a_command_in_a_group_is_answered_by_that_command(
    arguments, message, capsys
):
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    printed = capsys.readouterr()
    assert exited.value.code == 2
    assert printed.out == ""
    assert message in printed.err


def test_a_group_names_its_commands_and_each_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "quantizer" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exited:
        main(["quantizer", "--help"])
    printed = capsys.readouterr().out
    assert exited.value.code == 0
    assert printed.startswith("usage: benchmark.py quantizer ")
    assert {"--sizes", "--rounds", "--threads", "--json"} <= set(printed.replace(",", " ").split())
