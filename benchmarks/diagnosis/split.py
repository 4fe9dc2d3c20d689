"""Which runs the rules are tuned on, and which are held out. Decided before this round of tuning began.

The second split. The first one's held-out cases (the last seven of TUNE) have been seen, so rules may be tuned on
them now. Held out are data sets that were written anew, on networks of another kind of each family (but for two
plain MLPs of another shape), and seeds that were never used. Of the held-out cases nothing was looked at while rules
were changed, except that the plain run trains and which faults do harm, for which no diagnosis is made
(`run.py held_out --undiagnosed`).
"""

from __future__ import annotations

from specs import Spec

TUNE = {
    "mlp/digits": Spec("digits", "mlp", width=64, depth=2, epochs=12),
    "mlp/spirals": Spec("spirals", "mlp", width=32, depth=3, epochs=40, lr=5e-3),
    "mlp/curve": Spec("curve", "mlp", width=32, depth=2, act="tanh", epochs=40, lr=5e-3),
    "cnn/digits": Spec("digits", "cnn", width=12, epochs=12),
    "recurrent/digits": Spec("digits", "recurrent", width=40, act="tanh", epochs=15),
    "mlp/blobs": Spec("blobs", "mlp", width=48, depth=2, epochs=15),
    "mlp/teacher": Spec("teacher", "mlp", width=64, depth=2, epochs=25),
    "mlp/friedman": Spec("friedman", "mlp", width=48, depth=2, epochs=25),
    "cnn/stripes": Spec("stripes", "cnn", width=10, epochs=15),
    "recurrent/waves": Spec("waves", "recurrent", width=32, act="tanh", epochs=15),
    "attention/digits": Spec("digits", "attention", width=24, epochs=20),
    "attention/tokens": Spec("tokens", "attention", width=24, epochs=20),
}
HELD_OUT = {
    "mlp/rings": Spec("rings", "mlp", width=32, depth=2, epochs=30, lr=5e-3),
    "attention/marked": Spec("marked", "attention", width=16, kind="pooled", epochs=20, lr=5e-3),
    "cnn/chirps": Spec("chirps", "cnn", width=12, kind="time_cnn", epochs=20, lr=5e-3),
    "recurrent/orbits": Spec("orbits", "recurrent", width=24, kind="gated", act="tanh", epochs=20, lr=5e-3),
    "mlp/pendulum": Spec("pendulum", "mlp", width=40, depth=3, act="tanh", epochs=30, lr=5e-3),
    "mlp/records": Spec("records", "mlp", width=24, depth=2, kind="residual", epochs=12),
}
SPLITS = {"tune": (TUNE, (0, 1)), "held_out": (HELD_OUT, (11, 12, 13, 14, 15))}
