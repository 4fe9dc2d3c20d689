"""What is guessed of columns, learned on training rows and applied to others; compared with scikit-learn where it has it."""

import datetime as dt
import decimal
import json
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import (
    ChainruleError,
    DamagedFileError,
    DataError,
    NotEnoughMemoryError,
    SettingError,
    UnknownNameError,
)
from chainrule.files.document import Fields

pl = pytest.importorskip("polars")
from chainrule.data.scaling import RobustScaling  # noqa: E402
from chainrule.data.table import Table, TablePipeline, guess, leaks, split_rows  # noqa: E402
from chainrule.data.table.values import Reading, moments, number_reading, numbers  # noqa: E402

N = 60
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def drawn_anew():
    """A test has the same numbers whatever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def texts(*values):
    return pl.Series("c", list(values), dtype=pl.String)


def table(**columns):
    return cr.data.Table({"y": np.arange(N) % 2, "z": RNG.normal(size=N), **columns})


# -- kinds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (["1", "2.5", "?", "-3e5", " 4 "], "numeric", "numbers"),
        (["1"] * 20 + ["<0.1"], "numeric", "1 of 21 values are no numbers ('<0.1'): taken as missing"),
        (["$1,234", "$5", "$12"], "numeric", "its thousands are separated"),
        (["12 %", "5 %", "7%"], "numeric", "numbers"),
        (["01234", "98765", "00001"], "categorical", "3 different texts (numbers with leading zeros are codes)"),
        (["1234567890123456789", "1234567890123456788", "1"], "categorical", "3 different texts (whole numbers of 16 digits or more are identifiers)"),
        (["yes", "no", "NA"], "boolean", "no or yes"),
        (["0", "1", "1"], "boolean", "0 or 1"),
        (["red", "blue", "red"], "categorical", "2 different texts"),
        (["1.5", "2", "-3", "low", "high"], "categorical", "5 different texts (3 of 5 values are numbers, others such as 'low')"),
        (["1,234", "2", "low"], "categorical", "3 different texts"),  # of which one is a number, or two by thousands
        (["2020-01-31", "2021-12-01"], "datetime", "dates or times"),
        (["31.01.2020", "01.12.2021"], "datetime", "dates or times"),
        (["1/2/2020", "3/4/2020"], "datetime", "day and month cannot be told apart: read as %m/%d/%Y"),
        (["2020-01-31T10:00:00Z", "2020-01-31T11:30:00Z"], "datetime", "dates or times"),
        (["10:30", "23:59"], "datetime", "dates or times"),
        (["a", "a", "a"], "constant", "all values are 'a'"),
        (["NA", "", "?"], "constant", "it is empty"),
        (["a", None, "a"], "categorical", "1 different texts"),
        ([f"u{i}" for i in range(40)], "identifier", "40 different texts in 40 rows: they name the rows"),
        ([f"the {i} words of it" for i in range(40)], "text", "40 different texts in 40 rows, most of several words"),
        ([str(i) for i in range(1, 41)], "identifier", "it numbers the rows"),
    ],
)  # fmt: skip
def test_kinds_are_guessed_with_a_reason(values, kind, reason):
    found = guess(texts(*values))
    assert (found.kind, found.reason) == (kind, reason)


def test_numbers_that_only_happen_to_differ_are_no_identifiers():
    assert guess(pl.Series("income", RNG.permutation(40) * 977)).kind == "numeric"
    assert guess(pl.Series("year", np.arange(1950, 1990))).kind == "numeric"
    assert guess(pl.Series("n", np.delete(np.arange(50), [3, 4, 9, 20, 33]))).kind == "identifier"
    assert guess(pl.Series("customer_id", RNG.permutation(40))).kind == "identifier"


def test_kinds_can_be_said():
    made = table(code=[str(i % 5) for i in range(N)])
    assert "code" in TablePipeline("y").fit(made).get_feature_names_out()
    told = TablePipeline("y", kinds={"code": "categorical"}).fit(made)
    assert told.get_feature_names_out()[1:] == [f"code={i}" for i in range(5)]
    with pytest.raises(UnknownNameError, match="unknown kind of column 'ordinal'"):
        TablePipeline("y", kinds={"code": "ordinal"}).fit(made)
    with pytest.raises(UnknownNameError, match="Did you mean 'code'"):
        TablePipeline("y", kinds={"cod": "numeric"}).fit(made)
    with pytest.raises(DataError, match="none of its values is a number"):
        TablePipeline("y", kinds={"t": "numeric"}).fit(table(t=["a", "b"] * (N // 2)))


def test_numbers_in_texts_are_exact():
    values = RNG.normal(size=200) * 10.0 ** RNG.integers(-20, 20, 200)
    assert (numbers(texts(*map(repr, values.tolist())), Reading()) == values).all()
    commas = texts(*(f"{v:.3f}".replace(".", ",") for v in values[:50]))
    assert np.array_equal(numbers(commas, Reading(",")), [float(f"{v:.3f}") for v in values[:50]])
    grouped = texts("1.234.567,5", "-12,25")
    assert numbers(grouped, number_reading(grouped, Reading(","))[0]).tolist() == [1234567.5, -12.25]
    printed = texts("\u22122,302.5", "\u2212$3", "4")  # with the minus of print
    assert numbers(printed, number_reading(printed, Reading())[0]).tolist() == [-2302.5, -3, 4]


def test_what_is_no_number_is_missing_and_never_a_guess():
    found = numbers(texts("1", "nan", "inf", "1e999", "0x10", "1_000", "", "\uff11"), Reading())
    assert found[0] == 1 and np.isnan(found[1:]).all()


def test_moments_of_another_time_zone_are_the_same_moments():
    found = moments(texts("2020-01-01T12:00:00+02:00"), Reading(format="%Y-%m-%dT%H:%M:%S%.f%z"))
    assert found[0] == np.datetime64("2020-01-01T10:00")


# -- encoding ----------------------------------------------------------------------------------------------


def test_scaling_and_imputing_are_scikit_learns():
    preprocessing, impute = pytest.importorskip("sklearn.preprocessing"), pytest.importorskip("sklearn.impute")
    values = np.where(RNG.random(N) < 0.2, np.nan, RNG.lognormal(size=N))
    X = TablePipeline("y", scaling="standard", drop=["z"]).fit_transform(table(v=values))
    known = values[~np.isnan(values), None]
    filled = impute.SimpleImputer(strategy="median", add_indicator=True).fit_transform(values[:, None])
    expected = preprocessing.StandardScaler().fit(known).transform(filled[:, :1])
    np.testing.assert_allclose(X, np.column_stack([expected, filled[:, 1]]), rtol=1e-6)


def test_robust_scaling_is_centred_and_bounded():
    values = np.append(RNG.normal(size=N - 1), 1e30)
    X = TablePipeline("y", drop=["z"]).fit_transform(table(v=values))
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    z = (values - median) / (q3 - q1)
    np.testing.assert_allclose(X[:-1, 0], (z / np.sqrt(1 + (z / 3) ** 2))[:-1], rtol=1e-5)
    assert X[-1, 0] == 3.0


def test_levels_are_scikit_learns_one_hot():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    levels = RNG.choice(list("aaaabbbcdefgh"), size=N)
    pipeline = TablePipeline("y", drop=["z"], max_categories=4).fit(table(v=levels))
    theirs = preprocessing.OneHotEncoder(
        max_categories=4, min_frequency=2, sparse_output=False, handle_unknown="infrequent_if_exist"
    ).fit(levels[:, None])
    others = np.array(["a", "zebra", "c", "b"] * (N // 4))
    # scikit-learn breaks ties among equally frequent levels by their order, as we do
    np.testing.assert_array_equal(pipeline.transform(table(v=levels)), theirs.transform(levels[:, None]))
    with pytest.warns(UserWarning, match="v: 15 rows have levels that training had not: 'zebra'"):
        np.testing.assert_array_equal(pipeline.transform(table(v=others)), theirs.transform(others[:, None]))
    again = TablePipeline.read(Fields(json.loads(json.dumps(pipeline.as_dict())), "a file"))
    rare = sorted(set(levels.tolist()) - {"a", "b", "c"})
    assert again.differences({"v": rare * 5}) == []  # those that share an input are known
    assert again.differences({"v": ["zebra", *rare]}) == ["v: 1 rows have levels that training had not: 'zebra'"]


def test_unseen_and_missing_levels_and_columns():
    made = table(v=["a", "b"] * (N // 2), w=["c", None] * (N // 2), x=np.arange(N) ** 2.0)
    pipeline = TablePipeline("y", drop=["z"]).fit(made)
    assert pipeline.get_feature_names_out() == ["v=a", "v=b", "w=c", "w (missing)", "x"]
    new = {"v": ["q", None], "extra": [1, 2], "x": ["many", "3,5"]}
    lost = "x: 2 values are no numbers: taken as missing. If their decimal mark is ',', say so: decimal=','."
    with (
        pytest.warns(UserWarning, match=f"^TablePipeline.transform: {re.escape(lost)}$"),
        pytest.warns(UserWarning, match="the column 'w' is not there, so all values are taken as missing"),
        pytest.warns(UserWarning, match="^TablePipeline.transform: v: 1 rows have levels that training had not: 'q'.$"),
    ):
        X = pipeline.transform(new)
    median = pipeline.transform({"v": ["a"], "w": ["c"], "x": [np.median(np.arange(N) ** 2.0)]})[0, 4]
    np.testing.assert_array_equal(X, [[0, 0, 0, 1, median], [0, 0, 0, 1, median]])
    assert pipeline.differences(new) == [
        "the column 'w' is not there: all values are taken as missing",
        "not used, as training had none of that name: 'extra'",
        "v: 1 rows have levels that training had not: 'q'",
        "x: 2 values are no numbers: taken as missing",
    ]
    days = {"v": ["a"], "w": ["c"], "x": [dt.date(2030, 1, 1)]}  # kept as a number of days, and none
    with pytest.warns(UserWarning, match="x: 1 values are no numbers"):
        assert pipeline.transform(days)[0, 4] == median
    with pytest.raises(DataError, match="has none of the columns that the network was trained on"):
        pipeline.transform({"other": [1]})


MOMENTS = {
    "day first": "%d.%m.%Y %H:%M", "american": "%m/%d/%Y %H:%M", "iso": "%Y-%m-%d %H:%M:%S", "iso T": "%Y-%m-%dT%H:%M",
    "zulu": "%Y-%m-%dT%H:%M:%SZ", "noon": "%m/%d/%Y %I:%M %p", "noon, seconds": "%Y-%m-%d %I:%M:%S %p", "typed": None,
}  # fmt: skip


@pytest.mark.parametrize("learned", MOMENTS)
def test_dates_in_iso_form_are_read_whatever_form_training_had(learned):
    """A frame has moments, a file of it ISO 8601, and a program that predicts sends that, too."""

    def written(form):
        return [day.strftime(form) for day in days] if form else days

    days = [dt.datetime(2021, 1, 30, 7) + dt.timedelta(hours=37 * i) for i in range(N)]
    pipeline = TablePipeline("y", drop=["z"]).fit(table(v=written(MOMENTS[learned])))
    assert pipeline.columns_[0].kind == "datetime"
    expected = pipeline.transform({"v": written(None)})
    for form in ("iso", "iso T", "zulu", learned):
        np.testing.assert_array_equal(pipeline.transform({"v": written(MOMENTS[form])}), expected)
    assert pipeline.differences({"v": ["2021-12-31", None, "2021-02-30"]}) == [
        "v: 1 values are no dates in the form they had in training: taken as missing"
    ]


def test_columns_that_only_pandas_has():
    pandas = pytest.importorskip("pandas")
    sizes = np.arange(N) / N
    made = pandas.DataFrame({"cut": pandas.cut(sizes, 4), "month": pandas.period_range("2020-01", periods=N, freq="M")})
    made.loc[0, "cut"] = None
    made["y"] = sizes
    pipeline = TablePipeline("y").fit(made)
    assert [column.kind for column in pipeline.columns_] == ["categorical", "datetime"]
    assert pipeline.get_feature_names_out()[:2] == ["cut=(-0.000983, 0.246]", "cut=(0.246, 0.492]"]
    assert pipeline.transform(made.astype({"cut": str}))[1:].tolist() == pipeline.transform(made)[1:].tolist()
    with pytest.raises(DataError, match="the table must be a table .* got DataFrame: "):
        Table(made.assign(z=1j))
    with pytest.raises(
        SettingError, match="^TablePipeline: target must name a column, got 2. Names of columns are texts"
    ):
        TablePipeline(2)


SAID = {
    "text": ["True", "False"], "small": ["true", "false"], "boolean": [True, False], "number": [1, 0], "real": [1.0, 0.0],
    "word": ["yes", "no"], "Word": ["Yes", "No"], "letter": ["T", "F"], "switch": ["ON", "OFF"], "0 and 1": ["1", "0"],
}  # fmt: skip


@pytest.mark.parametrize("learned", SAID)
def test_true_and_false_are_the_same_however_they_are_written(learned):
    """A frame has True, the CSV file of it "True", a database 1."""
    pipeline = TablePipeline("y", drop=["z"]).fit(table(v=SAID[learned] * (N // 2), w=np.arange(N) ** 2.0))
    target = TablePipeline("v").fit(table(v=SAID[learned] * (N // 2)))
    assert (target.classes_.dtype == bool) == (learned in ("text", "small", "boolean"))
    assert pipeline.columns_[0].kind == "boolean"
    for words in SAID.values():
        new = {"v": [words[0], words[1], None], "w": [1.0, 2.0, 3.0]}
        column = pipeline.transform(new)[:, 0]
        assert column.tolist() == pipeline.transform({**new, "v": [*SAID[learned], None]})[:, 0].tolist()
        assert column[0] != column[1] and pipeline.differences(new) == []
        assert target.target({"v": words}).tolist() == target.target({"v": SAID[learned]}).tolist()


def test_words_for_true_are_levels_like_others_where_there_are_more_of_them():
    pipeline = TablePipeline("y", drop=["z"]).fit(table(v=["yes", "no", "perhaps"] * (N // 3)))
    with pytest.warns(UserWarning, match="v: 2 rows have levels that training had not: 'true'"):
        assert not pipeline.transform({"v": ["true", "true", "yes"]})[:2].any()


def test_dates_become_a_trend_and_places_on_circles():
    days = np.datetime64("2019-01-01") + np.arange(800)
    made = cr.data.Table({"d": days.astype("datetime64[us]"), "y": np.arange(800) % 2})
    pipeline = TablePipeline("y").fit(made)
    assert pipeline.get_feature_names_out() == [
        "d", "d (sine of the year)", "d (cosine of the year)", "d (sine of the week)", "d (cosine of the week)",
    ]  # fmt: skip
    X = pipeline.transform(made)
    np.testing.assert_allclose(X[:-7, 3:], X[7:, 3:], atol=1e-4)
    assert (np.diff(X[:, 0]) > 0).all()
    assert np.isfinite(pipeline.transform({"d": [None]})).all()


def test_what_was_learned_is_of_the_training_rows_alone():
    made = table(v=np.arange(N) ** 2.0, w=["a", "b"] * (N // 2))
    pipeline = TablePipeline("y").fit(made.rows(np.arange(30)))
    again = TablePipeline("y").fit(cr.data.Table(made.frame[:30]))
    assert pipeline.as_dict() == again.as_dict()
    whole, part = pipeline.transform(made), pipeline.transform(made.rows(np.arange(10, 20)))
    np.testing.assert_array_equal(whole[10:20], part)


def test_too_many_inputs_for_the_memory_are_refused_before(monkeypatch):
    made = table(v=["a", "b"] * (N // 2))
    pipeline = TablePipeline("y").fit(made)
    monkeypatch.setattr("chainrule.data.table.pipeline.available_bytes", lambda: 100)
    monkeypatch.setattr("chainrule.data.table.pipeline.SURE", 10)
    with pytest.raises(
        NotEnoughMemoryError, match=r"60 rows with 3 inputs need 720 bytes, and 100 are available\. Take fewer"
    ):
        pipeline.transform(made)


def test_constant_duplicate_and_identifier_columns_are_left_out():
    made = table(c=[7] * N, d=np.arange(N) ** 2.0, e=np.arange(N) ** 2.0, id=np.arange(N), n=[None] * N)
    found = {c.name: (c.kind, c.reason) for c in TablePipeline("y").fit(made).columns_}
    assert found["c"] == ("constant", "all values are '7'")
    assert found["e"] == ("duplicate", "it is 'd' again")
    assert found["id"] == ("identifier", "it numbers the rows")
    assert found["n"] == ("constant", "it is empty")
    with pytest.raises(DataError, match="no column is left to learn from"):
        TablePipeline("y").fit(cr.data.Table({"y": [0, 1] * 10, "c": [1] * 20}))


def test_columns_of_every_type_have_a_kind(tmp_path):
    seconds = [dt.timedelta(seconds=i * i) for i in range(N)]
    made = table(
        dur=seconds, dec=[decimal.Decimal(i * i) / 3 for i in range(N)], nested=[[1, 2]] * N, raw=[b"a", b"b"] * (N // 2),
        level=pl.Series(["a", "b"] * (N // 2), dtype=pl.Categorical), clock=[dt.time(i % 24, 5) for i in range(N)],
        huge=pl.Series([2**64 - 1 - i for i in range(N)], dtype=pl.UInt64), small=pl.Series([i * i % 100 for i in range(N)], dtype=pl.Int8),
        zoned=pl.Series([dt.datetime(2020, 1, 1) + dt.timedelta(hours=7 * i) for i in range(N)]).dt.replace_time_zone("Europe/Berlin"),
    )  # fmt: skip
    pipeline = TablePipeline("y").fit(made)
    assert {c.name: c.kind for c in pipeline.columns_ if c.name != "z"} == {
        "dur": "numeric", "dec": "numeric", "nested": "text", "raw": "text", "level": "categorical", "clock": "datetime",
        "huge": "identifier", "small": "numeric", "zoned": "datetime",
    }  # fmt: skip
    assert np.isfinite(pipeline.transform(made)).all()
    assert numbers(made["dur"], Reading())[3] == 9.0
    with pytest.raises(DataError, match="cannot be categorical: its values are list"):
        TablePipeline("y", kinds={"nested": "categorical"}).fit(made)
    with pytest.raises(DataError, match="the target 'nested' has values that are list"):
        TablePipeline("nested").fit(made)


# -- targets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [["no", "yes"], [3, 7], [True, False], [0.5, 1.5], ["10", "9"], ["01", "1"]],
)
def test_labels_of_any_type_come_back_as_they_were(labels):
    y = [labels[i % 2] for i in range(N)]
    made = cr.data.Table({"y": y, "z": RNG.normal(size=N)})
    pipeline = TablePipeline("y", task="classification").fit(made)
    found = pipeline.inverse(pipeline.target(made)).tolist()
    assert found == ([int(v) for v in y] if labels == ["10", "9"] else y)


def test_values_come_back_as_they_were():
    y = RNG.normal(size=N) * 1e6 + 5e7
    pipeline = TablePipeline("y").fit(cr.data.Table({"y": y, "z": RNG.normal(size=N)}))
    scaled = pipeline.target({"y": y})
    assert scaled.shape == (N, 1)
    assert scaled.mean() == pytest.approx(0, abs=1e-6) and scaled.std() == pytest.approx(1)
    np.testing.assert_allclose(pipeline.inverse(scaled), y, rtol=1e-6)


def test_several_targets_are_numbers():
    made = cr.data.Table({"a": RNG.normal(size=N), "b": RNG.normal(size=N) + 9, "z": RNG.normal(size=N)})
    pipeline = TablePipeline(["a", "b"]).fit(made)
    assert pipeline.n_outputs_ == 2
    np.testing.assert_allclose(pipeline.inverse(pipeline.target(made))[:, 1], made["b"].to_numpy(), rtol=1e-5)
    with pytest.raises(DataError, match="several targets must all be numbers"):
        TablePipeline(["a", "c"]).fit({"a": np.arange(30.0), "c": ["x", "y"] * 15, "z": np.arange(30.0) ** 2})


@pytest.mark.parametrize(
    ("values", "task", "expected"),
    [
        (["a", "b"] * 30, None, "classification"), ([0, 1] * 30, None, "classification"),
        ([1, 2, 3] * 20, None, "classification"), (list(range(60)), None, "regression"),
        (np.linspace(0, 1, 60), None, "regression"), ([1, 2, 3] * 20, "regression", "regression"),
        ([1.5, 2.5, 3.5] * 20, None, "regression"),
    ],
)  # fmt: skip
def test_the_task_is_guessed_or_said(values, task, expected):
    made = cr.data.Table({"y": values, "z": RNG.normal(size=60)})
    assert TablePipeline("y", task).fit(made).task_ == expected


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (["a"] * 60, None, "the target 'y' has one class only, 'a'"),
        ([1.5] * 60, "regression", "the target 'y' is 1.5 in all rows: there is nothing to learn"),
        ([f"t{i}" for i in range(60)], None, "60 different values in 60 rows, too many to be classes"),
        (["a", "b"] * 30, "regression", "the target 'y' was to be a number, but its values are none, such as 'a'"),
        ([None] * 60, None, "the target 'y' is missing in 60 of 60 rows, the first is row 0"),
        ([1.5, None, 2.25] * 20, None, "the target 'y' is missing in 20 of 60 rows, the first is row 1"),
    ],
)
def test_targets_that_cannot_be_learned_say_why(values, task, message):
    with pytest.raises(DataError) as error:
        TablePipeline("y", task).fit(cr.data.Table({"y": values, "z": RNG.normal(size=60)}))
    assert message in str(error.value)


def test_no_rows_teach_nothing():
    for y in ([1.5, 2.5], ["a", "b"]):
        made = cr.data.Table({"y": y, "z": [1, 2]})
        with pytest.raises(DataError, match="the target 'y' cannot be learned of no rows"):
            TablePipeline("y").fit(made.rows(np.zeros(2, bool)))
        assert not TablePipeline("z").known(cr.data.Table({"z": [None, None], "y": y})).any()


def test_a_class_that_training_had_not():
    pipeline = TablePipeline("y").fit(table())
    with pytest.raises(DataError, match="must be one of the 2 classes .* got '5' in row 1"):
        pipeline.target({"y": [0, 5]})


# -- out and in --------------------------------------------------------------------------------------------


def whole():
    made = table(
        v=RNG.choice(list("abc"), N), d=[f"2020-01-{i % 28 + 1:02d}" for i in range(N)], w=[None, 1.5, 2.5] * (N // 3)
    )
    return made, TablePipeline("y", drop=["z"]).fit(made)


def test_a_saved_pipeline_is_the_same(tmp_path):
    made, pipeline = whole()
    pipeline.save(tmp_path / "p.json")
    again = TablePipeline.load(tmp_path / "p.json")
    assert again.as_dict() == pipeline.as_dict()
    np.testing.assert_array_equal(again.transform(made), pipeline.transform(made))
    assert again.get_feature_names_out() == pipeline.get_feature_names_out()


def test_a_damaged_document_is_refused(tmp_path):
    made, pipeline = whole()
    document = json.loads(json.dumps(pipeline.as_dict()))
    path = tmp_path / "p.json"

    def places(value, at=()):
        yield at
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            yield from places(inner, (*at, key))

    for at in list(places(document))[1:]:
        for wrong in (None, -1, "x", [], {}, 1e999, True):
            copy = json.loads(json.dumps(document))
            inner = copy
            for key in at[:-1]:
                inner = inner[key]
            inner[at[-1]] = wrong
            path.write_text(json.dumps(copy))
            try:
                found = TablePipeline.load(path)
                X = found.encoded(made)
            except (DamagedFileError, ChainruleError):
                continue
            assert np.isfinite(X).all(), (at, wrong)


def test_an_unfitted_pipeline_says_so():
    with pytest.raises(SettingError, match="has not been fitted"):
        TablePipeline("y").transform(table())
    for options, message in [
        ({"scaling": "minmax"}, "scaling must be one of robust, robust_all, robust_few, standard, none"),
        ({"max_categories": 1}, "max_categories must be a whole number from 2 on"),
        ({"drop": ["y"]}, "'y' is the target and cannot be dropped"),
    ]:
        with pytest.raises(SettingError, match=message):
            TablePipeline("y", **options)


# -- tables of other libraries -----------------------------------------------------------------------------


def test_tables_of_every_kind():
    values = {"a": [1.0, None, 3.0], "b": ["x", "y", None]}
    expected = pl.DataFrame(values)
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    for made in (values, rows, expected, expected.lazy(), pandas.DataFrame(values), arrow.table(values)):
        assert cr.data.Table(made).frame.equals(expected), type(made)
    array = cr.data.Table(np.arange(6).reshape(3, 2), columns=["a", "b"])
    assert array.frame.to_dict(as_series=False) == {"a": [0, 2, 4], "b": [1, 3, 5]}
    masked = np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False])
    assert cr.data.Table({"a": masked}).frame["a"].to_list() == [1.0, None, 3.0]
    mixed = cr.data.Table({"a": [1, "x", None, 2.5]})
    assert mixed.frame["a"].to_list() == ["1", "x", None, "2.5"]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"a": [1, 2], "b": [1]}, "must be a table"), (5, "it has no named columns"), (np.arange(3), "an array of rows and columns"),
        (np.zeros((0, 2)), "at least one row"), ({}, "at least one row"), ({"a": np.zeros((2, 2))}, "must have one axis"),
    ],
)  # fmt: skip
def test_what_is_no_table_says_why(made, message):
    with pytest.raises(DataError) as error:
        cr.data.Table.of(made)
    assert message in str(error.value)


def test_sparse_matrices_say_what_to_do():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(DataError, match=r"got a sparse matrix. Pass its .toarray\(\)"):
        cr.data.Table(sparse.eye(3).tocsr())


# -- leaks and splits --------------------------------------------------------------------------------------


def test_leaks_of_every_kind_are_named_and_nothing_else():
    y, noise = RNG.integers(0, 2, 300), RNG.normal(size=300)
    made = cr.data.Table({
        "threshold": noise**2 + np.where(y, 0, 40.0), "missing": np.where(y, noise, np.nan), "level": np.array(["n", "p"])[y],
        "strong": y + noise * 0.4, "weak": y + noise * 2, "noise": noise, "y": y,
    })  # fmt: skip
    assert {leak.name for leak in leaks(TablePipeline("y").fit(made), made)} == {"threshold", "missing", "level"}


def test_leaks_of_values_and_of_rare_classes():
    x, rare = RNG.normal(size=400), np.zeros(400, int)
    rare[:12] = 1
    values = cr.data.Table({"y": x * 3 + 1, "again": x, "near": x + RNG.normal(size=400) * 0.6})
    assert [leak.name for leak in leaks(TablePipeline("y").fit(values), values)] == ["again"]
    classes = cr.data.Table({"y": rare, "noise": x, "told": rare * 5 + x * 0.1})
    assert [leak.name for leak in leaks(TablePipeline("y").fit(classes), classes)] == ["told"]


def test_the_score_of_a_column_is_that_of_a_tree_of_scikit_learn():
    tree = pytest.importorskip("sklearn.tree")
    fold = cr.data.shuffled_indices(600, 1) % 3
    for noise in (0.1, 0.3, 0.4):
        x = RNG.uniform(size=600)
        y = np.sin(9 * x) + RNG.normal(size=600) * noise
        made = cr.data.Table({"x": x, "y": y})
        (ours,) = leaks(TablePipeline("y").fit(made), made, sure=0.01)
        predicted = np.empty(600)
        for k in range(3):
            theirs = tree.DecisionTreeRegressor(max_leaf_nodes=16).fit(x[fold != k, None], y[fold != k])
            predicted[fold == k] = theirs.predict(x[fold == k, None])
        r2 = 1 - ((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        assert ours.score == pytest.approx(r2, abs=0.005)


def test_splits_by_class_group_and_time():
    labels = np.array([0] * 50 + [1] * 9 + [2])
    train, test = split_rows(60, 0.2, seed=3, stratify=labels)
    assert sorted([*train, *test]) == list(range(60)) and len(test) == 12
    assert np.bincount(labels[test], minlength=3).tolist() == [10, 2, 0]
    groups = RNG.integers(0, 9, 60)
    train, test = split_rows(60, 0.3, groups=groups)
    assert not set(groups[train]) & set(groups[test]) and len(test) >= 18
    times = RNG.permutation(60).astype(float)
    train, test = split_rows(60, 0.25, times=times)
    assert times[train].max() < times[test].min() and len(test) == 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": np.zeros(9)}, "too few groups"), ({"times": np.ones(9)}, "too few moments"),
        ({"times": np.array([np.nan, *range(8)])}, "1 have none, the first is row 0"),
        ({"groups": np.zeros(9), "times": np.zeros(9)}, "got both"), ({"test_size": 1.5}, "between 0 and 1"),
    ],
)  # fmt: skip
def test_splits_that_cannot_be_say_why(options, message):
    with pytest.raises(ChainruleError) as error:
        split_rows(9, **options)
    assert message in str(error.value)


def test_a_pipeline_feeds_a_trainer():
    import chainrule.nn.functional as F
    from chainrule import nn, optim

    x = RNG.normal(size=400)
    made = cr.data.Table(
        {"x": x, "colour": np.where(RNG.random(400) < 0.5, "red", "blue"), "y": np.where(x > 0, "up", "down")}
    )
    pipeline = TablePipeline("y").fit(made)
    X, y = pipeline.transform(made), pipeline.target(made)
    model = nn.Linear(X.shape[1], pipeline.n_outputs_)
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.05), ["accuracy"])
    trainer.fit(X, y, epochs=20, progress=False)
    labels = pipeline.inverse(trainer.predict_classes(X))
    assert (labels == made["y"].to_numpy()).mean() > 0.97


def test_levels_may_be_scaled_as_numbers_are():
    rows = Table({"kind": ["a"] * 6 + ["b"] * 3 + [None], "y": np.arange(10.0)})
    plain, scaled = (TablePipeline("y", scaling=name).fit(rows) for name in ("robust", "robust_all"))
    hot = plain.transform(rows).astype(np.float64)
    np.testing.assert_allclose(scaled.transform(rows), RobustScaling.fit(hot).transform(hot), rtol=1e-6)
    unseen = Table({"kind": ["z"]})
    assert scaled.encoded(unseen).tolist() == RobustScaling.fit(hot).transform(np.zeros((1, 3))).astype(np.float32).tolist()  # fmt: skip


def test_scaled_levels_are_kept(tmp_path):
    rows = Table({"kind": ["a", "b", "c"] * 5, "y": np.arange(15.0)})
    pipeline = TablePipeline("y", scaling="robust_all").fit(rows)
    pipeline.save(tmp_path / "p.json")
    again = TablePipeline.load(tmp_path / "p.json")
    np.testing.assert_array_equal(again.transform(rows), pipeline.transform(rows))
    document = json.loads((tmp_path / "p.json").read_text())
    for column in document["columns"]:
        if column["encoder"]:
            del column["encoder"]["off"], column["encoder"]["on"]  # a file of before there was such a scaling
    (tmp_path / "old.json").write_text(json.dumps(document))
    np.testing.assert_array_equal(
        TablePipeline.load(tmp_path / "old.json").transform(rows), TablePipeline("y").fit_transform(rows)
    )


def written(folder, name, mark, delimiter, thousands=False):
    """A file of the numbers 1234.5 i, the ones 0.25 i, and a column of letters."""
    numbers = [(f"{1234.5 * i:,.1f}" if thousands else f"{1234.5 * i:.1f}", f"{0.25 * i:.2f}") for i in range(1, 41)]
    if mark == ",":
        numbers = [tuple(text.translate(str.maketrans(",.", ".,")) for text in pair) for pair in numbers]
    rows = [(f'"{x}"', f'"{y}"', "ab"[i % 2]) for i, (x, y) in enumerate(numbers)]
    (folder / name).write_text("\n".join(map(delimiter.join, [("x", "y", "k"), *rows])) + "\n")
    return cr.data.read_table(folder / name)


MARKS = {".": "point", ",": "comma"}
WRITTEN = [(".", ",", False), (".", ";", True), (",", ";", False), (",", ";", True), (".", ";", False)]


@pytest.mark.parametrize("first", WRITTEN)
@pytest.mark.parametrize("then", WRITTEN)
def test_numbers_are_read_as_each_table_writes_them(first, then, tmp_path):
    train, test = written(tmp_path, "train.csv", *first), written(tmp_path, "test.csv", *then)
    pipeline = TablePipeline("y").fit(train)
    if (
        first[0] == then[0] and then[2] and not first[2]
    ):  # under one mark, the other one may be one from another country
        with pytest.warns(UserWarning, match="x: 40 values are no numbers: taken as missing"):
            pipeline.transform(test)
        return
    np.testing.assert_array_equal(pipeline.transform(test), pipeline.transform(train))
    np.testing.assert_array_equal(pipeline.target(test), pipeline.target(train))
    np.testing.assert_allclose(pipeline.inverse(pipeline.target(test)), 0.25 * np.arange(1, 41), rtol=1e-5)
    assert pipeline.known(test).all()
    said = pipeline.differences(test)
    assert all(note.startswith(f"numbers are read with a decimal {MARKS[then[0]]}") for note in said)
    assert bool(said) == ((first[0], then[0]) == (".", ",") or (first[0] != then[0] and (first[2] or then[2])))


def test_a_column_that_cannot_be_read_any_more_is_warned_about():
    train = {"x": [str(i / 4) for i in range(N)], "when": [f"2024-01-{i % 28 + 1:02}" for i in range(N)], "y": range(N)}
    pipeline = TablePipeline("y", kinds={"x": "numeric", "when": "datetime"}).fit(train)
    few = {**train, "x": ["?", "none", *train["x"][2:]]}
    pipeline.transform(few)  # one in sixty is no number: as at training, that is taken as missing
    commas = {**train, "x": [text.replace(".", ",") for text in train["x"]]}
    said = "x: 60 values are no numbers: taken as missing. If their decimal mark is ',', say so: decimal=','."
    with pytest.warns(UserWarning, match=f"^{re.escape(f'TablePipeline.transform: {said}')}$"):
        pipeline.transform(commas)
    np.testing.assert_array_equal(pipeline.transform(Table(commas, decimal=",")), pipeline.transform(train))
    days = {**train, "when": [f"{i % 28 + 1}th of January" for i in range(N)]}
    said = "when: 60 values are no dates in the form they had in training: taken as missing."
    with pytest.warns(UserWarning, match=f"^{re.escape(f'TablePipeline.transform: {said}')}$"):
        pipeline.transform(days)


POINTS = (
    ("3.276", "0.5", "7.5"),
    [3.276, 0.5, 7.5],
    [3276.0, np.nan, np.nan],
)  # as a decimal point has them, and a comma
COMMAS = ("3,276", "0,5", "7,5"), [3276.0, np.nan, np.nan], [3.276, 0.5, 7.5]
LEARNED = {
    "points": [f"{v:.3f}" for v in np.linspace(1.5, 9.25, N)],
    "commas": [f"{v:.3f}".replace(".", ",") for v in np.linspace(1.5, 9.25, N)],
    "commas between thousands": [f"{v:,.2f}" for v in np.linspace(1500, 9250, N)],
    "points between thousands": [f"{v:,.2f}".translate(str.maketrans(",.", ".,")) for v in np.linspace(1500, 9250, N)],
}


@pytest.mark.parametrize("told", [".", ","])
@pytest.mark.parametrize("fields", [POINTS, COMMAS], ids=["points", "commas"])
@pytest.mark.parametrize("learned", LEARNED)
def test_a_decimal_mark_that_is_told_holds_whatever_was_learned(learned, fields, told, tmp_path):
    mark = "," if learned in ("commas", "points between thousands") else "."
    train = Table({"a": LEARNED[learned], "b": LEARNED[learned], "y": LEARNED[learned]}, decimal=mark)
    pipeline = TablePipeline("y", "regression", kinds={"a": "numeric", "b": "numeric"}, scaling="none").fit(train)
    pipeline.save(tmp_path / "p.json")
    pipeline = TablePipeline.load(tmp_path / "p.json")
    written, by_point, by_comma = fields
    values = by_point if told == "." else by_comma
    (tmp_path / "new.csv").write_text("a;b;y\n" + "".join(f"{text};{text};{text}\n" for text in written))
    new = cr.data.read_table(tmp_path / "new.csv", decimal=told)
    expected = pipeline.encoded(Table({"a": values, "b": values}))
    np.testing.assert_array_equal(pipeline.encoded(new), expected)
    np.testing.assert_array_equal(pipeline.encoded(new.rows([1, 2])), expected[1:])  # also of a part
    np.testing.assert_array_equal(pipeline.known(new), ~np.isnan(values))
    said = [note for note in pipeline.differences(new) if "no numbers" in note]
    lost = int(np.isnan(values).sum())
    assert said == ([f"{name}: {lost} values are no numbers: taken as missing" for name in "ab"] if lost else [])


def test_a_decimal_mark_that_is_told_holds_in_training_too(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n" + "".join(f"{i}.{i * 7 % 900 + 100};{i % 5}.5\n" for i in range(1, 40)))
    pipeline = TablePipeline("a").fit(cr.data.read_table(tmp_path / "t.csv", decimal=","))
    assert pipeline.targets_[0].center > 1000 and pipeline.targets_[0].reading.grouped
    assert [column.kind for column in pipeline.columns_] == ["categorical"]  # 1.5 is no number with a decimal comma
    found = TablePipeline("a").fit(cr.data.read_table(tmp_path / "t.csv"))
    assert found.targets_[0].center < 100 and [column.kind for column in found.columns_] == ["numeric"]


def test_a_decimal_mark_is_one_of_two_and_is_kept(tmp_path):
    with pytest.raises(DataError, match=r"^the table: decimal must be '.' or ',', got ';'.$"):
        Table({"x": ["1"]}, decimal=";")
    assert Table(Table({"x": ["1"]}, decimal=",")).written.told and not Table({"x": ["1"]}).written.told
    Table({"x": ["1,5"]}).frame.write_parquet(tmp_path / "x.parquet")
    assert cr.data.read_table(tmp_path / "x.parquet", decimal=",").decimal == ","


def test_a_number_below_one_has_no_thousands():
    assert number_reading(texts("0,125", "0,250"), Reading())[0] is None
    assert number_reading(texts("1,125", "0"), Reading())[0] == Reading(grouped=True)


# -- dates in a form that was said ---------------------------------------------------------------------------


def test_a_form_that_was_said_is_taken_for_columns_that_were_guessed():
    """Until now only for those that were told: where day and month cannot be told apart, the wrong one stayed."""
    days = [f"0{1 + i % 9}/0{1 + i % 7}/2021" for i in range(60)]
    others = [f"2021-03-{1 + i % 28:02d}" for i in range(60)]
    data = cr.data.Table({"day": days, "other": others, "y": ["a", "b"] * 30})
    for form in "%d/%m/%Y", "%m/%d/%Y":
        pipeline = TablePipeline("y", date_format=form).fit(data)
        day, other = pipeline.columns_
        assert (day.kind, day.reading.format, day.reason) == ("datetime", form, f"dates in the form {form}")
        assert other.kind == "datetime" and other.reading.format != form
        told = TablePipeline("y", date_format=form, kinds={"day": "datetime"}).fit(data)
        np.testing.assert_array_equal(pipeline.transform(data), told.transform(data))


def test_a_form_that_is_of_no_column_is_refused():
    data = cr.data.Table({"day": [f"0{1 + i % 9}/0{1 + i % 7}/2021" for i in range(60)], "y": ["a", "b"] * 30})
    text = (
        "date_format='%Y:%d' (--date-format) is the form of no column. Correct it, name the column (kinds={'day': 'datetime'}, "
        "--datetime day), or leave it out: usual forms are found."
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        TablePipeline("y", date_format="%Y:%d").fit(data)
    text = (
        "the column 'day' was to be datetime, but none of its values has the form date_format='%Q' (--date-format), such as "
        "'01/01/2021'. Correct the form, or leave it out: usual ones are found."
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        TablePipeline("y", date_format="%Q", kinds={"day": "datetime"}).fit(data)


def test_a_table_of_the_target_alone():
    text = (
        "no column is left to learn from: there is none beside the target. Give rows that have others, or drop fewer."
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        TablePipeline("y").fit(cr.data.Table({"y": ["a", "b"] * 30}))
