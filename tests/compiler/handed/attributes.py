"""Attributes of objects and classes."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import operator
from types import SimpleNamespace
from typing import Any, NamedTuple

from chainrule import nn
from tests.compiler.handed.cases import case


@case
def a_chain_of_attributes():
    a = SimpleNamespace(b=SimpleNamespace(c=SimpleNamespace(d=2.0)))
    yield lambda x: x * a.b.c.d
    a.b.c.d = 3.0
    yield
    a.b = SimpleNamespace(c=SimpleNamespace(d=4.0))
    yield


class Plain:
    scale: Any = 2.0

    def value(self) -> Any:
        return self.scale


@case
def an_attribute_by_the_dict_of_an_object():
    o = Plain()
    o.scale = 2.0
    yield lambda x: x * o.__dict__["scale"]
    o.scale = 3.0
    yield
    o.__dict__["scale"] = 4.0
    yield


@case
def an_attribute_by_vars():
    o = SimpleNamespace(scale=2.0)
    yield lambda x: x * vars(o)["scale"]
    o.scale = 3.0
    yield


@case
def attributes_by_iterating_over_vars():
    o = SimpleNamespace(a=1.0)
    yield lambda x: x * sum(vars(o).values())
    o.b = 3.0
    yield
    o.b = 4.0
    yield


@case
def an_attribute_of_a_module_by_its_dict():
    m = nn.ReLU()
    m.scale = 2.0
    yield lambda x: x * m.__dict__["scale"]
    m.scale = 3.0
    yield


@case
def vars_of_self_in_forward():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = 2.0

        def forward(self, x):
            return x * vars(self)["scale"]

    m = Net()
    yield m
    m.scale = 3.0
    yield


@case
def names_from_dir():
    o = SimpleNamespace(a=1.0)
    yield lambda x: x * len([name for name in dir(o) if not name.startswith("_")])
    o.b = 1.0
    yield


@case
def a_class_attribute():
    class Own(Plain):
        pass

    yield lambda x: x * Own.scale
    Own.scale = 3.0
    yield
    Own.scale = 4.0
    yield
    del Own.scale
    yield


@case
def a_class_attribute_of_a_base_class():
    class Base:
        scale = 2.0

    class Middle(Base): ...

    class Own(Middle): ...

    o = Own()
    yield lambda x: x * o.scale
    Base.scale = 3.0
    yield
    Middle.scale = 4.0
    yield
    Own.scale = 5.0
    yield
    o.scale = 6.0
    yield


@case
def the_bases_of_a_class():
    class A:
        scale = 2.0

    class B:
        scale = 3.0

    class Own(A): ...

    o = Own()
    yield lambda x: x * o.scale
    Own.__bases__ = (B,)
    yield


@case
def the_class_of_an_object():
    class A:
        scale = 2.0

        def value(self):
            return 1.0

    class B:
        scale = 3.0

        def value(self):
            return 5.0

    o = A()
    yield lambda x: x * o.scale + o.value()
    o.__class__ = B
    yield


@case
def the_class_of_an_object_that_is_called():
    class A:
        def __call__(self, x):
            return x * 2

    class B:
        def __call__(self, x):
            return x * 3

    o = A()
    yield lambda x: o(x)
    o.__class__ = B
    yield


@case
def the_class_of_a_module():
    class A(nn.Module):
        def forward(self, x):
            return x * 2

    class B(nn.Module):
        def forward(self, x):
            return x * 3

    m = nn.Sequential(A())
    yield m
    m[0].__class__ = B
    yield


@case
def isinstance_of_an_object_whose_class_changes():
    class A: ...

    class B: ...

    o = A()
    yield lambda x: x * (2 if isinstance(o, A) else 3)
    o.__class__ = B
    yield


@case
def isinstance_of_a_variable():
    o = 1
    yield lambda x: x * (2 if isinstance(o, int) else 3)
    o = 1.0
    yield


@case
def isinstance_of_a_registered_class():
    class Base(abc.ABC): ...  # noqa: B024 - on purpose

    class Own: ...

    o = Own()
    yield lambda x: x * (2 if isinstance(o, Base) else 3)
    Base.register(Own)
    yield


@case
def a_property():
    class Own:
        _scale = 2.0

        @property
        def scale(self):
            return self._scale

    o = Own()
    yield lambda x: x * o.scale
    o._scale = 3.0
    yield
    Own.scale = property(lambda self: 4.0)
    yield


@case
def a_cached_property():
    class Own:
        base = 2.0

        @functools.cached_property
        def scale(self):
            return self.base

    o = Own()
    _ = o.scale
    yield lambda x: x * o.scale
    del o.scale
    o.base = 3.0
    yield
    o.scale = 5.0
    yield


class Descriptor:
    def __init__(self, value):
        self.value = value

    def __get__(self, instance, owner=None):
        return self.value if instance is None else self.value * instance.by


@case
def a_descriptor():
    class Own:
        scale = Descriptor(2.0)
        by = 1.0

    o = Own()
    yield lambda x: x * o.scale
    o.by = 3.0
    yield
    vars(Own)["scale"].value = 4.0
    yield


@case
def getattr_of_the_class():
    class Own:
        def __init__(self):
            self.values = {"scale": 2.0}

        def __getattr__(self, name):
            return vars(self)["values"][name]

    o = Own()
    yield lambda x: x * o.scale
    o.values["scale"] = 3.0
    yield


@case
def getattribute_of_the_class():
    class Own:
        scale = 2.0

        def __getattribute__(self, name):
            found = object.__getattribute__(self, name)
            return found * 2 if name == "scale" else found

    o = Own()
    yield lambda x: x * o.scale
    o.scale = 3.0
    yield


@case
def slots():
    class Own:
        __slots__ = ("scale",)

    o = Own()
    o.scale = 2.0
    yield lambda x: x * o.scale
    o.scale = 3.0
    yield


@case
def a_dataclass():
    @dataclasses.dataclass
    class Settings:
        scale: float = 2.0
        inner: Any = dataclasses.field(default_factory=dict)

    s = Settings()
    yield lambda x: x * s.scale + len(s.inner)
    s.scale = 3.0
    yield
    s.inner["a"] = 1
    yield


@case
def a_frozen_dataclass_replaced():
    @dataclasses.dataclass(frozen=True)
    class Settings:
        scale: float = 2.0

    s = Settings()
    yield lambda x: x * s.scale
    s = dataclasses.replace(s, scale=3.0)
    yield
    object.__setattr__(s, "scale", 4.0)
    yield


@case
def a_dataclass_with_slots():
    class Settings:
        __slots__ = ("more", "scale")

        def __init__(self):
            self.scale, self.more = 2.0, SimpleNamespace(a=1.0)

    s = Settings()
    yield lambda x: x * s.scale + s.more.a
    s.more.a = 3.0
    yield


@case
def fields_of_a_dataclass():
    @dataclasses.dataclass
    class Settings:
        a: float = 2.0
        b: float = 1.0

    s = Settings()
    yield lambda x: x * sum(getattr(s, field.name) for field in dataclasses.fields(s))
    s.a = 3.0
    yield


@case
def asdict_of_a_dataclass():
    @dataclasses.dataclass
    class Settings:
        a: float = 2.0

    s = Settings()
    yield lambda x: x * dataclasses.asdict(s)["a"]
    s.a = 3.0
    yield


@case
def a_named_tuple():
    class Settings(NamedTuple):
        scale: float
        more: Any

    s = Settings(2.0, [1.0])
    yield lambda x: x * s.scale + s.more[0]
    s.more[0] = 2.0
    yield
    s = s._replace(scale=3.0)
    yield


@case
def a_member_of_an_enum():
    class Mode(enum.Enum):
        A = 2.0
        B = 3.0

    state = SimpleNamespace(mode=Mode.A)
    yield lambda x: x * state.mode.value * (1 if state.mode is Mode.A else 10)
    state.mode = Mode.B
    yield


@case
def getattr_with_a_default():
    o = SimpleNamespace()
    yield lambda x: x * getattr(o, "scale", 2.0)
    o.scale = 3.0
    yield
    del o.scale
    yield


@case
def getattr_with_a_name_that_is_computed():
    o = SimpleNamespace(scale_a=2.0)
    yield lambda x: x * getattr(o, "scale_" + "ab"[0])
    o.scale_a = 3.0
    yield


@case
def getattr_with_a_name_from_a_list():
    o, names = SimpleNamespace(first=2.0, second=3.0), ["first", "second"]
    yield lambda x: x * sum(getattr(o, name) for name in names)
    o.second = 5.0
    yield


@case
def attrgetter():
    o = SimpleNamespace(a=SimpleNamespace(b=2.0))
    get = operator.attrgetter("a.b")
    yield lambda x: x * get(o)
    o.a.b = 3.0
    yield


@case
def hasattr_of_a_class():
    class Own: ...

    yield lambda x: x * (3 if hasattr(Own, "scale") else 2)
    Own.scale = 1
    yield
