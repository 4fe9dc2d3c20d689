"""Hooks of modules: called when PyTorch's are, with what they get there."""

import re

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import GradientError
from tests.optional import torch


def layer(library, modules):
    class Two(modules.Module):
        def __init__(self):
            super().__init__()
            self.inner = modules.Linear(2, 2)

        def forward(self, a, b, factor=1.0):
            return self.inner(a) * b * factor, a + 1

    made = Two()
    with library.no_grad():
        made.inner.weight.copy_(library.tensor([[1.0, 2.0], [3.0, 4.0]]))
        made.inner.bias.zero_()
    return made


def numbers(values):
    return [None if value is None else value.tolist() for value in values]


def run(library, modules):
    seen, model = [], layer(library, modules)
    model.register_forward_hook(lambda m, args, output: (output[0] * 2, output[1]))
    model.register_forward_hook(lambda m, args, kwargs, output: seen.append(kwargs), with_kwargs=True, prepend=True)
    model.register_forward_pre_hook(lambda m, args: (args[0] + 1, args[1]))
    model.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": 3.0}), with_kwargs=True)
    model.register_full_backward_hook(lambda m, gi, go: seen.append((numbers(gi), numbers(go))))
    model.register_full_backward_hook(lambda m, gi, go: (gi[0] * 2, gi[1]))
    model.register_full_backward_pre_hook(lambda m, go: (go[0] * 3, go[1]))
    gone = model.inner.register_forward_hook(lambda m, args, output: output * 100)
    gone.remove()
    a, b = (library.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [0.5, 0.3]))
    y, z = model(a, b)
    (y.sum() + (z * z).sum()).backward()
    return seen, [a.grad.tolist(), b.grad.tolist(), model.inner.weight.grad.tolist()]


def flat(value):
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in flat(part)]
    return [value] if isinstance(value, float) else []


def test_hooks_of_a_module_are_called_as_pytorchs():
    ours, theirs = run(cr, nn), run(torch, torch.nn)
    assert ours[0][0] == theirs[0][0] == {"factor": 3.0}
    assert flat(ours) == pytest.approx(flat(theirs), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # PyTorch's own
@pytest.mark.parametrize("library", [cr, torch], ids=["chainrule", "torch"])
def test_arguments_that_need_no_gradient(library):
    modules, seen = (nn if library is cr else torch.nn), []
    model = modules.Linear(2, 1)
    model.register_full_backward_hook(lambda m, gi, go: seen.append((numbers(gi), numbers(go))))
    model(library.ones(3, 2)).sum().backward()
    assert seen == [([None], [[[1.0], [1.0], [1.0]]])]


def test_activations_are_gathered_from_the_middle_of_a_network():
    model, seen = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda m, args, output, name=name: seen.update({name: output.shape}))
    model(cr.ones(4, 2))
    assert seen == {"0": (4, 3), "1": (4, 3), "2": (4, 1)}


def test_a_compiled_model_is_traced_anew_when_hooks_come_and_go():
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with cr.no_grad():
        model[0].weight.fill_(1.0)
    step = cr.compile(model)
    found = [step(cr.ones(1, 2)).item()]
    with model[0].register_forward_hook(lambda m, args, output: output * 10):
        found.append(step(cr.ones(1, 2)).item())
    found.append(step(cr.ones(1, 2)).item())
    assert found == [2, 20, 2]


def test_gradients_of_a_hook_in_a_compiled_step():
    model = nn.Linear(2, 1, bias=False)
    model.register_full_backward_hook(lambda m, gi, go: (gi[0] * 10,))

    @cr.compile
    def step(x):
        model(x).sum().backward()
        return x.grad

    with cr.no_grad():
        model.weight.fill_(1.0)
    assert step(cr.ones(1, 2, requires_grad=True)).tolist() == [[10, 10]]


def test_a_hook_that_is_called_whatever_happens():
    model, seen = nn.Linear(2, 1), []
    model.register_forward_hook(lambda m, args, output: seen.append(output), always_call=True)
    with pytest.raises(cr.ChainruleError):
        model(cr.ones(3))
    assert seen == [None]


def test_gradients_that_are_not_as_many():
    model = nn.Linear(2, 1)
    model.register_full_backward_hook(lambda m, gi, go: (*gi, None))
    with pytest.raises(GradientError) as error:
        model(cr.ones(1, 2, requires_grad=True)).sum().backward()
    said = re.sub(r" in layer '\w+' \([^)]*\)| \([^)]*\)| in layer '\w+'", "", str(error.value))
    assert said == "Linear: a backward hook must return None, or a grad_input of 1 gradients, got 2."
