"""One thread: small tensors gain nothing by more, and lose much where others use the cores."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(number)
