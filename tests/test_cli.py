"""The command line in process: what goes where, which exit code, and how settings are read."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path

import pytest

import vqvideo
from vqvideo import plugins
from vqvideo.cli import COMMANDS, main

TRAIN = ["train-vqvae", "--model", "video", "--data", "in", "--out", "run", "--steps", "3"]
PRIOR = ["train-prior", "--vqvae", "run", "--data", "in", "--out", "run2", "--steps", "3"]


@pytest.fixture
def calls(monkeypatch) -> dict[str, object]:
    """What the jobs are called with, instead of being done."""
    arguments: dict[str, object] = {}

    def replace(target: str, result: object) -> None:
        def job(*args, **options):
            arguments.update(options, args=args)
            return result

        monkeypatch.setattr(target, job)

    replace("vqvideo.commands.train_vqvae.train_vqvae", {"psnr_db": 20.12345, "num_frames": 4})
    replace("vqvideo.commands.train_prior.train_prior", {"nats": 1.5})
    replace("vqvideo.commands.generate.generate_clip", [Path("a.mp4"), Path("a.json")])
    replace("vqvideo.recipes.worlds.record_maze.record_maze", Path("out/metadata.jsonl"))
    return arguments


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package, as far as its metadata goes, that offers a prior; its module fails."""
    monkeypatch.delenv("VQVIDEO_DISABLE_PLUGINS", raising=False)
    about = tmp_path / "spirals-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: spirals\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[vqvideo.priors]\nspiral = spirals:build\n[vqvideo.api]\n2 = spirals\n"
    )
    (tmp_path / "spirals.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.find_plugins.cache_clear()
    yield
    plugins.find_plugins.cache_clear()


# -- exit codes and streams -----------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["models", "--colour"],
        ["models", "one", "two"],
        ["generate", "--temp", "3"],
        ["generate", "--json=yes"],
        ["record-maze"],
        ["train-vqvae", "--model", "video"],
        ["record-maze", "--out", "x", "--size", "64"],
        ["record-maze", "--out", "x", "--size", "64x64x3"],
        ["generate", "--num-samples", "two"],
        ["generate", "--method", "quick"],
        ["--json", "models"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_two_and_says_so_on_stderr(arguments, capsys):
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    printed = capsys.readouterr()
    assert exited.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("usage: vqvideo")
    assert "error: " in printed.err


@pytest.mark.parametrize("option", ["--temperatur", "--temprature=3"])
def test_an_unknown_option_suggests_the_nearest_and_lists_all(option, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["generate", option])
    error = capsys.readouterr().err
    assert exited.value.code == 2
    assert f"vqvideo generate: error: unknown option {option}; did you mean --temp" in error
    listed = error.split("Known options:")[1].split()
    assert listed == sorted(listed)
    assert {"--temperature", "--prefix", "--top-k", "--json", "-h"} <= set(listed)


def test_an_option_like_no_other_is_answered_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["zzz", "--qqqqq"], command="models")
    error = capsys.readouterr().err
    assert "unknown option --qqqqq" in error
    assert "did you mean" not in error
    assert error.split("Known options:")[1].split() == ["--debug", "--help", "--json", "-h"]


def test_the_version_is_a_result(capsys):
    with pytest.raises(SystemExit) as exited:
        main(["--version"])
    assert exited.value.code == 0
    printed = capsys.readouterr()
    assert printed.out == f"{vqvideo.__version__}\n"
    assert printed.err == ""


def test_a_wrong_size_shows_a_right_one(capsys):
    with pytest.raises(SystemExit):
        main(["record-maze", "--out", "x", "--size", "64"])
    assert "expected HxW, for example 64x64, got '64'" in capsys.readouterr().err


FAILING = [
    (["generate", "--model", "no/where"], "no checkpoint folder no/where"),
    (["generate", "--model", "vidoe"], "unknown model 'vidoe'; did you mean 'video'?; known: "),
    (["generate", "--num-samples", "0"], "num_samples must be at least 1, got 0"),
    (["reconstruct", "x.mp4", "--model", "no/where"], "no checkpoint folder no/where"),
    (
        ["generate", "--prefix-frames", "4"],
        "--prefix-seconds and --fit need a --prefix",
    ),
    (["generate", "--fit", "crop"], "--prefix-seconds and --fit need a --prefix"),
    (["record-maze", "--out", "x", "--size", "63x64"], "an even height and an even width, got (63"),
]


@pytest.mark.parametrize(("arguments", "reason"), FAILING, ids=str)
def test_a_failure_is_one_line_on_stderr_and_exit_code_one(
    arguments, reason, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("vqvideo: ")
    assert reason in printed.err
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_error_as_it_was_raised():
    with pytest.raises(FileNotFoundError, match="no checkpoint folder no/where"):
        main(["generate", "--model", "no/where", "--debug"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n   and two"), "one and two"),
        (ValueError(), "ValueError"),
        (FileExistsError("x exists"), "x exists"),
        (ImportError("needs x"), "needs x"),
        (FloatingPointError("loss is nan"), "loss is nan"),
        (KeyError("key"), "KeyError: 'key'"),
        (IndexError(), "IndexError"),
        (TypeError("not\n  a number"), "TypeError: not a number"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (AttributeError("no x"), "AttributeError: no x"),
        (Exception("anything"), "Exception: anything"),
    ],
    ids=repr,
)
def test_whatever_a_command_raises_becomes_one_line(error, line, capsys, monkeypatch):
    def fail(pattern):
        raise error

    monkeypatch.setattr(vqvideo, "list_models", fail)
    assert main(["models"]) == 1
    assert capsys.readouterr().err == f"vqvideo: {line}\n"
    with pytest.raises(type(error)) as raised:
        main(["models", "--debug"])
    assert raised.value is error


def test_an_interrupted_command_says_that_it_stopped(capsys, monkeypatch):
    def interrupt(pattern):
        raise KeyboardInterrupt

    monkeypatch.setattr(vqvideo, "list_models", interrupt)
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "vqvideo: interrupted\n"


def test_help_is_a_result_and_names_every_command(capsys):
    with pytest.raises(SystemExit) as exited:
        main(["--help"])
    printed = capsys.readouterr()
    assert exited.value.code == 0
    assert printed.err == ""
    for name, command in COMMANDS.items():
        assert name in printed.out
        assert command.help in " ".join(printed.out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exited:
        main([command, "--help"])
    assert exited.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: vqvideo {command} ")
    assert COMMANDS[command].help in " ".join(printed.split())


def test_arguments_are_those_of_the_process_unless_given(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vqvideo", "models", "vid?o"])
    assert main() == 0
    assert capsys.readouterr().out == "video\n"


def test_a_tool_is_a_command_fixed_in_advance(capsys):
    assert main(["ima?e"], command="models") == 0
    assert capsys.readouterr().out == "image\n"


# -- results --------------------------------------------------------------------------------


def test_models_are_one_name_on_each_line(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr()
    assert printed.out.split("\n") == [*vqvideo.list_models(), ""]
    assert printed.err == ""


def test_models_as_json_are_one_list(capsys):
    assert main(["models", "vid*", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == vqvideo.list_models("vid*")


def test_plugins_are_rows_or_json_and_are_not_imported(plugin, capsys):
    assert main(["plugins", "--json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out) if row["package"] == "spirals"]
    expected = ["prior", "spiral", "spirals", "1.0", "available"]
    columns = ["kind", "name", "package", "version", "status", "error"]
    assert rows == [dict(zip(columns, [*expected, ""], strict=True))]
    assert main(["plugins"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.split("\n")]
    assert lines[0] == columns
    assert expected in lines
    assert "spirals" not in sys.modules


def test_metrics_are_short_to_read_and_whole_as_json(calls, capsys):
    assert main(TRAIN) == 0
    assert capsys.readouterr().out == "psnr_db: 20.12\nnum_frames: 4\n"
    assert main([*TRAIN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"psnr_db": 20.12345, "num_frames": 4}


def test_paths_are_one_on_each_line_or_a_json_list(calls, capsys):
    assert main(["generate"]) == 0
    assert capsys.readouterr().out == "a.mp4\na.json\n"
    assert main(["generate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ["a.mp4", "a.json"]
    assert main(["record-maze", "--out", "out"]) == 0
    assert capsys.readouterr().out == "out/metadata.jsonl\n"


# -- what a job is told ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ([], {}),
        (["commitment_weight=0.5"], {"commitment_weight": 0.5}),
        (["quantizer=vector"], {"quantizer": "vector"}),
        (["quantizer.codebook_size=64"], {"quantizer": {"codebook_size": 64}}),
        (
            ["quantizer.codebook_size=64", "rate=5", "quantizer.name=vector"],
            {"quantizer": {"codebook_size": 64, "name": "vector"}, "rate": 5},
        ),
        (["prior.cond.num_actions=6"], {"prior": {"cond": {"num_actions": 6}}}),
        (["strides=[[2, 2], [1, 3]]"], {"strides": [[2, 2], [1, 3]]}),
        (['prior={"width": 8}'], {"prior": {"width": 8}}),
        (["quantizer.cosine=true"], {"quantizer": {"cosine": True}}),
        (["rate=null"], {"rate": None}),
        (['encoder="128"'], {"encoder": "128"}),
        (["encoder=a=b"], {"encoder": "a=b"}),
        (["encoder="], {"encoder": ""}),
        (["rate=1", "rate=2"], {"rate": 2}),
    ],
    ids=str,
)
def test_settings_are_keys_with_dots_and_values_in_json_or_else_text(calls, settings, changes):
    given = [word for setting in settings for word in ("--set", setting)]
    assert main([*TRAIN, *given]) == 0
    assert calls["overrides"] == changes


@pytest.mark.parametrize("setting", ["quantizer", "=3", ""])
def test_a_setting_without_key_or_value_is_refused(calls, setting, capsys):
    assert main([*TRAIN, "--set", setting]) == 1
    assert capsys.readouterr().err == f"vqvideo: --set takes KEY=VALUE, got {setting!r}\n"
    assert calls == {}


@pytest.mark.parametrize(
    "settings",
    [
        ("quantizer=ema", "quantizer.codebook_size=64"),
        ("quantizer.codebook_size=64", "quantizer=ema"),
        ("prior=masked3d", "prior.cond.num_actions=6"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused_by_name(calls, settings, capsys):
    """Either one would be lost: a part is set by its name or by its options (`part.name=...`)."""
    assert main([*TRAIN, "--set", settings[0], "--set", settings[1]]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("vqvideo: --set ")
    assert settings[0].split("=")[0].split(".")[0] in complaint
    assert calls == {}


def test_the_numbers_of_a_training_reach_it(calls):
    numbers = ["--batch-size", "5", "--learning-rate", "0.01", "--seed", "7", "--eval-every", "11"]
    assert main([*TRAIN, *numbers, "--precision", "fp32", "--clip-stride", "4", "--overwrite"]) == 0
    config = calls["config"]
    assert (config.steps, config.batch_size, config.optimizer.learning_rate) == (3, 5, 0.01)
    assert (config.seed, config.eval_every, config.precision) == (7, 11, "fp32")
    assert (calls["model"], calls["data"], calls["out"]) == ("video", "in", "run")
    assert (calls["clip_stride"], calls["overwrite"]) == (4, True)


@pytest.mark.parametrize(
    ("words", "prior"),
    [
        ([], None),
        (["--prior", "pixelcnn"], {"name": "pixelcnn"}),
        (["--set", "width=8"], {"width": 8}),
        (["--prior", "pixelcnn", "--set", "width=8"], {"name": "pixelcnn", "width": 8}),
    ],
    ids=str,
)
def test_a_prior_is_a_name_and_options_or_what_the_model_says(calls, words, prior):
    assert main([*PRIOR, *words]) == 0
    assert calls["prior"] == prior
    assert calls["vqvae"] == "run"


def test_what_to_generate_reaches_the_command(calls):
    words = "--model run --num-samples 2 --num-frames 9 --fps 5 --temperature 0.7 --top-k 3"
    assert (
        main(["generate", *words.split(), "--top-p", "0.9", "--seed", "4", "--out", "x.gif"]) == 0
    )
    assert (calls["model"], calls["out"], calls["num_samples"]) == ("run", "x.gif", 2)
    assert (calls["num_frames"], calls["fps"], calls["prefix"]) == (9, 5.0, None)
    assert "sampler" not in calls
    sampling = {name: calls[name] for name in ("temperature", "top_k", "top_p", "seed", "method")}
    assert sampling == {
        "temperature": 0.7,
        "top_k": 3,
        "top_p": 0.9,
        "seed": 4,
        "method": "auto",
    }
    assert main(["generate", "--prefix", "a.mp4", "--prefix-frames", "4", "--fit", "pad"]) == 0
    prefix = calls["prefix"]
    assert (prefix.file, prefix.num_frames, prefix.fit) == ("a.mp4", 4, "pad")
    assert main(["generate", "--prefix", "a.mp4", "--method", "full"]) == 0
    prefix = calls["prefix"]
    assert (prefix.file, prefix.num_frames, prefix.fit) == ("a.mp4", None, None)
    assert (calls["temperature"], calls["top_k"], calls["top_p"]) == (1.0, None, None)
    assert (calls["seed"], calls["method"]) == (0, "full")
    words = "--seconds 2.5 --speaker ann --class dog --prefix a.wav --prefix-seconds 0.5"
    assert main(["generate", *words.split()]) == 0
    assert (calls["seconds"], *calls["conditions"]) == (2.5, "ann", "dog", None)
    assert (calls["prefix"].file, calls["prefix"].seconds) == ("a.wav", 0.5)


def test_what_to_record_reaches_the_recorder(calls):
    words = "--num-episodes 3 --num-frames 9 --size 48X64 --seed 5 --test-fraction 0.25"
    assert main(["record-maze", "--out", "x", *words.split()]) == 0
    assert calls["out"] == "x"
    assert (calls["num_episodes"], calls["num_frames"], calls["size"]) == (3, 9, (48, 64))
    assert (calls["seed"], calls["test_fraction"], calls["overwrite"]) == (5, 0.25, False)


def test_recording_without_the_game_says_which_extra_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    assert main(["record-maze", "--out", str(tmp_path / "new")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "requires vizdoom; install it with: pip install 'vqvideo[maze]'" in printed.err
    assert not (tmp_path / "new").exists()


FUNCTIONS = {
    "generate": ("vqvideo.commands.generate.generate_clip", []),
    "play": ("vqvideo.recipes.worlds.play.build_server", []),
    "rollout": ("vqvideo.recipes.worlds.rollout.render_rollout", []),
    "reconstruct": ("vqvideo.commands.reconstruct.reconstruct", ["in.mp4"]),
    "encode": ("vqvideo.commands.encode.encode", ["in", "out"]),
    "decode": ("vqvideo.commands.decode.decode", ["in", "out"]),
    "convert-speaker": (
        "vqvideo.recipes.speech.convert_speaker.convert_speaker",
        ["in.wav", "out.wav", "--speaker", "ann"],
    ),
    "train-vqvae": ("vqvideo.commands.train_vqvae.train_vqvae", TRAIN[1:]),
    "train-prior": ("vqvideo.commands.train_prior.train_prior", PRIOR[1:]),
    "train-joint": ("vqvideo.commands.train_joint.train_joint", TRAIN[1:]),
    "evaluate": ("vqvideo.commands.evaluate.evaluate", ["--model", "m", "--data", "in"]),
    "phonemes": ("vqvideo.recipes.speech.transcribe.transcribe", ["in.wav"]),
    "phonemes --data": ("vqvideo.recipes.speech.phonemes.learn_phones", ["in"]),
    "doctor": ("vqvideo.commands.doctor.diagnose_codebook", ["--model", "m", "--data", "in"]),
    "export": ("vqvideo.commands.export.export", ["--model", "m", "--out", "out"]),
    "push": (
        "vqvideo.commands.push.push_to_hub",
        ["--model", "m", *["--to", "a/b", "--license", "mit"]],
    ),
    "record-maze": ("vqvideo.recipes.worlds.record_maze.record_maze", ["--out", "out"]),
    "models": ("vqvideo.list_models", []),
    "plugins": ("vqvideo.models.list_plugins", []),
    "new-plugin": ("vqvideo.commands.new_plugin.create_plugin", ["name"]),
}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_every_option_of_a_command_is_an_argument_of_its_function(command, monkeypatch):
    """Also those that are not given: the function gets their defaults."""
    target, words = FUNCTIONS[command]
    module, name = target.rsplit(".", 1)
    signature = inspect.signature(getattr(importlib.import_module(module), name))

    def stop(*args, **options):
        signature.bind(*args, **options)
        raise InterruptedError("called")

    monkeypatch.setattr(target, stop)
    with pytest.raises(InterruptedError):
        main([*command.split(), *words, "--debug"])


def test_every_command_has_a_function():
    assert {command.split()[0] for command in FUNCTIONS} == set(COMMANDS)
