"""The errors that are the reader's to mend; the command line turns each into one line and exit status 2."""


class InputError(ValueError):
    """What was given cannot be used.

    The message says in one line what was found, what was expected, and what to do.
    Whoever raises it leaves every file as it was.
    """
