"""What `fit` shows in a notebook."""

import io
import re
import sys
import types

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


class OutStream(io.StringIO):
    """As ipykernel's is."""

    __module__ = "ipykernel.iostream"


@pytest.fixture
def written(monkeypatch):
    """What the one output of the cell held, one writing after the other."""
    found = []

    class Handle:
        def update(self, content, raw):
            assert raw
            found.append(content)

    def display(content, raw, display_id):
        assert raw and display_id and not found
        found.append(content)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return found


def test_a_notebook_has_one_output_with_rate_and_the_time_that_is_left(written, monkeypatch):
    trainer = cr.Trainer(nn.Linear(4, 2), "cross_entropy", "adam", metrics=["accuracy"])
    stream = OutStream()
    monkeypatch.setattr(sys, "stdout", stream)
    trainer.fit(X, y, epochs=400, batch_size=16)
    assert stream.getvalue() == ""
    assert written[0]["text/plain"].startswith("0/400 epochs")
    last = written[-1]
    words = r"400/400 epochs  [\d,.e]+ steps/s  0:00 left  loss [\d.]+  accuracy [\d.]+  [\d.]+ s"
    assert re.fullmatch(words, last["text/plain"])
    assert last["text/html"] == (
        f'<div><progress max="400" value="400.000"></progress> <code>{last["text/plain"]}</code></div>'
    )
    assert len(written) < 100  # ten times a second, and not at each epoch


def test_what_is_said_stands_beside_it_and_names_are_text(written):
    stream = OutStream()

    def named(output, target):
        return (output**2).mean()

    named.__name__ = "<b>"
    trainer = cr.Trainer(nn.Linear(4, 2), "cross_entropy", "adam", metrics=[named])

    def stop(trainer, epoch, measured):
        raise KeyboardInterrupt

    trainer.fit(X, y, epochs=9, callbacks=stop, progress=stream)
    assert "fit(..., resume=True) goes on from there" in stream.getvalue()
    assert written[-1]["text/plain"].startswith("1/9 epochs") and "&lt;b&gt;" in written[-1]["text/html"]
