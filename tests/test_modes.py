"""A view in evaluation mode of a module that stays in training mode."""

import functools
import itertools
import threading
import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn

import vqvideo
from vqvideo.modes import eval_view

SMALL = {
    "sample_shape": (4, 16, 16),
    "encoder": {"widths": [4, 8], "num_blocks": [0, 1]},
    "decoder": {"widths": [4, 8], "num_blocks": [0, 1]},
    "quantizer": {"codebook_size": 32, "code_dim": 4, "warmup_steps": 1},
    "prior": {"width": 8, "num_layers": 2, "dropout": 0.5},
}


class Net(nn.Module):
    """Submodules that are reached by attributes, lists, dicts, bound methods and twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
        self.tied = self.first
        self.norm = nn.BatchNorm1d(4)
        self.listed = [(self.norm,), {"drop": self.first[1]}]
        self.ordered = OrderedDict(drop=self.first[1])
        self.call_first = self.run_first
        self.sizes = [3, 4]
        self.register_buffer("offset", torch.zeros(4))

    def run_first(self, x):
        assert not self.training
        return self.first(x)

    def forward(self, x):
        out = self.listed[0][0](self.call_first(x)) + self.tied(x)
        return self.ordered["drop"](self.listed[1]["drop"](out)) + self.offset


def test_a_view_evaluates_while_the_module_stays_in_training_mode():
    net, x = Net(), torch.randn(5, 3)
    expected = net.eval()(x)
    net.train()
    net.first[1].eval()  # a frozen submodule
    modes = [module.training for module in net.modules()]
    view = eval_view(net)
    assert torch.equal(view(x), expected)
    assert modes == [module.training for module in net.modules()]
    assert not any(module.training for module in view.modules())
    assert type(view) is Net and view.first is view.tied is not net.first
    assert view.sizes is net.sizes
    assert eval_view(view) is view
    assert eval_view(net.eval()) is net
    assert eval_view("no module") == "no module"


def test_a_view_shares_parameters_buffers_gradients_and_hooks():
    net, x = Net().train(), torch.randn(5, 3)
    view = eval_view(net)
    assert {id(p) for p in view.parameters()} == {id(p) for p in net.parameters()}
    net.offset = torch.ones(4)  # replaced, not changed in place
    net.double()
    assert view.offset is net.offset and view.norm.weight.dtype == torch.float64
    view(x.double()).sum().backward()
    assert net.first[0].weight.grad is not None
    called = []
    net.norm.register_forward_hook(lambda module, args, out: called.append(module))
    view(x.double())
    assert called == [view.norm]


@pytest.mark.slow  # importing the compiler takes seconds
@pytest.mark.parametrize("compile_in_place", [False, True], ids=["wrapped", "in place"])
def test_a_compiled_submodule_is_evaluated_uncompiled(compile_in_place):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    net, x = nn.Sequential(Net(), nn.Dropout(0.5)), torch.randn(5, 3)
    expected = net.eval()(x)
    if compile_in_place:
        net[0].compile(backend=backend)
    else:
        net[0] = torch.compile(net[0], backend=backend)
    net.train()
    assert torch.equal(eval_view(net)(x), expected)
    assert not graphs and all(module.training for module in net.modules())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        torch.compiler.disable,
        functools.partial,
        lambda forward: functools.partial(type(forward.__self__).forward, forward.__self__),
    ],
    ids=["disabled", "partial of a method", "partial of a function"],
)
def test_a_method_that_was_wrapped_and_stored_in_its_module_is_that_of_the_view(wrap):
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)).train()
    module[0].forward = wrap(module[0].forward)
    x = torch.ones(2, 4)
    assert torch.equal(eval_view(module)(x), module[1](x))
    assert not torch.equal(module(torch.ones(64, 4))[:2], module[1](x)), "dropout is still there"
    assert module[0].training and "forward" in vars(module[0])


def test_a_scripted_submodule_in_training_mode_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), nn.Dropout())
    with pytest.raises(ValueError, match=r"TorchScript module in training mode; call eval\(\)"):
        eval_view(net.train())
    assert eval_view(net.eval()) is net


@pytest.fixture(scope="module")
def model():
    """A model in training mode with dropout and a codebook that each training pass moves."""
    torch.manual_seed(0)
    generator = vqvideo.build("video", **SMALL).train()
    generator.vqvae(torch.rand(4, 3, 4, 16, 16) * 2 - 1)
    with torch.no_grad():
        for parameter in generator.prior.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return generator


def test_threads_that_encode_sample_and_score_in_training_mode_get_what_one_thread_gets(model):
    x = torch.rand(4, 3, 4, 16, 16) * 2 - 1
    calls = [
        lambda: model.vqvae.encode(x),
        lambda: model.vqvae.decode(model.vqvae.encode(x)),
        lambda: model.sample(seed=1, method="cached"),
        lambda: next(model.stream(x[:1], seed=1, method="cached")),  # left half consumed
        lambda: model.log_prob(x).elbo,
    ]
    model.eval()
    expected = [call() for call in calls]
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    differences = []
    start = threading.Barrier(len(calls))

    def run(index):
        start.wait()
        for _ in range(3):
            if not torch.equal(calls[index](), expected[index]):
                differences.append(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not differences
    assert all(module.training for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_call_that_fails_and_streams_left_half_consumed_leave_the_mode_alone(model):
    x = torch.rand(1, 3, 4, 16, 16) * 2 - 1
    streams = [
        model.vqvae.encode_stream(itertools.repeat(x)),
        model.vqvae.decode_stream(itertools.repeat(model.vqvae.encode(x))),
        model.stream(x),
    ]
    for stream in streams:
        next(stream)
        assert all(module.training for module in model.modules())
    with pytest.raises(ValueError):
        next(model.vqvae.decode_stream([torch.full((1, 1, 4, 4), 32)]))
    assert all(module.training for module in model.modules())
