"""What explanations look like in a terminal: names of any depth, lines of eighty columns."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.explain.difference import difference
from chainrule.explain.text import WIDTH, sentence, table
from chainrule.nn import functional as F


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        return (self.q_proj(x) @ self.k_proj(x).mT / 2).softmax(-1) @ self.v_proj(x)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.feed_forward = Attention(), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.feed_forward(x)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Block(), Block())

    def forward(self, x):
        return self.layers(x)


class SequenceClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.classification_head = Encoder(), nn.Linear(4, 3)

    def forward(self, x):
        return self.classification_head(self.encoder(x).mean(1))


DEEP = "encoder.layers.1.attention.q_proj.weight"


@pytest.fixture(scope="module")
def trainer():
    cr.manual_seed(0)
    model = SequenceClassifier()
    trainer = cr.Trainer(model, F.cross_entropy, optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01))
    x = np.random.default_rng(0).normal(size=(24, 6, 4)).astype(np.float32)
    trainer.fit(x, np.arange(24) % 3, epochs=2, batch_size=8, seed=0, progress=False, record=True)
    return trainer


TEXTS = {
    "derivation": lambda t: str(t.explain(f"{DEEP}[2, 3]", step=3)),
    "ledger": lambda t: t.ledger(f"{DEEP}[2, 3]", step=3).text(),
    "flow": lambda t: t.gradient_flow(DEEP, step=3).text(),
    "flow, if one": lambda t: t.gradient_flow(DEEP, step=3).text(if_one=True),
    "what if": lambda t: str(t.what_if(3, lr=0.1, follow=[f"{DEEP}[2, 3]"])),
}


@pytest.mark.parametrize("text", TEXTS)
def test_no_line_is_wider_than_a_terminal(trainer, text):
    lines = TEXTS[text](trainer).splitlines()
    assert max(map(len, lines)) <= WIDTH == 80, max(lines, key=len)


def test_a_layer_stands_above_its_terms_and_nothing_of_them_is_lost(trainer):
    found = trainer.explain(f"{DEEP}[2, 3]", step=3)
    lines = str(found).splitlines()
    at = lines.index("  SequenceClassifier.encoder.layers.1.attention.q_proj:")
    strongest = max(found.terms, key=lambda term: abs(term.product))
    assert (
        lines[at + 1].split()[0]
        == strongest.name.rpartition(": ")[2].split("[")[0] + "[" + strongest.name.partition("[")[2].split()[0]
    )
    assert lines[at + 1].endswith(f"{strongest.product:.9g}")
    assert sum("attention.q_proj:" in line for line in lines[: lines.index("", at)]) == 1


def test_the_layers_of_a_flow_stand_above_its_ops(trainer):
    flow = trainer.gradient_flow(DEEP, step=3)
    lines = flow.text().splitlines()
    assert "in SequenceClassifier.encoder.layers.1.attention.q_proj:" in lines
    assert "in no layer:" in lines
    assert sum(line[:9].strip()[:1] in ("+", "-") and line[9:10] == " " for line in lines) == sum(
        bool(gain.gain) or gain.kind != "passed on" for gain in flow.gains
    )


def test_rows_that_fit_stay_in_one_line():
    assert table([["a", "1"], ["long", "20"]], right=(1,)) == ["  a      1", "  long  20"]
    assert table([]) == []


def test_rows_under_long_names():
    deep = "model.encoder.layers.3.attention.q_proj"
    rows = [["Y", "dL/dY"], [f"{deep}: matmul[0, 1]", "1" * 30], [f"{deep}: add[0]", "2" * 30], ["the others", "3"]]
    assert table(rows, right=(1,)) == [
        f"  Y               {'dL/dY':>30}",
        f"  {deep}:",
        f"    matmul[0, 1]  {'1' * 30}",
        f"    add[0]        {'2' * 30}",
        f"  the others      {'3':>30}",
    ]
    names = [f"{deep}.weight", f"{deep}.bias"]
    assert table([[name, "1" * 50] for name in names]) == [
        f"  {names[0]}", f"      {'1' * 50}", f"  {names[1]}", f"      {'1' * 50}",
    ]  # fmt: skip


def test_a_difference_of_deep_parameters():
    before = {f"encoder.layers.{i}.attention.out_projection.weight": np.full((9, 9), 0.123456789) for i in (3, 4)}
    after = {name: value * 1.23456789 for name, value in before.items()}
    lines = str(difference(3, 4, before, after, 1)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert all(f"  {name}" in lines for name in before)


def test_a_sentence_is_broken_between_words():
    text = sentence("some words of a sentence " * 6, "  ")
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert text.split() == ("some words of a sentence " * 6).split()
    name = "a" * 100
    assert sentence(f"the {name} is one") == f"the\n  {name}\n  is one"
