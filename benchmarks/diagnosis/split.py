"""Which runs the rules were tuned on, and which were held out. Decided before the first rule was tuned.

Tuned on: digits (MLP, CNN, recurrent), spirals and a curve (MLP), seeds 0 and 1. Held out: other data sets
(blobs, teacher, friedman, stripes, waves, tokens), the attention family altogether, and seeds 2 to 6. No held-out
run shares data set and family, or seed, with one that was tuned on. The synthetic sets of the held-out part were
not looked at while rules were changed, except that their healthy base run trains.
"""

from __future__ import annotations

from specs import Spec

TUNE = {
    "mlp/digits": Spec("digits", "mlp", width=64, depth=2, epochs=12),
    "mlp/spirals": Spec("spirals", "mlp", width=32, depth=3, epochs=40, lr=5e-3),
    "mlp/curve": Spec("curve", "mlp", width=32, depth=2, act="tanh", epochs=40, lr=5e-3),
    "cnn/digits": Spec("digits", "cnn", width=12, epochs=12),
    "recurrent/digits": Spec("digits", "recurrent", width=40, act="tanh", epochs=15),
}
HELD_OUT = {
    "mlp/blobs": Spec("blobs", "mlp", width=48, depth=2, epochs=15),
    "mlp/teacher": Spec("teacher", "mlp", width=64, depth=2, epochs=25),
    "mlp/friedman": Spec("friedman", "mlp", width=48, depth=2, epochs=25),
    "cnn/stripes": Spec("stripes", "cnn", width=10, epochs=15),
    "recurrent/waves": Spec("waves", "recurrent", width=32, act="tanh", epochs=15),
    "attention/digits": Spec("digits", "attention", width=24, epochs=20),
    "attention/tokens": Spec("tokens", "attention", width=24, epochs=20),
}
SPLITS = {"tune": (TUNE, (0, 1)), "held_out": (HELD_OUT, (2, 3, 4, 5, 6))}
