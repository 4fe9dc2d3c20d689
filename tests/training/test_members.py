"""What a training consists of is walked once, and again where a member came, went or was exchanged."""

import copy

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

X = np.ones((8, 4), np.float32)
y = np.zeros(8, np.int64)


class Scaled(nn.Module):
    """A loss with members of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(cr.ones(1))

    def forward(self, output, target):
        return F.cross_entropy(output * self.scale, target)


def make(loss=F.cross_entropy):
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    return cr.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1)).session


def closing_over(tensor):
    return lambda output, target: (output * tensor).mean()


def test_a_walk_stands_while_nothing_comes_or_goes():
    session = make()
    before = session.members()
    session.model.train(False)
    session.model[0].note = 3
    session.model[0].weight.data = cr.ones(3, 4)
    assert session.members() is before


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.model.append(nn.Linear(2, 2)),
        lambda s: setattr(s.model[0], "weight", nn.Parameter(cr.ones(3, 4))),
        lambda s: s.model[0].register_buffer("mean", cr.ones(3)),
        lambda s: s.model[0]._parameters.update(more=nn.Parameter(cr.ones(1))),
        lambda s: delattr(s.model[0], "bias"),
        lambda s: nn.Module.__init__(s.model[0]),
        lambda s: s.optimizer.add_param_group({"params": [cr.ones(2, requires_grad=True)]}),
        lambda s: setattr(s, "loss", Scaled()),
        lambda s: setattr(s, "loss", closing_over(cr.ones(2))),
        lambda s: setattr(s, "model", nn.Linear(4, 2)),
    ],
)
def test_a_walk_is_made_again(change):
    session = make()
    before = session.members()
    change(session)
    found, new = session.members(), make().members().of(session.model, session.loss, session.optimizer)
    assert found is not before
    assert list(found.named) == list(new.named) and all(
        a is b for a, b in zip(*map(_tensors, (found, new)), strict=True)
    )
    assert [name for name, _ in found.objects] == [name for name, _ in new.objects]


def _tensors(members):
    return members.named.values()


def test_what_a_loss_closes_over_is_looked_at():
    held = [cr.ones(2), cr.ones(2)]
    kept = held[0]

    def loss(output, target):
        return (output * kept).mean()

    session = make(loss)
    assert session.named()["loss.kept"] is held[0]
    kept = held[1]
    assert session.named()["loss.kept"] is held[1]


def test_a_model_that_walks_in_its_own_way_is_asked_each_time():
    class Few(nn.Sequential):
        def named_parameters(self, *args, **kwargs):
            yield from list(super().named_parameters(*args, **kwargs))[: self.few]

    model = Few(nn.Linear(4, 2))
    model.few = 2
    model.requires_grad_(False)
    session = cr.Trainer(model, F.cross_entropy, optim.SGD([cr.ones(1, requires_grad=True)], lr=0.1)).session
    assert len(session.named()) == 3
    model.few = 1
    assert len(session.named()) == 2


def test_a_copy_walks_its_own():
    session = make()
    before = session.named()
    other = copy.deepcopy(session)
    assert list(other.named()) == list(before)
    assert not {id(tensor) for tensor in other.named().values()} & {id(tensor) for tensor in before.values()}


def attributes_that_change():
    """What a setting lies in, and how it becomes 2 where it was 1."""
    by_item = nn.ReLU()
    by_item.scales = [1]
    deep = nn.ReLU()
    deep.scales = ([1], 0)
    plain = nn.ReLU()
    plain.scale = 1

    def loss(output, target):
        return F.cross_entropy(output, target) * loss.scale

    loss.scale = 1
    return {
        "item of a list": (by_item, None, lambda: by_item.scales.__setitem__(0, 2)),
        "list in a tuple": (deep, None, lambda: deep.scales[0].__setitem__(0, 2)),
        "attribute": (plain, None, lambda: setattr(plain, "scale", 2)),
        "by way of the dict": (plain, None, lambda: vars(plain).__setitem__("scale", 2)),
        "attribute of a function": (nn.ReLU(), loss, lambda: setattr(loss, "scale", 2)),
    }


@pytest.mark.parametrize("kind", attributes_that_change())
def test_plain_attributes_are_those_of_now(kind):
    layer, loss, change = attributes_that_change()[kind]
    model = nn.Sequential(nn.Linear(2, 2), layer)
    session = cr.Trainer(model, loss or F.cross_entropy, optim.SGD(model.parameters(), lr=0.1), output="logits").session

    def scales():
        return repr(
            [v for attributes in session.settings().modules.values() for k, v in attributes.items() if k[0] == "s"]
        )

    before, again = scales(), scales()
    assert before == again
    assert "1" in before
    change()
    assert scales() == before.replace("1", "2")
