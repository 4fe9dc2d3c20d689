"""Searches for faults that nobody has thought of: random cases beside an implementation that is not ours.

Each hunts a few seeds in the test suite and many as a program: ``python -m tests.hunters.programs --count 3000``.
"""
