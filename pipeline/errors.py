"""Every error that a user can cause or meet, and the exit code each one maps to.

    CascadeError
    ├── UsageError            2   the command, a config or a dataset is wrong; nothing was spent
    │   ├── ConfigError       2   names file, line, key, value, rule and remedy
    │   ├── DataError         2   names file, line or row, value, rule and remedy
    │   ├── SpendingRefused   2   a paid run was not confirmed
    │   ├── AccessError       2   the service refused the model or the address (403, 404)
    │   │   └── KeyRefused    2   the service refused the key (401)
    │   └── RunLocked         2   another process works on the same task
    ├── Stopped               3   resumable: the same command goes on where this one stopped
    │   ├── CreditExhausted   3   402
    │   ├── CapReached        3   --max-usd
    │   ├── ProviderDown      3   the service does not answer, or asks to wait for longer than we do
    │   └── DiskFull          3   nothing more is sent while replies cannot be kept
    ├── TooManyFailures       4   more failed rows than max_failure_rate; predictions are written all the same
    ├── NotExportable         5   the policy is not certified, or its models are for demonstration
    ├── PromiseBroken         6   production no longer keeps the promise
    ├── NothingTested         7   `monitor --require-labels`: no label was tested, or some could not be read
    └── Interrupted         130   SIGINT (143 for SIGTERM, 129 for SIGHUP); resumable

The first three classes belong to the runtime (`cascade_threshold.errors`). Anything else that escapes is a bug of ours and ends with exit code 1.
"""

from __future__ import annotations

import signal

from cascade_threshold.errors import CascadeError, DataError, UsageError

__all__ = [
    "AccessError",
    "CapReached",
    "CascadeError",
    "ConfigError",
    "CreditExhausted",
    "DataError",
    "DiskFull",
    "Interrupted",
    "KeyRefused",
    "NotExportable",
    "NothingTested",
    "PromiseBroken",
    "ProviderDown",
    "RunLocked",
    "SpendingRefused",
    "Stopped",
    "TooManyFailures",
    "UsageError",
]


class ConfigError(UsageError):
    """A config breaks a rule."""


class SpendingRefused(UsageError):
    """A run that costs money was not confirmed."""


class AccessError(UsageError):
    """The service refuses the key, the model or the address; a retry would not help."""


class KeyRefused(AccessError):
    """The service refuses the key, whatever is asked."""


class RunLocked(UsageError):
    """Another process holds this task."""


class Stopped(CascadeError):
    """Stopped before the end; the same command resumes."""

    exit_code = 3


class CreditExhausted(Stopped):
    """The account's spending limit is reached (402)."""


class CapReached(Stopped):
    """The next request could exceed --max-usd."""


class ProviderDown(Stopped):
    """The service does not answer, or asks us to wait for longer than the limit."""


class DiskFull(Stopped):
    """Replies can no longer be kept, so none is asked for."""


class TooManyFailures(CascadeError):
    """More failed rows than the config allows: predictions are written, nothing is recommended."""

    exit_code = 4


class NotExportable(CascadeError):
    """The policy may not be exported without an explicit flag."""

    exit_code = 5


class PromiseBroken(CascadeError):
    """The monitored promise no longer holds."""

    exit_code = 6


class NothingTested(CascadeError):
    """Labels were required, and none was tested, or some could not be read."""

    exit_code = 7


class Interrupted(CascadeError):
    """A signal ended the run cleanly; the same command resumes."""

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + int(signum)
