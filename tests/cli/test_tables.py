"""Tables on the command line: one command to train, one to predict, and errors that are one message."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import chainrule as cr
from chainrule.cli import commands
from chainrule.errors import ChainruleError, DamagedFileError, DataError, NonFiniteError, SettingError, UnknownNameError
from chainrule.training.rebuilt import trained

pl = pytest.importorskip("polars")
tabular = pytest.importorskip("chainrule.training.tabular")

QUICK = ["--epochs", "4", "--lr", "0.02", "--hidden", "16", "--batch-size", "32"]


def call(*arguments):
    result = CliRunner().invoke(commands, [str(a) for a in arguments])
    if isinstance(result.exception, (ChainruleError, OSError)):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def made(rows=200):
    rng = np.random.default_rng(0)
    x, colour = rng.normal(size=rows), rng.choice(["red", "blue", "green"], rows)
    return pl.DataFrame({
        "id": np.arange(rows), "x": [None if i % 11 == 0 else round(float(v), 3) for i, v in enumerate(x)], "colour": colour,
        "day": np.datetime64("2020-01-01", "D") + rng.integers(0, 900, rows), "same": [1] * rows,
        "bought": np.where(x + (colour == "red") > 0.3, "yes", "no"), "paid": np.round(20 + 3 * x, 2),
    }, strict=False)  # fmt: skip


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "shop.csv"
    made().with_columns(pl.col("paid").cast(pl.String).str.replace(".", ",", literal=True)).write_csv(
        path, separator=";"
    )
    return path


@pytest.fixture
def run(file, tmp_path):
    folder = tmp_path / "run"
    result = call("train", file, "--target", "bought", "--drop", "paid", *QUICK, "--out", folder, "--json")
    return folder, json.loads(result.stdout.splitlines()[-1]), result


def test_train_says_what_it_guessed_and_why(run):
    said = " ".join(run[2].stderr.split())
    for line in (
        "shop.csv: 200 rows, 7 columns", "the fields are separated by semicolons", "numbers have a decimal comma, as in",
        "target bought: classification (2 different labels)", "numeric: x", "categorical: colour", "datetime: day",
        "left out: id (identifier: it numbers the rows)", "left out: same (constant: all values are '1')",
        "training on 160 rows; 40 are held out to measure", "to guess the commonest class", "next: chainrule predict",
    ):  # fmt: skip
        assert line in said
    assert "CAUTION" not in said


def test_the_run_folder_has_everything(run):
    folder, report, _ = run
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "curves.svg", "history.json", "model.safetensors", "pipeline.json", "record",
    ]  # fmt: skip
    assert report["test"]["accuracy"] > 0.6
    assert report["task"] == "classification" and report["inputs"] == ["x", "colour", "day"] and report["leaks"] == {}
    assert report["left_out"]["id"] == "identifier: it numbers the rows"


def test_predict_writes_labels_and_probabilities(run, file, tmp_path):
    folder, _, _ = run
    before = file.read_bytes()
    with pytest.raises(SettingError, match="is the file of the rows, which would be lost. Name another one."):
        call("predict", folder, file, "--out", file)
    assert file.read_bytes() == before
    result = call("predict", folder, file, "--out", tmp_path / "out.csv", "--keep", "id")
    found = pl.read_csv(tmp_path / "out.csv")
    assert found.columns == ["id", "bought", "probability of no", "probability of yes"]
    p = found["probability of yes"].to_numpy()
    np.testing.assert_allclose(p + found["probability of no"].to_numpy(), 1, atol=1e-6)
    assert (found["bought"].to_numpy() == np.where(p > 0.5, "yes", "no")).all()
    assert result.stdout == ""
    assert call("predict", folder, file, "--keep", "id").stdout == (tmp_path / "out.csv").read_text()


def test_rows_to_predict_are_read_as_is_said(run, file, tmp_path):
    folder, _, _ = run
    expected = call("predict", folder, file).stdout
    other = tmp_path / "other.txt"
    text = file.read_text().replace(",", ".").replace(";", "\t")
    other.write_text(f"exported today\n{text}", encoding="utf-16-le")
    said = ("--delimiter", "tab", "--decimal", ".", "--skip-rows", 1, "--encoding", "utf-16-le", "--header")
    assert call("predict", folder, other, *said).stdout == expected


def test_nothing_is_learned_of_the_rows_held_out(run):
    folder, _, _ = run
    data = tabular.load(json.loads((folder / "config.json").read_text()), folder)
    train, test = data.rows
    assert sorted([*train, *test]) == list(range(200)) and len(test) == 40
    again = cr.data.TablePipeline("bought", drop=["paid"]).fit(data.table.rows(train))
    assert json.loads((folder / "pipeline.json").read_text()) == json.loads(json.dumps(again.as_dict()))
    np.testing.assert_array_equal(again.transform(data.table.rows(test)), data.test.X)


def refused(*arguments):
    with pytest.raises(NonFiniteError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_network_that_says_nothing_is_not_used(run, file, tmp_path):
    folder, known = tmp_path / "far", run[0]
    with pytest.raises(NonFiniteError, match="training stopped in epoch 1"):
        call("train", file, "--target", "bought", "--drop", "paid", "--lr", "1e9", "--out", folder)
    weights = cr.load(folder / "model.safetensors")
    name = max(weights, key=lambda name: weights[name].abs().max().item())
    kept = (
        f"{folder}: the model gives nan for a row of zeros: all weights are finite, the largest is "
        f"{weights[name].abs().max().item():.3g}, in {name}. Train again, with a lower learning rate."
    )
    bundle = tmp_path / "made.bundle"
    uses = (["predict", folder, file], ["export", folder, "--out", bundle], ["evaluate", folder])
    for arguments in uses:
        assert refused(*arguments) == kept
    assert not bundle.exists()
    data = tabular.load(json.loads((folder / "config.json").read_text()), folder)
    with pytest.raises(
        NonFiniteError, match=r"^predict_proba: the model gives (nan|-?inf) for row 0, counted from 0: all weights"
    ):
        trained(folder)[0].predict_proba(data.test.X)

    call("export", known, "--out", bundle)
    found = cr.load_bundle(bundle)
    with cr.no_grad():
        dict(found.model.named_parameters())["3.weight"][1, 2] = float("inf")
    found.save(bundle)
    cr.save(found.model.state_dict(), known / "model.safetensors")
    text = "its weight 3.weight[1, 2] is inf. Train again, with a lower learning rate"
    assert (
        refused("predict", bundle, file)
        == f"predict: the model gives inf for row 0, counted from 0: {text}, or look at that row."
    )
    assert refused("evaluate", known) == f"{known}: the model says nothing: {text}."


def test_predictions_are_the_models(run, file):
    """The same by hand, from what lies in the folder."""
    from chainrule import nn
    from chainrule.training import load_file

    folder, _, _ = run
    pipeline = cr.data.TablePipeline.load(folder / "pipeline.json")
    X = pipeline.transform(cr.data.read_table(file))
    model = nn.Sequential(nn.Linear(X.shape[1], 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))
    model.load_state_dict(load_file(folder / "model.safetensors")[0])
    model.eval()
    labels = pipeline.inverse(model(cr.tensor(X)).argmax(1).numpy())
    found = call("predict", folder, file).stdout.splitlines()[1:]
    assert [line.split(",")[0] for line in found] == labels.tolist()


def test_evaluate_is_what_train_reported_and_takes_other_rows(run, file, tmp_path):
    folder, report, _ = run
    measured = json.loads(call("evaluate", folder, "--json").stdout)
    assert measured == {name: report["test"][name] for name in measured}
    assert set(measured) == {"accuracy", "balanced_accuracy", "log_loss", "roc_auc"}
    lines = file.read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(lines[:21]) + "\n")
    result = call("evaluate", folder, tmp_path / "few.csv", "--json")
    labels = [line.split(",")[0] for line in call("predict", folder, tmp_path / "few.csv").stdout.splitlines()[1:]]
    true = [line.split(";")[5] for line in lines[1:21]]
    assert json.loads(result.stdout)["accuracy"] == np.mean([a == b for a, b in zip(labels, true, strict=True)])


def test_other_rows_may_lack_columns_and_have_new_levels(run, tmp_path):
    folder, _, _ = run
    (tmp_path / "new.csv").write_text("colour,x,shop\nviolet,1.5,a\n,much,b\n")
    result = call("predict", folder, tmp_path / "new.csv")
    assert len(result.stdout.splitlines()) == 3
    assert "the column 'day' is not there: all values are taken as missing" in result.stderr
    assert "not used, as training had none of that name: 'shop'" in result.stderr
    assert "x: 1 values are no numbers: taken as missing" in result.stderr
    assert "colour: 1 rows have levels that training had not: 'violet'" in result.stderr
    (tmp_path / "kept.csv").write_text('colour,x,"shop, town"\nred,1.5,a\n')
    result = call("predict", folder, tmp_path / "kept.csv", "--keep", "shop, town", "--keep", "colour,x")
    assert result.stdout.startswith('"shop, town",colour,x,bought,')


def test_labels_are_true_and_false_in_python_and_as_the_file_has_them_in_a_file():
    from chainrule.cli.tables import predicted

    table = cr.data.Table({"x": np.arange(20.0) ** 2, "won": ["True", "False"] * 10})
    pipeline = cr.data.TablePipeline("won").fit(table)
    trainer = cr.Trainer(cr.nn.Linear(1, 2), "cross_entropy", "adam")
    bundle = cr.bundle(trainer, pipeline=pipeline)
    labels, *shares = predicted(bundle, pipeline.targets_, pipeline.transform(table))
    assert bundle.predict(table).tolist() == [label == "True" for label in labels]
    assert [one.name for one in shares] == ["probability of False", "probability of True"]


def trained_on(folder, text, target):
    (folder / "t.csv").write_text(text)
    result = call("train", folder / "t.csv", "--target", target, *QUICK, "--out", folder / "r")
    return folder / "r", " ".join(result.stdout.split())


def predicted_by(run, folder, text):
    (folder / "new.csv").write_text(text)
    result = call("predict", run, folder / "new.csv")
    return result.stdout.splitlines()[1:], " ".join(result.stderr.split())


def test_a_separator_at_the_end_of_each_row_shifts_no_column(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 2)).round(3)
    rows = [[round(float(2 * a - b), 3), a, b] for a, b in x]
    for names, order in (("y,a,b", (0, 1, 2)), ("a,b,y", (1, 2, 0))):
        text = "\n".join([names, *(",".join(str(row[i]) for i in order) + "," for row in rows)])
        _, said = trained_on(tmp_path, text + "\n", "y")
        assert "every row ends in a separator: the empty field after it is left out" in said
        assert "t.csv: 40 rows, 3 columns" in said and "numeric: a, b training on" in said
        kept = cr.data.TablePipeline.load(tmp_path / "r" / "pipeline.json").targets_[0]
        assert abs(kept.center - np.mean([row[0] for row in rows])) < kept.scale / 4
        shutil.rmtree(tmp_path / "r")


def test_rows_to_predict_that_write_numbers_otherwise_are_spoken_of(tmp_path):
    amounts = np.random.default_rng(0).integers(10_000, 99_999, 40)
    text = "amount,p\n" + "".join(f'"{v:,}",{v / 7:.2f}\n' for v in amounts)
    run, _ = trained_on(tmp_path, text, "p")
    assert predicted_by(run, tmp_path, 'amount\n"45,123"\n')[1] == ""
    said = predicted_by(run, tmp_path, "amount;g\n45,123;A\n")[1]
    assert said == (
        "the fields are separated by semicolons numbers have a decimal comma, as in 45,123 "
        "not used, as training had none of that name: 'g' "
        "numbers are read with a decimal comma, those of training with a decimal point and commas between thousands: 'amount'"
    )
    with pytest.raises(DataError, match="the header has one name, and the rows are like '45,123'"):
        predicted_by(run, tmp_path, "amount\n45,123\n")


def test_one_column_with_decimal_commas_is_read_as_in_training(tmp_path):
    sizes = np.random.default_rng(0).uniform(10, 90, 40)
    text = "size;p\n" + "".join(f"{v:.3f};{2 * v:.3f}\n".replace(".", ",") for v in sizes)
    run, _ = trained_on(tmp_path, text, "p")
    found, said = predicted_by(run, tmp_path, "size\n12,345\n40,500\n")
    assert "numbers had a decimal comma in training" in said
    assert found == predicted_by(run, tmp_path, "size\n12.345\n40.500\n")[0]


def test_a_file_in_which_nothing_can_be_measured(run, tmp_path):
    for label, message in (
        ("perhaps", "has only 'perhaps', which training had not: it had 'no', 'yes'. Give rows of those classes, or train on rows that have these."),
        ("", "is missing in every row of this file, so nothing can be measured. Give rows that have it; chainrule predict needs none."),
    ):  # fmt: skip
        (tmp_path / "new.csv").write_text(f"x;bought\n1,5;{label}\n2,5;{label}\n")
        with pytest.raises(DataError) as error:
            call("evaluate", run[0], tmp_path / "new.csv")
        of = " of this file" if label else ""
        assert str(error.value) == f"{tmp_path / 'new.csv'}: the target bought{of} {message}"


def test_regression_predicts_in_the_targets_own_unit(file, tmp_path):
    result = call("train", file, "--target", "paid", "--drop", "id,x", "--out", tmp_path / "r", *QUICK, "--json")
    assert "target paid: regression" in result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert set(report["test"]) == {"r2", "rmse", "mae", "text"}
    values = [float(v) for v in call("predict", tmp_path / "r", file).stdout.splitlines()[1:]]
    assert 15 < np.mean(values) < 25


def test_a_leak_is_named(tmp_path):
    made().with_columns(pl.when(pl.col("bought") == "yes").then(pl.col("paid")).alias("on invoice")).write_csv(
        tmp_path / "t.csv"
    )
    said = call("train", tmp_path / "t.csv", "--target", "bought", "--out", tmp_path / "r", *QUICK).stdout
    said = " ".join(said.split())
    assert "CAUTION: on invoice gives the target away: alone it scores" in said
    assert "leave it out: --drop 'on invoice'" in said


def test_a_run_is_repeated_to_the_bit_and_resumed(run, tmp_path):
    folder, _, _ = run
    call("train", "--config", folder / "config.json", "--out", tmp_path / "again")
    for name in ("model.safetensors", "config.json", "pipeline.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    (tmp_path / "again" / "model.safetensors").unlink()
    call("train", "--resume", tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_run_on_a_table_is_explained_checked_diagnosed_and_shown(run, tmp_path):
    folder, _, _ = run
    assert "0.weight[0, 0]" in call("explain", folder, "0.weight[0, 0]", "--step", "3").stdout
    assert len(cr.load_run(folder)) == 20
    call("diagnose", folder, "--json")
    call("view", folder, "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_a_run_on_values_is_shown_checked_and_diagnosed(file, tmp_path):
    folder = tmp_path / "r"
    call("train", file, "--target", "paid", "--out", folder, *QUICK)
    call("view", folder, "--out", tmp_path / "page.html")
    call("diagnose", folder, "--json")
    assert call("check", folder, "--rows", "8", "--json").exit_code == 0


def test_a_damaged_configuration_is_refused(run, file):
    folder, _, _ = run
    path = folder / "config.json"
    whole = json.loads(path.read_text())

    def places(value, at=()):
        yield at
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            yield from places(inner, (*at, key))

    whole["table"]["reading"] = {"delimiter": ";", "encoding": "utf-8", "decimal": ",", "header": True, "skip_rows": 0}
    whole["table"]["kinds"] = {"x": "numeric"}
    for at in [at for at in places(whole) if at]:
        for wrong in (None, -1, 7, "x", [], {}, True, [3], 1e999):
            copy = json.loads(json.dumps(whole))
            inner = copy
            for key in at[:-1]:
                inner = inner[key]
            inner[at[-1]] = wrong
            path.write_text(json.dumps(copy))
            for command in (["evaluate", folder], ["predict", folder, file]):
                result = CliRunner().invoke(commands, [str(a) for a in command])
                known = (ChainruleError, SystemExit, type(None))
                assert isinstance(result.exception, known), (at, wrong, command, repr(result.exception))


def test_changed_data_are_noticed(run, file):
    folder, _, _ = run
    with file.open("a") as out:
        out.write("1;1;red;2020-01-01;1;yes;1\n")
    for command in (["evaluate", folder], ["train", "--resume", folder]):
        with pytest.raises(DataError, match="has changed since this run was trained on it"):
            call(*command)
    call("predict", folder, file)
    file.unlink()
    with pytest.raises(DamagedFileError, match="there is no such file"):
        call("evaluate", folder)


def test_groups_and_times(file, tmp_path):
    call("train", file, "--target", "bought", "--group", "colour", "--out", tmp_path / "g", *QUICK)
    call("train", file, "--target", "bought", "--time", "day", "--out", tmp_path / "t", *QUICK)
    with pytest.raises(DataError, match="--time colour: its values are neither dates nor numbers"):
        call("train", file, "--target", "bought", "--time", "colour", "--out", tmp_path / "x", *QUICK)


@pytest.mark.parametrize(
    ("text", "options", "kind", "message"),
    [
        ("a,b\n1,2\n", [], SettingError, "name the column to predict: --target COLUMN. There are: a, b."),
        ("a,b\n1,2\n", ["--target", "c"], UnknownNameError, "unknown column of"),
        ("a,b\n1,x\n2,x\n", ["--target", "b"], DataError, "the target 'b' has one class only, 'x'"),
        ("a,b\n1,\n2,NA\n", ["--target", "b"], DataError, "the target b is missing in every row"),
        ("a,b\n1,2\n3\n", ["--target", "b"], DataError, "line 3 has 1 field, the header names 2"),
        ("a,b\n" + "1,x\n1,y\n" * 9, ["--target", "b"], DataError, "no column is left to learn from (a: constant"),
        ("a,b\n1,x\n", ["--target", "b", "--delimiter", ";"], UnknownNameError, "Known: a,b."),
        ("a,b\n1,x\n2,y\n", ["--target", "b", "--numeric", "a", "--categorical", "a"], SettingError, "'a' was said to be"),
        ("a,b\n1,x\n2,y\n", ["--target", "b", "--encoding", "no"], DataError, "there is no encoding 'no'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_leaves_nothing(tmp_path, monkeypatch, text, options, kind, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(kind) as error:
        call("train", "t.csv", *options)
    assert message in str(error.value)
    assert not list(tmp_path.glob("runs/*"))


def test_options_of_tables_are_for_tables(tmp_path):
    with pytest.raises(SettingError, match="--target is about a table, and 'digits' is no file"):
        call("train", "digits", "--target", "a")
    with pytest.raises(DamagedFileError, match="there is no such file"):
        call("train", tmp_path / "no.csv", "--target", "a")


def test_parquet_with_types(tmp_path):
    made().write_parquet(tmp_path / "t.parquet")
    call("train", tmp_path / "t.parquet", "--target", "bought", "--drop", "paid", "--out", tmp_path / "r", *QUICK)
    made().write_csv(tmp_path / "t.csv")
    result = call("predict", tmp_path / "r", tmp_path / "t.csv")
    assert result.stderr.strip().startswith("not used") or result.stderr == ""
    assert len(result.stdout.splitlines()) == 201


def test_several_numbers_are_predicted_at_once(file, tmp_path):
    call("train", file, "--target", "paid", "--target", "x", "--out", tmp_path / "r", *QUICK)
    assert call("predict", tmp_path / "r", file).stdout.splitlines()[0] == "paid,x"


def test_a_program_that_is_called_ends_with_2_and_one_line(tmp_path):
    (tmp_path / "t.csv").write_text('a,b\n1,"x\n')
    command = [sys.executable, "-m", "chainrule", "train", str(tmp_path / "t.csv"), "--target", "b"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("chainrule: ") and "Traceback" not in ended.stderr
    assert "the record that begins in line 2 cannot be read" in ended.stderr


def test_without_the_libraries_it_says_what_to_install(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    hide = "import sys, importlib.util as u; find = u.find_spec; u.find_spec = lambda n, *a: None if n == 'polars' else find(n, *a)"
    code = f"{hide}; sys.argv[1:] = ['train', 't.csv', '--target', 'b']; from chainrule.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert (
        ended.stderr
        == "chainrule: tables need polars and pyarrow, which are not installed. Run: pip install 'chainrule[data]'\n"
    )


def test_importing_chainrule_does_not_bring_the_libraries_of_tables():
    code = "import sys, chainrule; sys.exit('polars' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_decimal_mark_that_is_said_holds_whatever_training_had(tmp_path):
    values = np.random.default_rng(0).uniform(1, 9, 40)
    text = "a;b;p\n" + "".join(f"{v:.3f};{v / 9:.3f};{2 * v:.3f}\n".replace(".", ",") for v in values)
    run, _ = trained_on(tmp_path, text, "p")
    (tmp_path / "new.csv").write_text("a;b\n3,276;0,5\n7,500;0,25\n")
    said = " ".join(call("predict", run, tmp_path / "new.csv", "--decimal", ".").stderr.split())
    assert said == (
        "the fields are separated by semicolons b: 2 values are no numbers: taken as missing "
        "numbers are read with a decimal point and commas between thousands, those of training with a decimal comma: 'a' "
        "numbers are read with a decimal point, those of training with a decimal comma: 'b'"
    )
    bundle = cr.bundle(run)
    table = cr.data.read_table(tmp_path / "new.csv", decimal=".")
    far = bundle.rows.pipeline.encoded(cr.data.Table({"a": [3276.0, 7500.0], "b": [np.nan, np.nan]}))
    np.testing.assert_array_equal(bundle.rows.pipeline.encoded(table), far)


def test_lines_that_are_skipped_as_in_training_are_spoken_of(tmp_path):
    rows = "".join(f"{i * 7 % 40}.5,{i * 3 % 40}.5\n" for i in range(40))
    (tmp_path / "t.csv").write_text("made\nby\nhand\nx,y\n" + rows)
    run = tmp_path / "r"
    call("train", tmp_path / "t.csv", "--target", "y", "--skip-rows", 3, *QUICK, "--out", run)
    new = tmp_path / "new.csv"
    skipped = "Its first 3 lines were skipped, as in training."
    for text, wrong in (
        ("x\n1\n2\n3\n4\n", "has none of the columns that the network was trained on: 'x'. It has 'column_1'. Check header and delimiter."),
        ("x\n1\n", "skip_rows=3 leaves nothing: it has fewer lines. Skip fewer."),
    ):  # fmt: skip
        new.write_text(text)
        with pytest.raises(DataError) as error:
            call("predict", run, new)
        assert str(error.value).startswith(str(new)) and wrong in str(error.value)
        assert str(error.value).endswith(f" {skipped} If its header is the first line, say so: --skip-rows 0.")
        assert call("predict", run, new, "--skip-rows", 0).stdout.startswith("y\n")
    new.write_text("x,y\n1,2\n2,3\n3,4\n4,5\n")
    with pytest.raises(
        DataError, match=f"the target, .* {skipped} If its header is the first line, say so: --skip-rows 0.$"
    ):
        call("evaluate", run, new)
    assert call("evaluate", run, new, "--skip-rows", 0).stdout.startswith("r2 ")
    new.write_text("# a comment\nx,z\n1,2\n")
    with pytest.raises(DataError) as error:
        call("predict", run, new, "--skip-rows", 0)
    assert str(error.value) == (
        f"{new} has none of the columns that the network was trained on: 'x'. It has 'row_names', '# a comment'. Check header and "
        f"delimiter. If '# a comment' is a comment, skip the lines before the header (read_table: skip_rows; --skip-rows)."
    )


# -- a new user's first hour -----------------------------------------------------------------------------------


def test_a_file_without_a_line_of_names_says_so(tmp_path):
    (tmp_path / "bare.csv").write_text("1,red,2.5,yes\n2,blue,3.5,no\n" * 20)
    with pytest.raises(UnknownNameError) as caught:
        call("train", tmp_path / "bare.csv", "--target", "bought")
    assert str(caught.value) == (
        f"unknown column of {tmp_path / 'bare.csv'} 'bought'. No line of names was found: if the first line is one, say header=True "
        f"(--header). Known: column_1, column_2, column_3, column_4."
    )


@pytest.mark.parametrize("name", ["task", "group", "time", "date_format"])
def test_a_setting_that_is_gone_is_named(name, run):
    path = run[0] / "config.json"
    config = json.loads(path.read_text())
    del config["table"][name]
    path.write_text(json.dumps(config))
    for command in ("evaluate", run[0]), ("train", "--config", path, "--out", run[0].parent / "again"):
        with pytest.raises(DamagedFileError) as told:
            call(*command)
        assert str(told.value) == f"{path}: table: {name} is missing. Correct it, or train again."
    assert not (run[0].parent / "again").exists()


def test_texts_that_are_mostly_numbers_are_named(tmp_path):
    rows = [f"{i / 7:.2f},{i % 2},{'low' if i % 5 == 0 else i % 9}" for i in range(100)]
    (tmp_path / "a.csv").write_text("\n".join(["x,bought,level", *rows]))
    said = call("train", tmp_path / "a.csv", "--target", "bought", *QUICK, "--out", tmp_path / "run").output
    assert re.search(
        r"level: 10 different texts \(6\d of 80 values are numbers, others such as 'low'\)", " ".join(said.split())
    )


def test_the_folder_of_runs_is_no_run(run, file):
    folder = run[0]
    text = f"{folder.parent}: this is no run folder, and holds some. Name one: {folder}."
    for command in ("predict", folder.parent, file), ("evaluate", folder.parent):
        with pytest.raises(DamagedFileError) as caught:
            call(*command)
        assert str(caught.value) == text


def test_to_measure_takes_the_target(run, tmp_path):
    made().drop("bought").write_csv(tmp_path / "new.csv")
    with pytest.raises(DataError) as caught:
        call("evaluate", run[0], tmp_path / "new.csv")
    assert str(caught.value) == (
        f"{tmp_path / 'new.csv'}: there is no column 'bought', the target, without which nothing can be measured. It has 'id', 'x', "
        f"'colour', 'day', 'same', 'paid'. chainrule predict needs no target."
    )


def test_labels_that_differ_in_case_alone_are_named(tmp_path):
    frame = made().with_columns(
        pl.when(pl.col("id") % 3 == 0)
        .then(pl.col("bought").str.to_uppercase())
        .otherwise(pl.col("bought"))
        .alias("bought")
    )
    frame.write_csv(tmp_path / "shop.csv")
    said = " ".join(
        call("train", tmp_path / "shop.csv", "--target", "bought", *QUICK, "--out", tmp_path / "r").output.split()
    )
    assert (
        "CAUTION: 'NO' and 'no', 'YES' and 'yes' are different labels, and differ in nothing but case or spaces: if they are one, "
        "write them alike" in said
    )
