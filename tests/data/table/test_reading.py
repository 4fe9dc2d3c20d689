"""Files as people have them: encodings, delimiters, quotes, headers; and errors that name the line."""

import csv
import io
import random

import pytest

import chainrule as cr
from chainrule.errors import ChainruleError, DamagedFileError, DataError

pl = pytest.importorskip("polars")
from chainrule.data.table.reading import read_text  # noqa: E402


def read(text, **options):
    return read_text(text if isinstance(text, bytes) else text.encode(), "t.csv", **options)


def columns(table):
    return table.frame.to_dict(as_series=False)


def test_a_plain_file_needs_no_words():
    table = read("name,age\nAda,31\nBob,44\n")
    assert columns(table) == {"name": ["Ada", "Bob"], "age": ["31", "44"]}
    assert table.notes == []


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_the_delimiter_is_found(delimiter):
    table = read("a,b,c\n1,2,3\n4,5,6\n".replace(",", delimiter))
    assert table.columns == ["a", "b", "c"]
    assert columns(table)["c"] == ["3", "6"]


def test_runs_of_spaces_and_tabs_separate():
    table = read('mpg  name\n18.0 "chevrolet  malibu"\n15.0\t"buick"\n')
    assert columns(table) == {"mpg": ["18.0", "15.0"], "name": ["chevrolet  malibu", "buick"]}


def test_a_decimal_comma_is_found_and_said():
    table = read("a;b\n1,5;x\n2,25;y\n")
    assert table.decimal == ","
    assert "numbers have a decimal comma, as in 1,5" in table.notes


def test_a_comma_within_semicolons_separates_nothing():
    assert read("a;b\n1,5;2,5\n2,5;3,5\n1,5;2,5\n").columns == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_read_and_said(encoding):
    table = read("naïve,b\n1,2\n".encode(encoding))
    assert table.columns == ["naïve", "b"]
    assert "byte-order mark" in table.notes[0]


def test_other_encodings_are_read_and_said():
    table = read("name,b\nMüller,2\n".encode("cp1252"))
    assert columns(table)["name"] == ["Müller"]
    assert table.notes == ["it is not UTF-8 (byte 0xFC in line 2): read as cp1252"]


def test_line_ends_of_other_systems():
    for text in ("a,b\r\n1,2\r\n", "a,b\r1,2\r"):
        assert columns(read(text)) == {"a": ["1"], "b": ["2"]}


def test_quotes_hold_delimiters_line_ends_and_quotes():
    table = read('a,b\n"x,\ny","say ""hi"""\n1,2\n')
    assert columns(table) == {"a": ["x,\ny", "1"], "b": ['say "hi"', "2"]}


def test_a_quote_within_a_field_is_part_of_it():
    assert columns(read('a,b\n5" pipe,1\n6" pipe,2\n'))["a"] == ['5" pipe', '6" pipe']


def test_empty_lines_are_left_out_and_said():
    table = read("a,b\n1,2\n\n3,4\n\n")
    assert columns(table)["a"] == ["1", "3"]
    assert table.notes == ["2 empty lines left out"]


def test_a_line_that_names_the_delimiter():
    assert read("sep=;\na;b\n1;2\n").columns == ["a", "b"]


def test_row_names_without_a_header_of_their_own():
    table = read('"a","b"\n"x",1,2\n"y",3,\n')
    assert columns(table) == {"row_names": ["x", "y"], "a": ["1", "3"], "b": ["2", None]}
    assert table.notes == [
        "the header has 2 names and the rows 3 fields: the first is taken as the row's name, and the column called 'row_names'"
    ]


@pytest.mark.parametrize(
    "text", ["y,a\n1,2,\n3,4,\n", "y,a,\n1,2,\n3,4, \n", "y,a\n1,2,,\n3,4,,\n", 'y;a\n1;2;""\n3;4;\n']
)
def test_separators_at_the_ends_of_all_rows_make_no_column(text):
    table = read(text)
    assert columns(table) == {"y": ["1", "3"], "a": ["2", "4"]}
    assert table.notes[-1] == "every row ends in a separator: the empty field after it is left out"


def test_a_last_column_that_has_a_name_or_a_value_is_one():
    assert columns(read("y,a\n1,\n3,\n")) == {"y": ["1", "3"], "a": [None, None]}
    assert columns(read("y,\n1,\n3,4\n")) == {"y": ["1", "3"], "column_2": [None, "4"]}
    assert read(",\n,\n,\n", header=True).columns == ["column_1"]


def test_one_name_over_numbers_with_a_comma():
    text = "size\n12,345\n?\n40,5\n"
    with pytest.raises(DataError) as error:
        read(text)
    assert str(error.value) == (
        "t.csv: the header has one name, and the rows are like '12,345', which may be a number with a decimal comma, one with its "
        "thousands separated, or a row's name and a number. Write the number with a decimal point and nothing else, name both "
        "columns in the header, or say which (read_table: decimal=',' or delimiter=',')."
    )
    told, known = read(text, decimal=","), read(text, learned=",")
    assert columns(told) == columns(known) == {"size": ["12,345", "?", "40,5"]}
    assert told.decimal == known.decimal == ","
    assert told.notes == ["numbers have a decimal comma, as in 12,345"]
    assert known.notes == [
        "numbers have a decimal comma, as in 12,345: the header has one name, and numbers had a decimal comma in training"
    ]
    for doubtful, learned in ((text, "."), ("size\n1,345\n2,5\n", ","), ("size\n€12,345\n", None)):
        with pytest.raises(DataError, match="the header has one name"):
            read(doubtful, learned=learned)
    named = {"row_names": ["1", "2"], "size": ["345", "5"]}
    assert columns(read("size\n1,345\n2,5\n", delimiter=",")) == named
    assert columns(read('"size"\n"1",345\n"2",5\n')) == named


def test_names_are_each_once_and_none_is_empty():
    table = read("a,,a,a (2)\n1,2,3,4\n")
    assert table.columns == ["a", "column_2", "a (2)_", "a (2)"]
    assert "the name 'a' stands over 2 columns: the later ones are called 'a (2)_'" in table.notes
    assert "column 2 has no name: called 'column_2'" in table.notes


def test_no_header_is_found_and_said():
    table = read("1,2\n3,4\n")
    assert columns(table) == {"column_1": ["1", "3"], "column_2": ["2", "4"]}
    assert "there is no header" in table.notes[0]
    assert len(read("1,2\n3,4\n", header=True)) == 1


def test_a_header_that_looks_like_numbers_and_a_row_that_has_words():
    assert read("8,307.0,malibu\n6,200.0,skylark\n").columns == ["column_1", "column_2", "column_3"]
    assert read("land,1990,1991,1992\nA,1.5,2.5,3.5\nB,2,3,4\n").columns == ["land", "1990", "1991", "1992"]


def test_what_is_said_is_not_guessed():
    table = read("# a comment\na;b\n1,5;2\n", delimiter=";", decimal=".", skip_rows=1, encoding="ascii")
    assert table.decimal == "."
    assert table.columns == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv: there is nothing in it. A table has a line of names and a line for each row."),
        ("a,b\n", "t.csv: it has the names of 2 columns, but no row. Check how it was written."),
        ("a,b\n1,2\n3\n", "t.csv: line 3 has 1 field, the header names 2. Give the row all its fields (empty ones too), or remove it."),
        ("a,b\n1,2\n3,4,5\n", "t.csv: line 3 has 3 fields, the header names 2. Put a field with ',' in it into double quotes, or remove the row."),
        ('a,b\n"x\ny",2\n3\n', "t.csv: line 4 has 1 field, the header names 2."),
        ('a,b\n1,2\n"x,2\n3,4\n', "t.csv: the record that begins in line 3 cannot be read"),
        (b"PK\x03\x04rest", "it is a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV."),
        (b"a,b\n\0\0,1\n", "t.csv: this is no text file of rows: there are zero bytes in it."),
        (b"\x1f\x8b123", "packed by gzip. Unpack it first (gunzip)."),
    ],
)  # fmt: skip
def test_what_is_no_table_says_why(text, message):
    with pytest.raises(DataError) as error:
        read(text)
    assert message in str(error.value)


def test_wrong_settings_say_what_they_must_be(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\né,2\n", encoding="utf-8")
    for options, message in [
        ({"delimiter": ";;"}, "delimiter must be one character"),
        ({"decimal": "x"}, "decimal must be '.' or ','"),
        ({"skip_rows": -1}, "skip_rows must be 0 or more"),
        ({"skip_rows": 9}, "it has fewer lines. Skip fewer."),
        ({"encoding": "klingon"}, "there is no encoding 'klingon'"),
        ({"encoding": "ascii"}, "it is not written in ascii"),
    ]:
        with pytest.raises(DataError) as error:
            cr.data.read_table(path, **options)
        assert message in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DamagedFileError, match="there is no such file"):
        cr.data.read_table(tmp_path / "no.csv")
    with pytest.raises(DamagedFileError, match="this is a folder"):
        cr.data.read_table(tmp_path)


def test_parquet_and_feather_keep_their_types(tmp_path):
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [True, False]})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ipc(tmp_path / "t.feather")
    for name in ("t.parquet", "t.feather"):
        assert cr.data.read_table(tmp_path / name).frame.equals(frame)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match="not a readable Parquet file"):
        cr.data.read_table(tmp_path / "cut.parquet")


def test_a_million_columns_are_refused_soon():
    line = ",".join(["1"] * 1_000_000)
    with pytest.raises(DataError, match="1,000,000 columns, more than the 20,000"):
        read(f"{line}\n{line}\n")


@pytest.mark.parametrize("seed", range(40))
def test_whatever_csv_writes_is_read_back(seed):
    """Python's writer as the judge: fields of any characters, any delimiter."""
    rng = random.Random(seed)
    alphabet = ["a", "é", ",", ";", "\t", '"', "\n", " ", "1", ".", "|", "'", "日"]
    width = rng.randrange(2, 6)
    rows = [
        ["".join(rng.choices(alphabet, k=rng.randrange(1, 6))) for _ in range(width)]
        for _ in range(rng.randrange(1, 30))
    ]
    out = io.StringIO(newline="")
    delimiter = rng.choice(",;\t|")
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([[f"n{i}" for i in range(width)], *rows])
    table = read(out.getvalue(), delimiter=delimiter)
    assert [list(row) for row in table.frame.rows()] == rows


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files_give_a_table_or_an_error_of_ours(seed):
    rng = random.Random(seed)
    whole = ('name;"a b";date\n"x;\ny";1,5;2020-01-01\n' * 8 + "é;?;\n").encode(
        rng.choice(["utf-8", "cp1252", "utf-16"])
    )
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.choice([b'"', b"\n", b";", b"\0", b"\xff", b"\r", b"", b",,"])
        try:
            table = read(bytes(data))
        except ChainruleError as error:
            assert str(error).startswith("t.csv")  # noqa: PT017
        else:
            assert len(table) and len(set(table.columns)) == len(table.columns)


def test_a_comment_before_the_header_is_spoken_of_where_it_does_harm():
    with pytest.raises(DataError) as error:
        read("# made, by, hand\na,b\n1,2\n")
    assert str(error.value) == (
        "t.csv: line 2 has 2 fields, the header names 3. If the first line is a comment, skip the lines before the header "
        "(read_table: skip_rows; --skip-rows)."
    )
    assert read("#a,b\n1,2\n").columns == ["#a", "b"]  # a name may begin so


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_damaged_length_in_an_arrow_file_is_refused(compression, tmp_path):
    """polars asks for that much memory, and ends the process where there is none."""
    path = tmp_path / "t.arrow"
    pl.DataFrame({"a": [f"some text {i}" for i in range(200)]}).write_ipc(path, compression=compression)
    data = bytearray(path.read_bytes())
    begin = data.index(b"\x28\xb5\x2f\xfd" if compression == "zstd" else b"\x04\x22\x4d\x18")
    data[begin - 8 : begin] = (1 << 60).to_bytes(8, "little")  # the length of what is packed there
    path.write_bytes(data)
    with pytest.raises(
        DamagedFileError, match=r"t\.arrow: not a readable Arrow file \(.*\)\. Copy it again, or write it again\.$"
    ):
        cr.data.read_table(path)


@pytest.mark.parametrize(("name", "by"), [("t.json", "json"), ("t.ndjson", "ndjson"), ("t.jsonl", "ndjson")])
def test_json_is_named(name, by, tmp_path):
    path = tmp_path / name
    path.write_text('[{"a": 1}]' if by == "json" else '{"a": 1}\n{"a": 2}\n')
    with pytest.raises(DataError) as told:
        cr.data.read_table(path)
    assert str(told.value) == (
        f"{path}: this is JSON, and no text file of rows. Write it as Parquet or CSV first: "
        f"polars.read_{by}(path).write_parquet(...)."
    )
