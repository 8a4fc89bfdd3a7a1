"""What the library raises for its callers to tell apart."""


class InputError(Exception):
    """A wrong value, file or machine, told in one line: what was found, what was expected, what to do."""


class Stopped(Exception):  # noqa: N818  # not an error
    """A training ended early because it was asked to; the message says where."""


class WorkerError(Exception):
    """A worker of a data-parallel training died; the message names it and its log."""
