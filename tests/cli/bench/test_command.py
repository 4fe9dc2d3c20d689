"""``chainrule bench`` as a person calls it."""

import json

import pytest
from click.testing import CliRunner

from chainrule.cli import commands
from chainrule.cli.bench import options
from chainrule.compiler.runtime.threads import available_cpus
from chainrule.errors import SettingError, UnknownNameError

QUICK = ["bench", "--quick", "--workloads", "mlp_tiny", "--peers", "numpy", "--threads", "1", "--rounds", "2"]


def call(*arguments):
    result = CliRunner().invoke(commands, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_json():
    result = call(*QUICK, "--json")
    report = json.loads(result.stdout)
    assert "cpu" in report["machine"]
    (workload,) = report["results"]
    assert (workload["workload"], workload["threads"], workload["best_peer"]) == ("mlp_tiny", 1, "numpy")
    assert set(workload["peers"]) == {"chainrule", "chainrule call", "numpy"}
    assert all(len(peer["rounds"]) == 2 and peer["agreement"]["agrees"] for peer in workload["peers"].values())
    assert "mlp_tiny: 4-32-32-2, batch 32, 1 core" in result.stderr  # the table
    assert "best peer: numpy" in result.stderr


def test_choices():
    assert [w.name for w in options.workloads(None, False)] == ["mlp_tiny", "mlp_tab", "mlp_mnist", "mlp_big"]
    assert [w.name for w in options.workloads(None, True)] == ["mlp_tiny", "mlp_tab"]
    assert options.threads(None) == [available_cpus()]
    names = [peer.name for peer in options.settings(None, None, quick=True).peers]
    assert "torch.compile" not in names
    assert "torch.compile" in [peer.name for peer in options.settings("torch", None, quick=True).peers]


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (["--workloads", "mlp_tinny"], UnknownNameError, "unknown workload 'mlp_tinny'. Did you mean 'mlp_tiny'"),
        (["--peers", "pytorch"], UnknownNameError, "unknown peer 'pytorch'. Did you mean 'torch'"),
        (["--threads", "none"], SettingError, "--threads must be numbers of cores from 1 to "),
        (["--threads", "0"], SettingError, "--threads must be numbers of cores from 1 to "),
    ],
)
def test_bad_arguments(arguments, kind, text):
    with pytest.raises(kind) as caught:
        call("bench", *arguments)
    assert str(caught.value).startswith(text)
