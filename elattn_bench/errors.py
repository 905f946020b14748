"""The errors that a user can meet; each message says the rule, what came and what to do."""

from __future__ import annotations


class ElattnError(Exception):
    """Something went wrong that is not a bug; printed without a traceback."""

    exit_code = 1


class UsageError(ElattnError):
    """The command line or the config file asks for something that makes no sense."""

    exit_code = 2


class RunDirError(ElattnError):
    """A run directory cannot be read, written or continued."""


class MissingData(ElattnError):
    """A data set is not on this machine, or is not the one that it should be; the message says what gives it."""


class WorkerError(ElattnError):
    """The worker process cannot be started."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM: leave in order, keep what is measured. Not an Exception: nothing may swallow it."""

    exit_code = 130
