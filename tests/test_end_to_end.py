"""The whole road in a second: the command trains a tiny network, and its model predicts."""

import numpy as np
from click.testing import CliRunner

from chainrule.cli import commands
from chainrule.data import load


def test_a_tiny_network_trains_and_predicts(tmp_path):
    runner, folder = CliRunner(), tmp_path / "run"
    arguments = ["train", "digits", "--epochs", "10", "--hidden", "64", "--out", str(folder)]
    runner.invoke(commands, arguments, catch_exceptions=False)
    X, y = load("digits").test
    np.save(tmp_path / "rows.npy", X)
    out = runner.invoke(commands, ["predict", str(folder), str(tmp_path / "rows.npy")], catch_exceptions=False).stdout
    predicted = np.array([int(line) for line in out.split()])
    assert (predicted == y).mean() > 0.85
