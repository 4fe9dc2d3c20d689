"""What of ``src`` imports a peer is collected only where that peer is installed."""

import importlib.util

PEERS = {"jax": "with_jax.py", "sklearn": "with_sklearn.py", "torch": "with_torch.py"}

collect_ignore = [
    f"src/chainrule/cli/bench/peers/{file}" for peer, file in PEERS.items() if importlib.util.find_spec(peer) is None
]
if importlib.util.find_spec("sklearn") is None:
    collect_ignore += ["src/chainrule/sklearn.py", "src/chainrule/interop/sklearn"]
if importlib.util.find_spec("onnx") is None:
    collect_ignore += ["src/chainrule/onnx.py", "src/chainrule/interop/onnx"]
if importlib.util.find_spec("polars") is None:
    collect_ignore += ["src/chainrule/data/table", "src/chainrule/training/tabular.py", "src/chainrule/cli/tables.py"]
    collect_ignore += ["src/chainrule/data/windows/text.py"]
collect_ignore += ["tests/scripts"]  # `tests/test_scripts.py` runs them; there are no doctests to look for in scripts
# Likewise what tests share that compares with PyTorch; the tests themselves are collected, and skip.
HUNTERS = ("drawing", "pieces", "programs", "recorded", "trainings")
if importlib.util.find_spec("torch") is None:
    collect_ignore += [f"tests/hunters/{name}.py" for name in HUNTERS]
