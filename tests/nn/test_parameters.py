"""Lists and dictionaries of parameters, and parameters as one vector, beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import IndexRangeError, ShapeError

from .peers import torch

A, B = np.arange(6.0).reshape(2, 3).astype("f"), np.ones(4, "f")


def repr_of(theirs):
    return repr(theirs).replace("torch.float32", "float32").replace("torch.FloatTensor", "float32")


def test_a_list():
    ours, theirs = nn.ParameterList([cr.tensor(A)]), torch.nn.ParameterList([torch.tensor(A)])
    for mine, lib in ((ours, cr), (theirs, torch)):
        mine.append(lib.tensor(B))
        mine += [lib.zeros(2)]
    assert repr(ours) == repr_of(theirs)
    assert repr(nn.ParameterList()) == repr(torch.nn.ParameterList())
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["0", "1", "2"]
    assert len(ours) == 3
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in ours)
    assert ours[-1] is ours[2]
    assert [p.tolist() for p in ours[1:]] == [p.tolist() for p in theirs[1:]]
    ours[0] = cr.zeros(1)
    assert ours[0].tolist() == [0.0]
    with pytest.raises(IndexRangeError, match="ParameterList holds 3 parameters; index 3 is out of range."):
        ours[3]


def test_a_dictionary():
    ours, theirs = nn.ParameterDict({"a": cr.tensor(A)}), torch.nn.ParameterDict({"a": torch.tensor(A)})
    ours["b"], theirs["b"] = cr.tensor(B), torch.tensor(B)
    assert repr(ours) == repr_of(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == list(ours) == list(ours.keys())
    assert {k: v.tolist() for k, v in ours.items()} == {k: v.tolist() for k, v in theirs.items()}
    assert ("a" in ours, "c" in ours, len(ours), ours.get("c")) == (True, False, 2, None)
    assert ours.pop("a").tolist() == A.tolist()
    with pytest.raises(KeyError, match=r"ParameterDict has no parameter 'a'. It has: b."):
        ours["a"]
    ours.clear()
    assert len(ours) == 0


@pytest.mark.parametrize("native", [False, True], ids=["eager", "compiled"])
def test_they_train(native):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.ParameterList([cr.ones(2) for _ in range(3)])
            self.named = nn.ParameterDict({"scale": cr.ones(1)})

        def forward(self, x):
            for row in self.rows:
                x = x * row
            return x * self.named["scale"]

    model = Net()
    opt = cr.optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        opt.zero_grad()
        loss = model(x).sum()
        loss.backward()
        opt.step()
        return loss

    run = cr.compile(step) if native else step
    run(cr.tensor([1.0, 2.0]))
    assert [p.tolist() for p in model.rows] == [pytest.approx([0.9, 0.8])] * 3
    assert model.named["scale"].tolist() == pytest.approx([0.7])
    assert run(cr.tensor([1.0, 0.0])).item() == pytest.approx(0.9**3 * 0.7)


def test_one_vector():
    ours, theirs = nn.Linear(3, 2), torch.nn.Linear(3, 2)
    ours.load_state_dict(theirs.state_dict())
    vector = nn.utils.parameters_to_vector(ours.parameters())
    assert vector.tolist() == torch.nn.utils.parameters_to_vector(theirs.parameters()).tolist()
    assert vector.requires_grad
    nn.utils.vector_to_parameters(vector.detach() * 2, ours.parameters())
    assert ours.weight.tolist() == (theirs.weight * 2).tolist()
    assert ours.bias.tolist() == (theirs.bias * 2).tolist()
    with pytest.raises(ShapeError, match="the vector must have the 8 elements of the parameters, got shape"):
        nn.utils.vector_to_parameters(cr.zeros(9), ours.parameters())
