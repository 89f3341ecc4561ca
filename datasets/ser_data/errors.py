"""The one kind of error that a command shows as a message and not as a traceback."""


class UserError(Exception):
    """Something a user caused and can mend.

    The message is complete as it stands: what came in, what is accepted, and what to do next.
    Commands print it after ``error:`` and exit with 2.
    """
