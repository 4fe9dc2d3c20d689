"""Functions, methods and classes that are called."""

from __future__ import annotations

import functools

from tests.compiler.handed.cases import case


class Plain:
    scale = 2.0

    def value(self):
        return self.scale


@case
def a_partial():
    def by(x, scale):
        return x * scale

    p = functools.partial(by, scale=2.0)
    yield lambda x: p(x)
    p.keywords["scale"] = 3.0
    yield
    p = functools.partial(by, scale=4.0)
    yield


@case
def a_partial_set_anew():
    p = functools.partial(lambda scale, x: x * scale, 2.0)
    yield lambda x: p(x)
    p.__setstate__((p.func, (3.0,), {}, {}))
    yield


@case
def a_partial_compiled():
    many = [2.0]
    yield functools.partial(lambda many, x: x * many[0], many)
    many[0] = 3.0
    yield


@case
def a_partial_method():
    class Own:
        scale = 2.0

        def by(self, more, x):
            return x * self.scale + more

        one = functools.partialmethod(by, 1.0)

    o = Own()
    yield lambda x: o.one(x)
    o.scale = 3.0
    yield


@case
def an_lru_cache():
    settings = {"scale": 2.0}

    @functools.lru_cache
    def scale():
        return settings["scale"]

    yield lambda x: x * scale()
    settings["scale"] = 3.0
    scale.cache_clear()
    yield


@case
def a_single_dispatch_function():
    @functools.singledispatch
    def scale(value):
        return 2.0

    yield lambda x: x * scale(1)
    scale.register(int, lambda value: 3.0)
    yield


@case
def a_function_that_is_wrapped():
    settings = {"scale": 2.0}

    def decorate(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x) * settings["scale"]

        return wrapper

    @decorate
    def by(x):
        return x * 1

    yield lambda x: by(x)
    settings["scale"] = 3.0
    yield


@case
def a_decorated_function_compiled():
    settings = {"scale": 2.0}

    def decorate(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x) * settings["scale"]

        return wrapper

    @decorate
    def by(x):
        return x * 1

    yield by
    settings["scale"] = 3.0
    yield


@case
def a_decorated_class():
    def scaled(kind):
        kind.scale = 2.0
        kind.value = lambda self: self.scale
        return kind

    @scaled
    class Own: ...

    o = Own()
    yield lambda x: x * o.value()
    Own.scale = 3.0
    yield
    Own.value = lambda self: 7.0
    yield
    Own.value = lambda self: 8.0
    yield


@case
def a_method_patched_on_the_instance():
    o = Plain()
    yield lambda x: x * o.value()
    o.value = lambda: 3.0
    yield
    o.value = lambda: 4.0
    yield
    del o.value
    yield


@case
def a_method_patched_on_the_class():
    class Own:
        def value(self):
            return 2.0

    o = Own()
    yield lambda x: x * o.value()
    Own.value = lambda self: 3.0
    yield
    Own.value = lambda self: 4.0
    yield


@case
def a_method_patched_on_a_base_class():
    class Base:
        def value(self):
            return 2.0

    class Own(Base):
        def value(self):
            return super().value() * 2

    o = Own()
    yield lambda x: x * o.value()
    Base.value = lambda self: 3.0
    yield
    Base.value = lambda self: 4.0
    yield


@case
def super_and_the_attributes_it_reads():
    class Base:
        def __init__(self):
            self.scale = 2.0

        def value(self):
            return self.scale

    class Own(Base):
        def value(self):
            return super().value() + 1

    o = Own()
    yield lambda x: x * o.value()
    o.scale = 3.0
    yield


@case
def a_callable_object():
    class By:
        def __init__(self):
            self.scale = 2.0

        def __call__(self, x):
            return x * self.scale

    by = By()
    yield lambda x: by(x)
    by.scale = 3.0
    yield
    By.__call__ = lambda self, x: x * 7
    yield


@case
def a_callable_object_compiled():
    class By:
        def __init__(self):
            self.scale = 2.0

        def __call__(self, x):
            return x * self.scale

    by = By()
    yield by
    by.scale = 3.0
    yield


@case
def a_bound_method_of_another_object():
    o = Plain()
    value = o.value
    yield lambda x: x * value()
    o.scale = 3.0
    yield


@case
def a_bound_method_in_a_dict():
    o = Plain()
    ways = {"plain": o.value}
    yield lambda x: x * ways["plain"]()
    o.scale = 3.0
    yield
    ways["plain"] = lambda: 5.0
    yield


@case
def a_class_method():
    class Own:
        scale = 2.0

        @classmethod
        def value(cls):
            return cls.scale

    yield lambda x: x * Own.value()
    Own.scale = 3.0
    yield
    Own.value = classmethod(lambda cls: 4.0)
    yield


@case
def a_static_method():
    class Own:
        @staticmethod
        def value():
            return 2.0

    yield lambda x: x * Own.value()
    Own.value = staticmethod(lambda: 3.0)
    yield
    Own.value = staticmethod(lambda: 4.0)
    yield


@case
def a_class_made_inside():
    class Own:
        scale = 2.0

    yield lambda x: x * Own().scale
    Own.scale = 3.0
    yield


@case
def the_init_of_a_class_made_inside():
    settings = {"scale": 2.0}

    class Own:
        def __init__(self):
            self.scale = settings["scale"]

    yield lambda x: x * Own().scale
    settings["scale"] = 3.0
    yield


@case
def an_attribute_of_a_metaclass():
    class Meta(type):
        scale = 2.0

    class Own(metaclass=Meta): ...

    yield lambda x: x * Own.scale
    Meta.scale = 3.0
    yield


@case
def an_operator():
    class Own:
        def __init__(self):
            self.scale = 2.0

        def __rmul__(self, x):
            return x * self.scale

        def __float__(self):
            return self.scale

        def __bool__(self):
            return self.scale > 2

        def __eq__(self, other):
            return self.scale == other

        def __hash__(self):
            return 0

    o = Own()
    yield lambda x: x * float(o) + (1 if o else 0) + (10 if o == 3.0 else 0)
    o.scale = 3.0
    yield


@case
def a_context_manager():
    class Scope:
        scale = 2.0

        def __enter__(self):
            return self.scale

        def __exit__(self, *_):
            pass

    scope = Scope()

    def f(x):
        with scope as by:
            return x * by

    yield f
    scope.scale = 3.0
    yield
