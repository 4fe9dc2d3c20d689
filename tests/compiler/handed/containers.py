"""Containers, of Python's own kinds and others."""

from __future__ import annotations

import collections
import types
from types import SimpleNamespace
from typing import Any

from tests.compiler.handed.cases import case


@case
def a_dict_by_get():
    d = {}
    yield lambda x: x * d.get("scale", 2.0)
    d["scale"] = 3.0
    yield


@case
def a_default_dict():
    d = collections.defaultdict(lambda: 2.0)
    yield lambda x: x * d.get("a", 2.0)
    d["a"] = 3.0
    yield
    d["a"] = 4.0
    yield


@case
def the_factory_of_a_default_dict():
    d = collections.defaultdict(lambda: 2.0)

    def f(x):
        return x * d.copy()["a"]

    yield f
    d.default_factory = lambda: 3.0
    yield


@case
def an_ordered_dict_moved():
    d = collections.OrderedDict(a=2.0, b=3.0)
    yield lambda x: x * next(iter(d.values()))
    d.move_to_end("a")
    yield
    d["b"] = 7.0
    yield


@case
def a_counter():
    c = collections.Counter("ab")
    yield lambda x: x * c["a"]
    c["a"] += 1
    yield


@case
def a_chain_map():
    first, second = {}, {"scale": 2.0}
    chain = collections.ChainMap(first, second)
    yield lambda x: x * chain["scale"]
    second["scale"] = 3.0
    yield
    first["scale"] = 4.0
    yield
    chain.maps.insert(0, {"scale": 5.0})
    yield


@case
def user_dict_and_user_list():
    d, many = collections.UserDict(a=2.0), collections.UserList([1.0])
    yield lambda x: x * d["a"] + many[0]
    d["a"] = 3.0
    yield
    many[0] = 2.0
    yield


@case
def a_deque():
    q = collections.deque([2.0, 3.0], maxlen=2)
    yield lambda x: x * q[-1]
    q.append(4.0)
    yield


@case
def a_mapping_proxy():
    d = {"a": 2.0}
    proxy = types.MappingProxyType(d)
    yield lambda x: x * proxy["a"]
    d["a"] = 3.0
    yield


@case
def views_of_a_dict():
    d = {"a": 2.0}
    values = d.values()
    yield lambda x: x * sum(values)
    d["a"] = 3.0
    yield
    d["b"] = 3.0
    yield


@case
def iterating_over_a_dict():
    d = {"a": 2.0}

    def f(x):
        for key, value in d.items():
            x = x * value + len(key)
        return x

    yield f
    d["bcd"] = 1.0
    yield


@case
def the_length_of_a_list():
    many = [1]
    yield lambda x: x * len(many)
    many.append(2)
    yield


@case
def membership_in_a_set():
    names = {"a"}
    yield lambda x: x * (3 if "b" in names else 2)
    names.add("b")
    yield


@case
def membership_in_a_long_list():
    many = list(range(1000))
    yield lambda x: x * (3 if 999 in many else 2)
    many.pop()
    yield


@case
def an_item_of_a_long_list():
    many = [2.0] * 1000
    yield lambda x: x * many[500]
    many[500] = 3.0
    yield


@case
def an_item_of_a_long_dict():
    d = dict.fromkeys(range(1000), 2.0)
    yield lambda x: x * d[500]
    d[500] = 3.0
    yield


@case
def an_object_in_a_long_list():
    many = [SimpleNamespace(scale=2.0) for _ in range(100)]
    yield lambda x: x * many[50].scale
    many[50].scale = 3.0
    yield


@case
def a_frozen_set_in_a_variable():
    names = frozenset("a")
    yield lambda x: x * (3 if "b" in names else 2)
    names = frozenset("ab")
    yield


@case
def a_tuple_of_lists():
    t = ([2.0], [3.0])
    yield lambda x: x * t[1][0]
    t[1][0] = 4.0
    yield


@case
def a_subclass_of_dict_with_attributes():
    class Config(dict):
        __getattr__ = dict.__getitem__

    c = Config(scale=2.0)
    yield lambda x: x * c.scale
    c["scale"] = 3.0
    yield


@case
def an_attribute_of_a_subclass_of_list():
    class Many(list):
        pass

    m = Many([1.0])
    m.scale = 2.0
    yield lambda x: x * m.scale
    m.scale = 3.0
    yield


@case
def a_list_that_holds_itself():
    many: list[Any] = [2.0]
    many.append(many)
    yield lambda x: x * many[1][1][0]
    many[0] = 3.0
    yield


@case
def a_container_of_ones_own():
    class Ring:
        def __init__(self, items):
            self.items = items

        def __getitem__(self, i):
            return self.items[i % len(self.items)]

        def __len__(self):
            return len(self.items)

        def __iter__(self):
            return iter(self.items)

        def __contains__(self, item):
            return item in self.items

    r = Ring([1.0, 2.0])
    yield lambda x: x * r[3] + len(r) + sum(r) + (3.0 in r)
    r.items.append(3.0)
    yield


@case
def an_equal_item_of_another_kind():
    many = [2, 1]
    yield lambda x: x * (2 if isinstance(many[0], int) else 3)
    many[0] = 2.0
    yield
