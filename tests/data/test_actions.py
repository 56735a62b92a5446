"""Files of actions: what is read, and what is refused by name."""

import numpy as np
import pytest
import torch

from vqvideo.data.actions import load_actions, read_frame_actions


def test_the_first_frame_was_led_into_by_action_0_and_the_next_by_the_first_recorded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([3, 4, 5], dtype=np.int8))
    assert read_frame_actions(tmp_path / "a.npy", 0, 4).tolist() == [0, 3, 4, 5]
    assert read_frame_actions(tmp_path / "a.npy", 0, None).tolist() == [0, 3, 4, 5]
    assert read_frame_actions(tmp_path / "a.npy", 2, 2).tolist() == [4, 5]
    assert read_frame_actions(tmp_path / "a.npy", 2, None).dtype == torch.int64


def test_vectors_are_read_likewise(tmp_path):
    np.save(tmp_path / "v.npy", np.array([[0.5, 1], [2, 3]]))
    led = read_frame_actions(tmp_path / "v.npy", 0, 3)
    assert led.equal(torch.tensor([[0, 0], [0.5, 1], [2, 3]]))


def test_too_few_are_counted(tmp_path):
    np.save(tmp_path / "a.npy", np.array([3, 4]))
    with pytest.raises(ValueError, match=r"a\.npy holds 2 actions; frames 1 to 4 need 4"):
        read_frame_actions(tmp_path / "a.npy", 1, 4)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.array(3), r"got int64 \[\]"),
        (np.array([0.5]), r"got float64 \[1\]"),
        (np.zeros((1, 2, 3)), r"got float64 \[1, 2, 3\]"),
        (np.array(["a"]), "got <U1"),
        (np.array([[1j, 0]]), "got complex128"),
        (np.array([2**63], dtype=np.uint64), "got 9223372036854775808"),
        (np.array([[np.nan, 0]]), "some are NaN or infinite"),
        (np.array([[1e300, 0]]), "some are NaN or infinite"),
    ],
)
def test_other_numbers_are_refused_by_name(tmp_path, values, complaint):
    np.save(tmp_path / "a.npy", values)
    expected = r"a\.npy must be a \.npy file of integers \[t\] or of numbers \[t, a\]"
    with pytest.raises(ValueError, match=f"{expected}.*{complaint}"):
        load_actions(tmp_path / "a.npy")


@pytest.mark.parametrize("kind", ["pickle", "text", "empty", "cut", "archive"])
def test_what_is_no_array_is_refused_and_never_unpickled(tmp_path, kind):
    file = tmp_path / "a.npy"
    np.save(file, np.array([{"a": 1}], dtype=object) if kind == "pickle" else np.arange(9))
    if kind == "text":
        file.write_text("forward")
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:30])
    elif kind == "archive":
        np.savez(tmp_path / "a.npz", np.arange(3))
        (tmp_path / "a.npz").rename(file)
    with pytest.raises(ValueError, match=r"a\.npy must be a \.npy file of integers") as refused:
        load_actions(file)
    assert "pickle" not in str(refused.value)
