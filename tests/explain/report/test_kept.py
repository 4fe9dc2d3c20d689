"""What a diagnosis or a check found of a run is kept in its folder, and shown as long as it is of these weights."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner
from tests.explain.report.reading import Read

from chainrule.cli import commands
from chainrule.errors import DamagedFileError
from chainrule.explain.report.kept import kept


def run(*arguments):
    return CliRunner().invoke(commands, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "run"
    assert run("train", "digits", "--epochs", "2", "--hidden", "8", "--lr", "1e-5", "--out", folder).exit_code == 0
    assert run("diagnose", folder).exit_code == 0
    return folder


def page(folder):
    out = folder.parent / "page.html"
    assert run("view", folder, "--out", out).exit_code == 0
    return Read(out.read_text(encoding="utf-8")).document


def test_the_page_shows_what_the_diagnosis_found(folder):
    found = page(folder)["diagnosis"]
    assert found["verdict"] == "found"
    assert [finding["name"] for finding in found["findings"]] == ["learning_rate_too_low"]


def test_of_other_weights_nothing_is_shown(folder, tmp_path):
    found = json.loads((folder / "diagnosis.json").read_text())
    (tmp_path / "diagnosis.json").write_text(json.dumps({**found, "weights": "0" * 64}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert kept(tmp_path, "diagnosis") is None
    assert kept(tmp_path, "checks") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weights": 3, "found": {}}', '{"weights": "", "found": []}',
                                  '{"weights": "", "found": {}}', '{"weights": "", "found": {"findings": [3]}}'])  # fmt: skip
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, text):
    (tmp_path / "diagnosis.json").write_text(text)
    with pytest.raises(
        DamagedFileError, match=f"^{re.escape(str(tmp_path / 'diagnosis.json'))}: .* Run `chainrule diagnose "
    ):
        kept(tmp_path, "diagnosis")
