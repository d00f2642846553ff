"""Which text can be a name or a word: what can be written to any file and printed anywhere."""

import unicodedata


def is_plain(text: str) -> bool:
    """Whether text has no control character, no half of a character and nothing invisible.

    Blanks of any width are plain; a folder's name that is not UTF-8 is not.
    """
    return text.isprintable() or all(
        sign.isprintable() or unicodedata.category(sign) == "Zs" for sign in text
    )


def composed(text: str) -> str:
    """Return text in Unicode's composed form (NFC), by which equal-looking names compare equal.

    A Mac writes the names of files decomposed: an umlaut as a vowel and a mark.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)
