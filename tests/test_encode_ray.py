"""`vqvideo encode --engine ray`: the same files from the machines of a cluster, whoever dies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vqvideo import media
from vqvideo.commands import encode as encode_module
from vqvideo.commands.encode import encode
from vqvideo.commands.encode_options import EncodeOptions
from vqvideo.commands.ray_pool import compute_worker_resources, run_tasks

pytestmark = [
    pytest.mark.slow,
    # Ray Data sets its own old options when it makes its defaults.
    *(
        pytest.mark.filterwarnings(f"ignore:`{name}` is deprecated:DeprecationWarning")
        for name in ("use_push_based_shuffle", "use_polars", "use_arrow_tensor_v2")
    ),
]


@pytest.fixture(scope="module")
def address():
    """A cluster of two machines of one core each, as a user starts one."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a driver and this cluster may differ
        pair = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        pair.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", pair.address)
        yield pair.address
        pair.shutdown()


@pytest.fixture(scope="module")
def ray_cluster(address):
    """The same, connected once for several tests: its workers then import torch only once."""
    import ray

    ray.init(log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(clips, tmp_path_factory):
    """Seven videos, which make four shards."""
    out = tmp_path_factory.mktemp("seven")
    for number in range(7):
        os.link(clips / f"{number:02d}.mp4", out / f"{number}.mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(encode_module.UNITS_PER_SHARD, "files", 2)
        yield out


@pytest.fixture(scope="module")
def expected(folder, small_model, tmp_path_factory):
    """The code files of one process."""
    out = tmp_path_factory.mktemp("expected")
    encode(str(folder), str(out), model=str(small_model))
    return read_files(out)


def read_files(out):
    """What lies in a folder of codes; names of files that are no codes, without their bytes."""
    return {
        path.name: path.read_bytes() if path.name.startswith("codes-") else None
        for path in sorted(Path(out).iterdir())
    }


def test_a_cluster_that_was_there_stays_and_one_of_our_own_goes(address, monkeypatch):
    import ray

    def where(task, report):
        import ray

        return ray.get_runtime_context().gcs_address, torch.get_num_threads()

    def workers(number, at_once):
        return list(run_tasks(where, range(number), [1] * number, at_once, lambda more: None))

    assert not ray.is_initialized(), "this test comes before those that are connected"
    assert workers(1, 1) == [(address, 1)], "as many threads as cores"
    assert not ray.is_initialized()
    monkeypatch.setenv("RAY_ADDRESS", "local")  # what Ray takes where no cluster runs
    ((own, threads),) = workers(1, 1)
    assert own != address
    assert threads == len(os.sched_getaffinity(0))
    host, port = own.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_two_machines_make_the_files_of_one_process(
    ray_cluster, folder, expected, small_model, tmp_path, monkeypatch, capsys
):
    import ray

    monkeypatch.chdir(tmp_path)  # of which the machines of the cluster know nothing
    os.symlink(folder, "data")
    os.symlink(small_model, "model")
    steps, options = [], EncodeOptions(engine="ray", num_processes=2)
    files, figures = encode(
        "data", "out", model="./model", options=options, progress=lambda *now: steps.append(now)
    )
    assert read_files("out") == expected
    assert [path.name for path in files] == sorted(expected)[:4]
    assert figures["clips"] == 7
    assert steps[-1] == (7, 7)
    assert len(steps) == 4, "each shard is told of when it is done"
    assert capsys.readouterr().out == ""
    assert ray.is_initialized(), "who connected before stays connected"


def test_a_worker_killed_as_it_writes_costs_nothing(
    ray_cluster, folder, expected, small_model, tmp_path, monkeypatch
):
    killed, one = tmp_path / "killed", encode_module._process_shard

    def killed_once(shard, report):  # local, so that it goes to the worker as it stands here
        import os
        import signal
        from unittest import mock

        def replace(source, target):
            killed.write_text(f"{source.name} {source.stat().st_size}")
            os.kill(os.getpid(), signal.SIGKILL)

        if "00002" in shard.path.name and not killed.exists():
            with mock.patch("os.replace", replace):
                return one(shard, report)
        return one(shard, report)

    monkeypatch.setattr(encode_module, "_process_shard", killed_once)
    out, options = tmp_path / "out", EncodeOptions(engine="ray", num_processes=2)
    encode(str(folder), str(out), model=str(small_model), options=options)
    name, size = killed.read_text().split()
    assert name.startswith("codes-00002")
    assert int(size) > 0, "the codes were there, in a folder of their own"
    assert read_files(out) == expected, "and nothing else is there"


def test_errors_are_those_of_one_process(ray_cluster, folder, small_model, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for path in folder.iterdir():
        os.link(path, data / path.name)
    (data / "4.mp4").unlink()
    (data / "4.mp4").write_bytes(b"no video at all")
    said = []
    for engine in ("processes", "ray"):
        options = EncodeOptions(engine=engine)
        with pytest.raises(media.MediaError) as error:
            encode(str(data), str(tmp_path / engine), model=str(small_model), options=options)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert "1 of 7 files cannot be read" in said[1]
    options = EncodeOptions(engine="ray", max_corrupt=0.2)
    out, warned = str(tmp_path / "ray"), []
    _, figures = encode(str(data), out, model=str(small_model), options=options, warn=warned.append)
    assert (figures["corrupt"], figures["clips"], len(warned)) == (1, 6, 1)


def test_what_fails_on_a_worker_fails_here_and_says_where(ray_cluster):
    def work(task, report):
        raise FileNotFoundError(f"no {task}")

    with pytest.raises(FileNotFoundError, match=r"^no file\n") as error:
        list(run_tasks(work, ["file"], [1], 1, lambda more: None))
    assert "in work" in error.value.__notes__[0]


def test_a_task_that_kills_every_worker_ends_the_run(ray_cluster):
    def work(task, report):
        import os

        os.kill(os.getpid(), 9)

    with pytest.raises(RuntimeError, match="a task killed its worker 3 times, perhaps becau"):
        list(run_tasks(work, [0], [1], 1, lambda more: None))


def test_workers_share_cores_and_gpus_and_all_find_room():
    def cpus(machines, number):
        return compute_worker_resources([{"CPU": n} for n in machines], number, use_gpus=True)[
            "num_cpus"
        ]

    assert cpus([8], 1) == 8
    assert cpus([16, 4], 2) == 8, "two that the first machine has room for"
    assert cpus([16, 4], 5) == 4
    assert cpus([2], 4) == 0.5
    assert cpus([], 4) == 1, "machines may be on their way"
    machines = [{"CPU": 64}, {"CPU": 8, "GPU": 4}, {"CPU": 16, "GPU": 1}]
    assert compute_worker_resources(machines, 5, use_gpus=True) == {"num_cpus": 2, "num_gpus": 1}
    assert compute_worker_resources(machines, 10, use_gpus=True) == {"num_cpus": 1, "num_gpus": 0.5}
    assert compute_worker_resources(machines, 2, use_gpus=False) == {"num_cpus": 32}


def test_nonsense_is_refused_before_any_work(folder, small_model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="engine must be 'processes' or 'ray', got 'dask'"):
        EncodeOptions(engine="dask")
    with pytest.raises(ValueError, match=r"device must be .* for the engine 'ray', .*'cuda:1'"):
        EncodeOptions(engine="ray", device="cuda:1")
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ImportError, match=r"needs Ray: pip install 'vqvideo\[ray\]'"):
        options = EncodeOptions(engine="ray")
        encode(str(folder), str(tmp_path / "out"), model="nowhere", options=options)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_results_alone(address, folder, small_model, tmp_path):
    command = [sys.executable, "-m", "vqvideo", "encode", str(folder), str(tmp_path / "out")]
    options = ["--model", str(small_model), "--engine", "ray", "--num-processes", "2", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["clips"] == 7
    assert done.stderr == ""
