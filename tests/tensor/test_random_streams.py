"""What a thread draws from where it names no generator."""

import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import SettingError
from chainrule.tensor.random import Reread, current_generator, drawing_from


def test_inside_the_block_draws_come_from_the_generator_and_the_default_one_stays():
    before = cr.default_generator.get_state().tolist()
    with drawing_from(cr.Generator(7)) as mine:
        first, second = cr.rand(3), cr.rand(3)
    assert mine.get_state().tolist() == [7, 2]
    again = cr.Generator(7)
    assert cr.equal(first, cr.rand(3, generator=again)) and cr.equal(second, cr.rand(3, generator=again))
    assert cr.default_generator.get_state().tolist() == before


def test_an_error_in_the_block_leaves_it():
    try:
        with drawing_from(cr.Generator(1)):
            raise KeyError
    except KeyError:
        assert current_generator() is cr.default_generator


def test_no_other_thread_notices():
    found = []
    with drawing_from(cr.Generator(1)):
        thread = threading.Thread(target=lambda: found.append(current_generator()))
        thread.start()
        thread.join()
    assert found == [cr.default_generator]


def test_a_compiled_function_draws_from_what_is_current_at_each_call():
    @cr.compile
    def draw():
        return cr.rand(2)

    a, b = cr.Generator(1), cr.Generator(2)
    for generator in (a, b, a, b):
        twin = cr.Generator().manual_seed(0)
        twin.set_state(generator.get_state())
        with drawing_from(generator):
            assert cr.equal(draw(), cr.rand(2, generator=twin))
    assert (a.get_state().tolist(), b.get_state().tolist()) == ([1, 2], [2, 2])


@pytest.mark.parametrize("draw", [cr.rand, cr.randn])
def test_float64_draws_are_the_float32_ones_to_their_rounding(draw):
    narrow, wide = (draw(1000, dtype=dtype, generator=cr.Generator(3)) for dtype in (cr.float32, cr.float64))
    np.testing.assert_allclose(narrow.numpy(), wide.numpy(), atol=1e-4)
    assert not cr.equal(narrow.double(), wide)


@pytest.mark.parametrize("draw", [cr.rand, cr.randn])
def test_what_is_read_again_is_the_same_and_wide_only_more_exact(draw):
    source, other = cr.Generator(3), cr.Generator(4)
    plain, wide = Reread(source), Reread(source, wide=True)
    found = []
    for random in (plain, plain, wide, wide):
        with random.again():
            found.append([draw(1000).numpy(), draw(1000, dtype=cr.float64, generator=other).numpy()])
    for a, b in (found[:2], found[2:]):
        assert all(map(np.array_equal, a, b))
    assert found[2][0].dtype == np.float64
    np.testing.assert_allclose(found[0][0], found[2][0], rtol=1e-6, atol=1e-6)
    assert (source.get_state().tolist(), other.get_state().tolist()) == ([3, 0], [4, 0])


def test_an_error_on_the_way_sets_all_generators_back():
    source, other = cr.Generator(3), cr.Generator(4)

    def failing():
        with Reread(source).again():
            raise KeyError(cr.rand(2), cr.rand(2, generator=other))

    with pytest.raises(KeyError):
        failing()
    assert (source.get_state().tolist(), other.get_state().tolist()) == ([3, 0], [4, 0])


def test_a_compiled_function_that_was_read_again_draws_anew_outside():
    draw = cr.compile(lambda: cr.randn(3))
    random = Reread(cr.Generator(3), wide=True)
    found = []
    for _ in range(2):
        with random.again():
            found.append(draw())
    assert cr.equal(*found)
    one, other = draw(), draw()
    assert (found[0].dtype, one.dtype) == (cr.float64, cr.float32)
    assert not cr.equal(one, other)


def test_the_default_stream_is_kept_and_goes_on():
    cr.manual_seed(-3)
    cr.rand(2)
    state = cr.get_rng_state()
    first = cr.rand(3)
    assert cr.initial_seed() == 2**64 - 3 and state.tolist() == [-3, 1]
    cr.manual_seed(5)
    cr.set_rng_state(state)
    assert cr.equal(cr.rand(3), first) and state.tolist() == [-3, 1]


@pytest.mark.parametrize(
    ("state", "came"),
    [
        (cr.tensor([1, 2, 3]), "shape (3,) of int64"), (cr.tensor(1), "shape () of int64"),
        (cr.tensor([1.0, 2.0]), "shape (2,) of float32"), ([1, 2], "list"),
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused(state, came):
    before = cr.get_rng_state().tolist()
    with pytest.raises(SettingError) as caught:
        cr.set_rng_state(state)
    assert str(caught.value) == (
        f"set_state: the state must be the int64 tensor [seed, step] of get_state, got {came}."
    )
    assert cr.get_rng_state().tolist() == before


@pytest.mark.parametrize("seed", [0, 7, -1, 2**63])
def test_a_generator_tells_its_seed_and_device(seed):
    generator = cr.Generator(seed)
    cr.rand(3, generator=generator)
    assert generator.initial_seed() == seed % 2**64
    assert generator.manual_seed(5).initial_seed() == 5
    assert generator.device == cr.device("cpu")
