"""Other libraries' errors inside our own messages."""

_MAX_CHARACTERS = 300


def brief(error: BaseException) -> str:
    """The error's text on one line, cut where it lists too much (torch names every weight that does not fit)."""
    text = " ".join(str(error).split()).rstrip(". ")
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS].rstrip(", ") + " …"
