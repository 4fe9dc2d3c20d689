"""Arrays, buffers, text."""

from __future__ import annotations

import array
import ctypes

import numpy as np

import chainrule as cr
from tests.compiler.handed.cases import case


@case
def an_array_of_the_standard_library():
    a = array.array("d", [2.0])
    yield lambda x: x * a[0]
    a[0] = 3.0
    yield
    a.append(1.0)
    a[0] = 4.0
    yield


@case
def a_bytearray():
    b = bytearray(b"\x02")
    yield lambda x: x * b[0]
    b[0] = 3
    yield


@case
def a_memoryview():
    b = bytearray(b"\x02")
    view = memoryview(b)
    yield lambda x: x * view[0]
    b[0] = 3
    yield


@case
def a_numpy_array():
    a = np.array([2.0, 3.0], np.float32)
    yield lambda x: x * cr.tensor(a)
    a[0] = 5.0
    yield
    a += 1
    yield


@case
def a_numpy_array_without_axes():
    a = np.array(2.0)
    yield lambda x: x * float(a)
    a[...] = 3.0
    yield


@case
def a_numpy_array_of_objects():
    a = np.array([2.0, None], object)
    yield lambda x: x * a[0]
    a[0] = 3.0
    yield


@case
def a_large_numpy_array():
    a = np.full(10_000, 2.0)
    yield lambda x: x * float(a[5000])
    a[5000] = 3.0
    yield


@case
def a_structured_array():
    a = np.zeros(1, [("scale", "f8")])
    yield lambda x: x * float(a["scale"][0])
    a["scale"] = 3.0
    yield


@case
def the_shape_of_an_array():
    a = np.zeros((2, 3))
    yield lambda x: x * a.shape[0]
    a.shape = (3, 2)
    yield


@case
def the_dtype_of_an_array():
    a = np.zeros(2, np.float32)
    yield lambda x: x * (2 if a.dtype == np.float32 else 3)
    a.dtype = np.int32
    yield


@case
def a_masked_array():
    a = np.ma.array([2.0, 3.0], mask=[False, False])
    yield lambda x: x * float(a.sum())
    a.mask[0] = True
    yield


@case
def a_numpy_number():
    s = np.float32(2.0)
    yield lambda x: x * s
    s = np.float32(3.0)
    yield


@case
def text_and_bytes():
    name, raw = "ab", b"\x02"
    yield lambda x: x * len(name) + raw[0]
    name = "abc"
    yield
    raw = b"\x07"
    yield


@case
def a_ctypes_number():
    c = ctypes.c_double(2.0)
    yield lambda x: x * c.value
    c.value = 3.0
    yield
