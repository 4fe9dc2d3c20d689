"""no_grad, enable_grad and set_grad_enabled: as blocks, as decorators, as a statement; in each thread for itself."""

import threading

import pytest

import chainrule as cr
from chainrule.errors import TraceError

x = cr.ones(2, requires_grad=True)


def recorded():
    return (x * 2).requires_grad


@pytest.fixture(autouse=True)
def restored():
    yield
    assert recorded(), "a test left the mode behind"


def test_set_grad_enabled_as_a_statement():
    cr.set_grad_enabled(False)
    try:
        assert not recorded()
        cr.set_grad_enabled(True)
        assert recorded()
    finally:
        cr.set_grad_enabled(True)


def test_set_grad_enabled_as_a_block_takes_itself_back():
    with cr.set_grad_enabled(False):
        assert not recorded()
        with cr.set_grad_enabled(True):
            assert recorded()
        assert not recorded()
    assert recorded()


def test_set_grad_enabled_as_a_decorator_is_in_force_in_the_function_only():
    @cr.set_grad_enabled(False)
    def inside():
        return recorded()

    assert recorded()
    assert not inside()
    assert recorded()


def test_a_mode_is_taken_back_after_an_exception():
    for block in (cr.no_grad, lambda: cr.set_grad_enabled(False)):
        with pytest.raises(KeyError), block():
            raise KeyError
        assert recorded()


@pytest.mark.parametrize("decorate", [cr.no_grad, cr.no_grad()], ids=["bare", "called"])
def test_no_grad_decorates_functions_and_generators(decorate):
    @decorate
    def function():
        return recorded()

    @decorate
    def generator():
        got = yield recorded()
        try:
            yield got, recorded()
        except KeyError:
            yield "caught", recorded()
        return "end"

    assert not function()
    going = generator()
    assert next(going) is False
    assert recorded()  # suspended, it is in force nowhere
    assert going.send(5) == (5, False)
    assert going.throw(KeyError()) == ("caught", False)
    with pytest.raises(StopIteration) as end:
        next(going)
    assert end.value.value == "end"


def test_a_decorated_generator_closes_in_its_mode():
    seen = []

    @cr.no_grad()
    def generator():
        try:
            yield 1
        finally:
            seen.append(recorded())

    going = generator()
    next(going)
    going.close()
    assert seen == [False]


def test_enable_grad_inside_no_grad():
    @cr.enable_grad
    def function():
        return recorded()

    with cr.no_grad():
        assert function()
        assert not recorded()


def test_each_thread_has_its_own_mode():
    seen = []
    with cr.no_grad():
        thread = threading.Thread(target=lambda: seen.append(recorded()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_one_object_in_two_threads_at_once():
    block, entered, leave, seen = cr.no_grad(), threading.Event(), threading.Event(), []

    def other():
        cr.set_grad_enabled(False)
        with block:
            entered.set()
            leave.wait(10)
        seen.append(recorded())

    thread = threading.Thread(target=other)
    with block:
        thread.start()
        entered.wait(10)
    assert recorded()
    leave.set()
    thread.join()
    assert seen == [False]


def test_a_statement_inside_a_compiled_function_is_refused():
    def stop(t):
        cr.set_grad_enabled(False)
        return t * 2

    with pytest.raises(TraceError, match=r"called set_grad_enabled\(False\) as a statement, which only its first call"):
        cr.compile(stop)(x)

    def block(t):
        with cr.set_grad_enabled(False):
            return t * 2

    assert not cr.compile(block)(x).requires_grad
