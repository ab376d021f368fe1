"""Errors that the runtime raises. The offline pipeline's tree grows from the same root.

CascadeError
└── UsageError            what the caller gave cannot be used as given
    └── DataError         a policy file or a table breaks a rule: names file, value, rule and remedy
"""

from __future__ import annotations


class CascadeError(Exception):
    """Root of all errors with a message meant for the user."""

    exit_code = 1


class UsageError(CascadeError):
    """The command line, a config, a dataset or a policy cannot be used as given."""

    exit_code = 2


class DataError(UsageError):
    """A dataset, a table or a policy breaks a rule."""
