"""What belongs to the process: environment, files, clocks, modules."""

from __future__ import annotations

import contextvars
import datetime
import math
import os
import pathlib
import tempfile
import threading
import time
import types
import weakref
from time import monotonic_ns

import numpy as np

from tests.compiler.handed.cases import case


@case
def an_environment_variable():
    os.environ["HANDED"] = "2"
    yield lambda x: x * float(os.environ["HANDED"])
    os.environ["HANDED"] = "3"
    yield
    del os.environ["HANDED"]


@case
def an_environment_variable_by_getenv():
    yield lambda x: x * float(os.getenv("HANDED", "2"))
    os.environ["HANDED"] = "3"
    yield
    del os.environ["HANDED"]


@case
def an_environment_variable_by_get():
    yield lambda x: x * float(os.environ.get("HANDED", "2"))
    os.environ["HANDED"] = "3"
    yield
    del os.environ["HANDED"]


@case
def a_context_variable():
    var = contextvars.ContextVar("scale", default=2.0)
    yield lambda x: x * var.get()
    token = var.set(3.0)
    yield
    var.reset(token)
    yield


@case
def a_thread_local():
    local = threading.local()
    local.scale = 2.0
    yield lambda x: x * local.scale
    local.scale = 3.0
    yield


@case
def the_clock():
    yield lambda x: x * time.perf_counter()
    yield


@case
def the_clock_by_its_name():
    yield lambda x: x * (monotonic_ns() % 1e6)
    yield


@case
def the_date():
    yield lambda x: x * datetime.datetime.now().timestamp()
    yield


@case
def a_file():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "scale.txt")
        path.write_text("2")

        def f(x):
            with open(path) as file:
                return x * float(file.read())

        yield f
        path.write_text("3")
        yield


@case
def a_file_by_its_path():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "scale.txt")
        path.write_text("2")
        yield lambda x: x * float(path.read_text())
        path.write_text("3")
        yield


@case
def whether_a_file_is_there():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "flag")
        yield lambda x: x * (3 if os.path.exists(path) else 2)
        path.write_text("3")
        yield


@case
def a_weak_reference():
    class Own:
        scale = 2.0

    o = Own()
    ref = weakref.ref(o)
    yield lambda x: x * ref().scale
    o.scale = 3.0
    yield


@case
def a_weak_dictionary():
    class Own:
        scale = 2.0

    o = Own()
    d = weakref.WeakValueDictionary(o=o)
    yield lambda x: x * d["o"].scale + len(d)
    o.scale = 3.0
    yield


@case
def an_attribute_of_a_standard_module():
    before = math.pi
    yield lambda x: x * math.pi
    math.pi = 3
    try:
        yield
    finally:
        math.pi = before
    yield


@case
def an_attribute_of_a_module_of_ones_own():
    module = types.ModuleType("_settings")
    module.scale, module.inner = 2.0, types.ModuleType("_inner")
    module.inner.scale = 2.0
    yield lambda x: x * module.scale + module.inner.scale
    module.scale = 3.0
    yield
    module.inner.scale = 3.0
    yield


@case
def a_function_of_numpy_rebound():
    before = np.hypot
    yield lambda x: x * float(np.hypot(3, 4))
    np.hypot = lambda a, b: 7.0
    try:
        yield
    finally:
        np.hypot = before
    yield


@case
def the_size_of_a_file():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "flag")
        path.write_text("1")
        yield lambda x: x * path.stat().st_size
        path.write_text("123")
        yield
