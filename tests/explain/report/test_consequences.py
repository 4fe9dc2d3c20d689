"""What a page says of a change is what the engine's own replay says."""

import json

import numpy as np
import pytest
from tests.explain.report.runs import digits

from chainrule.errors import IndexRangeError, SettingError, UnknownNameError
from chainrule.explain.report import consequences


@pytest.fixture(scope="module")
def kept():
    return consequences.kept(digits().run, [0, 40], 10)


def alone(change, step):
    """The change asked for by itself, in the words of `Run.what_if`."""
    run = digits().run
    if change["kind"] == "weight":
        address = f"{change['parameter']}[{change['index']}]"
        return run.what_if(step, consequences.STEPS, weights={address: change["value"]}), address
    if change["kind"] == "input":
        return run.what_if(step, consequences.STEPS, inputs={(change["row"], change["index"]): change["value"]}), None
    if change["kind"] == "label":
        return run.what_if(step, consequences.STEPS, labels={change["row"]: change["value"]}), None
    return run.what_if(step, consequences.STEPS, lr=change["value"]), None


@pytest.mark.parametrize("kind", ["weight", "input", "label", "rate"])
@pytest.mark.parametrize("step", [0, 40])
def test_a_kept_consequence_is_the_engine_s_replay(kept, kind, step):
    found = next(c for c in kept if c["step"] == step and c["change"]["kind"] == kind)
    expected, address = alone(found["change"], step)
    assert found["original"]["losses"] == expected.original.losses.tolist()
    assert found["changed"]["losses"] == expected.changed.losses.tolist()
    assert found["changed"]["gradient"] == (expected.changed.gradients[address] if address else None)
    assert found["words"] == ", ".join(expected.changes)


def test_what_is_asked_for_first_is_kept(kept):
    here = [c["change"] for c in kept if c["step"] == 0]
    moment = digits().run.at(0)
    assert [c["value"] for c in here if c["kind"] == "rate"] == [0.01 * t for t in consequences.RATES]
    labels = [c["value"] for c in here if c["kind"] == "label"]
    assert sorted([*labels, moment.y[0]]) == list(range(10))
    for name, gradient in moment.gradients.items():
        at = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        values = [c["value"] for c in here if c.get("parameter") == name]
        value = float(moment.weights[name][at])
        np.testing.assert_allclose(values, [value * share for share in consequences.SHARES], rtol=1e-6)


def test_a_large_network_keeps_fewer(monkeypatch):
    one = sum(p.numel() for p in digits().model.parameters()) * 64 * 6 * consequences.STEPS
    monkeypatch.setattr(consequences, "WORK", 8.5 * one)
    assert [c["step"] for c in consequences.kept(digits().run, [0, 40], 10)] == [0, 0, 0, 40, 40, 40]
    monkeypatch.setattr(consequences, "WORK", 1.0)
    assert consequences.kept(digits().run, [0, 40], 10) == []


def test_a_question_is_answered_as_a_file_would(kept):
    for found in kept[::7]:
        told = {key: str(value) for key, value in found["change"].items()}
        answer = consequences.asked(digits().run, found["step"], told)
        assert {**answer, "change": found["change"]} == found
    json.dumps(kept)  # plain numbers and texts


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"kind": "colour"}, SettingError, "view: 'colour' is nothing that can be changed. There are: weight, input, label, rate."),
        ({"kind": "weight", "parameter": "nothing", "index": "0", "value": "1"}, UnknownNameError, "unknown weight 'nothing'"),
        ({"kind": "label", "row": "99999", "value": "1"}, IndexRangeError, "what_if: there are the rows 0 to 1436, got 99999. Name one of them."),
        ({"kind": "rate", "value": "-1"}, SettingError, "what_if: lr must be a number of 0 or more, got -1.0."),
        ({"kind": "rate"}, KeyError, "'value'"),
        ({"kind": "input", "row": "0", "index": "64", "value": "1"}, ValueError, ""),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_answered(change, error, text):
    with pytest.raises(error) as caught:
        consequences.asked(digits().run, 3, change)
    assert str(caught.value).startswith(text)
