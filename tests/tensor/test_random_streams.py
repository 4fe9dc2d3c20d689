"""What a thread draws from where it names no generator."""

import threading

import chainrule as cr
from chainrule.tensor.random import current_generator, drawing_from


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
