"""Libraries that serve one metric or one page, and are installed on request."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pitune.errors import InputError


def need(module: str, extra: str) -> Any:
    """Return a module that comes with an extra of this package, such as `need("sklearn.metrics", "metrics")`.

    Raises `InputError` that says how to install the extra if the library is not there; what fails inside a
    library that is there is raised as it is.
    """
    library = module.partition(".")[0]
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise InputError(
            f'this needs {library}, which is not installed; install it with: pip install "pitune[{extra}]"'
        ) from error
    return import_module(module)
