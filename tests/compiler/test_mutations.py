"""The faults that can be planted still have their place in the source; `--hunts` plants each and runs the test beside it."""

from pathlib import Path

import pytest

from tests.compiler.mutations import COMPILER, MUTATIONS, ROOT, Mutation, noticed


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_its_place_stands(mutation: Mutation) -> None:
    assert (ROOT / COMPILER / mutation.file).read_text().count(mutation.old) == 1
    file, _, test = mutation.test.partition("::")
    assert f"def {test}(" in (ROOT / "tests/compiler" / file).read_text()


@pytest.mark.hunt
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    assert noticed(tmp_path, mutation, [mutation.test])
