"""The command line: ``chainrule train | evaluate | predict | export | explain | check | diagnose | view | bench | info``."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click

from chainrule.cli.bench.options import options as bench_options
from chainrule.cli.options import reading_of, reading_options, table_options
from chainrule.cli.output import Steady, fitted, tolerate_encodings, width
from chainrule.errors import ChainruleError, DamagedFileError, SettingError
from chainrule.training.progress import as_text
from chainrule.version import __version__


@click.group()
@click.version_option(__version__)
def commands() -> None:
    """Neural networks trained by backpropagation on the computer you have."""
    tolerate_encodings()


@commands.command()
@click.argument("dataset", required=False)
@table_options
@click.option("--config", type=click.Path(dir_okay=False), help="repeat the run of this config.json, to the bit")
@click.option("--epochs", default=120, show_default=True, type=click.IntRange(1))
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1))
@click.option("--drop-last/--keep-last", default=False, show_default=True, help="leave out a short last batch")
@click.option("--lr", default=2e-3, show_default=True, type=float)
@click.option("--optimizer", default="adam", show_default=True)
@click.option("--hidden", default="256,256", show_default=True, help="units of each hidden layer, as in 128,64")
@click.option("--dropout", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="behind each hidden layer")
@click.option(
    "--noise", default=0.15, show_default=True, type=click.FloatRange(0), help="deviation added to the inputs"
)
@click.option("--label-smoothing", default=0.1, show_default=True, type=click.FloatRange(0, 1))
@click.option("--schedule", default="cosine", show_default=True, type=click.Choice(["cosine", "waves", "constant"]))
@click.option("--activation", default="relu", show_default=True)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**64 - 1))
@click.option("--record/--no-record", default=True, show_default=True, help="keep what brings back every step")
@click.option("--report", is_flag=True, help="also write the page, report.html, into the run folder")
@click.option("--out", type=click.Path(file_okay=False), help="run folder (default: runs/DATASET-N)")
@click.option(
    "--resume", "stopped", type=click.Path(file_okay=False), help="go on with this run, which was stopped or killed"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object as the last line of standard output")
def train(
    as_json: bool, record: bool, report: bool, out: str | None, config: str | None, stopped: str | None, **options: Any
) -> None:
    """Train a network on DATASET and write a run folder.

    DATASET is "digits" (images of 8 x 8 pixels, scaled to 0-1), or a file with a table: CSV, TSV or Parquet, together with
    --target COLUMN. What the columns of a table are is guessed and said; so are batch size, epochs and dropout, which go by
    the number of rows. Other settings of a table, where nothing is said: --optimizer adamw --lr 0.001 --hidden 128,128
    --weight-decay 0.3 --noise 0 --label-smoothing 0.
    """
    start = time.perf_counter()
    from chainrule.cli import runs
    from chainrule.cli.ending import code, terminated
    from chainrule.training.rebuilt import config_of

    printed, shown = Steady(sys.stdout), Steady(sys.stderr if as_json else sys.stdout)
    context = click.get_current_context()
    with terminated() as came:
        if stopped is not None:
            runs.check_resumed(context)
            chosen = config_of(Path(stopped))
            result = runs.resume(Path(stopped), shown, report)
        else:
            chosen = runs.choices(config, options, context)
            with runs.new_folder(out, chosen["dataset"]) as folder:
                result = runs.train(chosen, folder, shown, record, report)
    result["seconds"] = time.perf_counter() - start - result.get("report_seconds", 0.0)
    click.echo(runs.closing(result, chosen, record), file=shown.text)
    if as_json:
        click.echo(json.dumps(result), file=printed.text)
    if result["interrupted"]:
        sys.exit(code(came))


@commands.command()
@click.argument("run", type=click.Path())
@click.argument("rows", required=False, type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True)
@reading_options
def evaluate(run: str, rows: str | None, as_json: bool, **reading: Any) -> None:
    """Measure the model of the run folder RUN on its test rows; one of a table also on those of the file ROWS.

    ROWS is read as the training's file was, unless the options say otherwise.
    """
    from chainrule.cli.runs import measured
    from chainrule.training.rebuilt import trained

    folder = _folder(run)
    found = measured(*trained(folder), folder, rows, reading_of(reading))
    click.echo(json.dumps(found) if as_json else "  ".join(f"{k} {as_text(v)}" for k, v in found.items()))


@commands.command()
@click.argument("run", type=click.Path())
@click.argument("rows", type=click.Path(dir_okay=False))
@click.option("--out", type=click.Path(dir_okay=False), help="write to this file (default: standard output)")
@click.option("--keep", multiple=True, metavar="COLUMN", help="a column of a table to write beside the predictions")
@reading_options
def predict(run: str, rows: str, out: str | None, keep: tuple[str, ...], **reading: Any) -> None:
    """Write what the model of RUN, a run folder or a bundle, gives each row of the file ROWS.

    For a run on a table, ROWS is a table with the same columns, and what is written is CSV: the label and the probability
    of each class, or the value. Columns that are missing, and levels never seen, are named. It is read as the training's
    was, unless the options say otherwise.

    For digits it is a .npy file, and the class of each row comes out, one a line. A row has the 64 pixels of an image row
    by row, each divided by 16, so that they lie between 0 and 1.
    """
    from chainrule.cli.runs import predictions

    predictions(Path(run), rows, out, keep, reading_of(reading))


@commands.command()
@click.argument("run", type=click.Path())
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="the file; one that ends in .onnx is ONNX")
def export(run: str, out: str) -> None:
    """Write the model of RUN as one file that predicts elsewhere.

    A bundle holds network and preprocessing: `cr.load_bundle(FILE).predict({"column": value, ...})`, or `chainrule predict
    FILE ROWS`. With an ending of .onnx it is both as one graph for onnxruntime, which takes raw columns.
    """
    from chainrule.cli.runs import export as exported

    click.echo(fitted(exported(Path(run), Path(out))))


@commands.command()
@click.argument("run", type=click.Path())
@click.argument("weight")
@click.option("--step", default=-1, show_default=True, type=int, help="counted from 0; negative from the end")
@click.option("--samples", default=5, show_default=True, type=click.IntRange(0), help="rows of the batch to list")
@click.option("--flow", is_flag=True, help="also what each op did to the gradient's norm, and what if it did nothing")
@click.option("--json", "as_json", is_flag=True)
def explain(run: str, weight: str, step: int, samples: int, flow: bool, as_json: bool) -> None:
    """Derive the gradient of WEIGHT ("1.weight[3, 7]") at a step of the run folder RUN, and its move there."""
    from chainrule.explain.runs import load_run

    recorded = load_run(_folder(run))
    derivation = recorded.explain(weight, step)
    ledger = recorded.ledger(derivation.name, step)
    followed = recorded.gradient_flow(weight, step) if flow else None
    if as_json:
        found = {"derivation": derivation.as_dict(), "ledger": ledger.as_dict(samples)}
        click.echo(json.dumps(found if followed is None else {**found, "flow": followed.as_dict(if_one=True)}))
    else:
        click.echo(fitted(f"{derivation}\n\n{ledger.text(samples)}"))
        if followed is not None:
            click.echo(fitted(f"\n{followed.text(if_one=True)}"))


@commands.command()
@click.argument("run", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="the diagnosis as one JSON object on standard output")
def diagnose(run: str, as_json: bool) -> None:
    """Find what is wrong with the training of the run folder RUN, each finding confirmed by experiment.

    The run is repeated from its configuration (to the bit), then replayed with one remedy after the other. What was
    found is kept in RUN, for the page.
    """
    from chainrule.cli.runs import repeated
    from chainrule.explain.report.kept import keep

    folder = _folder(run)
    trainer, same = repeated(folder)
    found = trainer.diagnose()
    keep(folder, "diagnosis", found.as_dict())
    click.echo(json.dumps(found.as_dict()) if as_json else found.text(width()))
    if not same:
        click.echo(
            f"chainrule: repeating {run} did not give the weights in its model.safetensors: it was made by another "
            f"version, on another kind of CPU, or changed since. The diagnosis is of the repeated run.",
            err=True,
        )


@commands.command()
@click.argument("run", type=click.Path(), required=False)
@click.option("--rows", default=32, show_default=True, type=click.IntRange(1), help="training rows to verify RUN on")
@click.option("--json", "as_json", is_flag=True)
def check(run: str | None, rows: int, as_json: bool) -> None:
    """Verify every derivative rule, and the whole gradient of the network of RUN if one is named.

    What was found of RUN is kept there, for the page.
    """
    from chainrule.explain.report.kept import keep
    from chainrule.explain.verify import joined, rules

    folder = None if run is None else _folder(run)
    found = rules()
    if folder is not None:
        from chainrule.training.rebuilt import rebuild, trained

        trainer, config = trained(folder)
        data = rebuild(config, folder)[1]
        found = joined([found, trainer.model.verify(*data.train, trainer.loss, rows)])
        keep(folder, "checks", found.as_dict())
    click.echo(json.dumps(found.as_dict()) if as_json else fitted(str(found), tables=True))
    sys.exit(0 if found else 1)


@commands.command()
@click.argument("run", type=click.Path())
@click.option("--live", is_flag=True, help="follow a run while it trains")
@click.option("--out", type=click.Path(dir_okay=False), help="write the page to this file instead of serving it")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="of the server (default: any free one)")
@click.option("--open/--no-open", "opening", default=True, show_default=True, help="open the browser")
def view(run: str, live: bool, out: str | None, port: int, opening: bool) -> None:
    """Show the page of RUN in the browser: every step, every weight. Ctrl-C ends it."""
    from chainrule.cli.view import serve, write_page

    folder = _folder(run)
    if out is not None:
        write_page(folder, Path(out))
    else:
        serve(folder, live, port, opening)


@commands.command()
@bench_options
@click.option("--json", "as_json", is_flag=True, help="everything measured as one JSON object on standard output")
def bench(
    as_json: bool, workloads: str | None, threads: str | None, rounds: int | None, peers: str | None, quick: bool
) -> None:
    """Time a training step beside PyTorch, JAX, scikit-learn and NumPy, where they are installed."""
    from rich.console import Console

    from chainrule.cli.bench import options
    from chainrule.cli.bench.report import machine
    from chainrule.cli.bench.session import session

    chosen, cores = options.workloads(workloads, quick), options.threads(threads)
    settings = options.settings(peers, rounds, quick)
    results = list(session(chosen, cores, settings, Console(stderr=as_json)))
    if as_json:
        click.echo(json.dumps({"machine": machine(), "results": results}))
    if any(result["interrupted"] for result in results):
        sys.exit(130)


@commands.command()
@click.option("--json", "as_json", is_flag=True)
def info(as_json: bool) -> None:
    """The CPU, its vectors, threads, the cache and the versions."""
    import platform

    import numpy

    import chainrule as cr
    from chainrule.compiler.runtime import cache, native

    here, (folder, entries, size) = native.machine(), cache.state()
    found = {
        "chainrule": cr.__version__, "python": platform.python_version(), "numpy": numpy.__version__,
        "compiler": here.version, "cpu": here.cpu, "vector_bytes": here.target.vector_bytes,
        "multiply_add": "fused" if here.target.fma else "not in the CPU: put together from other operations, which is slow",
        "threads": cr.get_num_threads(), "cache": folder, "cache_entries": entries, "cache_bytes": size,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(found))
        return
    found["threads"] = (
        f"{found['threads']} (to change it: CHAINRULE_NUM_THREADS or cr.set_num_threads; OMP_NUM_THREADS is not read)"
    )
    click.echo(fitted("\n".join(f"{key:14} {value}" for key, value in found.items()), tables=True))


def _folder(run: str) -> Path:
    """A run folder; it need not be there.

    Raises:
        SettingError: it is a file, such as ``chainrule export`` writes.
    """
    if os.path.isfile(run):
        able = (
            "An ONNX file is run by onnxruntime." if run.lower().endswith(".onnx")
            else f"A bundle can only predict: chainrule predict {shlex.quote(run)} ROWS."
        )  # fmt: skip
        raise SettingError(
            f"{click.get_current_context().info_name}: RUN must be a folder that `chainrule train` wrote, got the file {run}. {able}"
        )
    return Path(run)


def main() -> None:
    """The program: chainrule's errors are one message and exit code 2, without a traceback."""
    try:
        commands()
    except (ChainruleError, DamagedFileError) as error:
        click.echo(f"chainrule: {error}", err=True)
        sys.exit(2)
