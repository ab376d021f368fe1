"""Fixtures of the tests of collecting."""

from asking import ask, store

__all__ = ["ask", "store"]
