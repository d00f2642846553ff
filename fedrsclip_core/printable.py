"""Text of strangers, before a person or a terminal reads it."""

LONGEST_LINE = 10_000


def printable(text: str, longest: int = LONGEST_LINE) -> str:
    r"""Return text that cannot steer a terminal or flood a log.

    What is not printable (control signs, line ends, bidirectional and invisible marks) is written
    as its escape, ``\x1b``, and what is too long is cut.

    Parameters
    ----------
    text : str
        Of any origin and length.
    longest : int
        Characters of the result, without the note that it was cut.
    """
    shown = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode()
        for sign in text[:longest]
    )
    if max(len(text), len(shown)) <= longest:
        return shown
    return f"{shown[:longest]}... ({len(text)} characters)"


def printable_lines(text: str) -> str:
    """Return a text of several lines, each of which is printable."""
    return "\n".join(map(printable, text.split("\n")))
