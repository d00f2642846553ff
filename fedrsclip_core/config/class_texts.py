"""Class names, their words and their aliases: free text, which Hydra's grammar does not read.

``data.class_names=[...]``, ``data.class_words={...}``, ``data.class_words.NAME=WORDS``, the same of
``data.class_aliases``, and ``data.classes=FILE``, which stands for all three. A name may have any
sign: in single or double quotes it is taken as it is, without them up to the next separator.
``null``, ``true`` and ``1e3`` are text here like everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedrsclip_core.config.class_file import read_class_file
from fedrsclip_core.config.overrides import (
    FREE_MAPPINGS,
    QUOTES,
    key_of,
    quote,
    read_quoted,
    refuse_evaluation,
    split_override,
    unquoted,
)
from fedrsclip_core.config.schema import DataConfig
from fedrsclip_core.config.texts import composed
from fedrsclip_core.errors import ConfigError

FILE_KEY = "data.classes"
"""Names a file of whoever submits; it is read before anything travels."""
NAMES_KEY = "data.class_names"
WORDS_KEY, ALIASES_KEY = FREE_MAPPINGS
_ESCAPED = "\\()[]{}:=, \t"


@dataclass
class ClassTexts:
    """What overrides say of classes.

    Attributes
    ----------
    names : list of str or None
        The classes; ``None`` if no override names them.
    whole : dict[str, dict[str, str]]
        Mappings that are given whole, by key.
    added : dict[str, dict[str, str]]
        Single entries, by key.
    """

    names: list[str] | None = None
    whole: dict[str, dict[str, str]] = field(default_factory=dict)
    added: dict[str, dict[str, str]] = field(default_factory=dict)

    def apply(self, data: DataConfig) -> None:
        """Write them into a configuration, over what its options say.

        Raises
        ------
        ConfigError
            If two names of a mapping are the same in composed Unicode.
        """
        if self.names is not None:
            data.class_names = self.names
        data.class_names = [composed(name) for name in data.class_names]
        for key in FREE_MAPPINGS:
            name = key.partition(".")[2]
            entries = self.whole.get(key, getattr(data, name)) | self.added.get(key, {})
            setattr(data, name, _composed_entries(entries, key))


def take_class_texts(overrides: Sequence[str]) -> tuple[list[str], ClassTexts]:
    """Part the overrides that Hydra reads from those of classes, whose values are read here.

    Raises
    ------
    ConfigError
        If one of them cannot be read. ``data.classes`` must have been replaced before
        (:func:`with_class_file`).
    """
    others: list[str] = []
    found = ClassTexts()
    for override in overrides:
        key, value = split_override(override)
        mapping = next((name for name in FREE_MAPPINGS if key.startswith(f"{name}.")), None)
        if value is None or (mapping is None and key not in (NAMES_KEY, *FREE_MAPPINGS)):
            others.append(override)
        elif key == NAMES_KEY:
            found.names = _texts(key, value)
        elif mapping is None:
            found.whole[key], found.added[key] = _entries(key, value), {}
        else:
            name = key.removeprefix(f"{mapping}.")
            refuse_evaluation(name, mapping)
            found.added.setdefault(mapping, {})[name] = _text(key, value)
    return others, found


def with_class_file(overrides: Sequence[str]) -> list[str]:
    """Replace ``data.classes=FILE`` by what the file says; single entries win over it.

    Raises
    ------
    ConfigError
        If the file cannot be read, or ``data.class_names`` are given beside it.
    """
    files = [text.partition("=")[2] for text in overrides if key_of(text) == FILE_KEY]
    rest = [text for text in overrides if key_of(text) != FILE_KEY]
    if not files or files[-1] in ("", "null"):
        return rest
    for key in (NAMES_KEY, *FREE_MAPPINGS):
        if any(key_of(text) == key for text in rest):
            raise ConfigError(f"{FILE_KEY} and {key} are both given: say it in one place")
    if files[-1][0] in "[{":
        raise ConfigError(f"{FILE_KEY} names a file: give a list of names as {NAMES_KEY}=[...]")
    read = read_class_file(unquoted(files[-1]), FILE_KEY)
    return [
        f"{NAMES_KEY}=[{','.join(map(quote, read.names))}]",
        f"{WORDS_KEY}={_mapping(read.words)}",
        f"{ALIASES_KEY}={_mapping(read.aliases)}",
        *rest,
    ]


def refuse_class_file(overrides: Sequence[str]) -> None:
    """Refuse ``data.classes`` where the file of whoever submitted cannot be.

    Raises
    ------
    ConfigError
        If it is there.
    """
    if any(key_of(text) == FILE_KEY for text in overrides):
        raise ConfigError(
            f"{FILE_KEY} names a file of who submits and does not travel: submit by `fedrsclip "
            f"run` or `fedrsclip submit`, which read it, or give {NAMES_KEY}"
        )


def _text(key: str, value: str) -> str:
    """Read one text."""
    stripped = value.strip()
    if stripped in ("null", ""):
        raise ConfigError(
            f"{key} has no text: leave it out, or put quotes around it, as in {key}=\"'...'\""
        )
    if stripped[0] in "[{":
        raise ConfigError(
            f"{key} must be a text: put quotes around one that begins with {stripped[0]}"
        )
    if stripped[0] in QUOTES:
        with_rest = _Reader(key, stripped)
        text = with_rest.item("")
        with_rest.end()
        return text
    refuse_evaluation(plain := _unescaped(stripped), key)
    return plain


def _texts(key: str, value: str) -> list[str]:
    """Read ``[a,b]``."""
    reader = _Reader(key, value.strip())
    if not reader.takes("["):
        raise ConfigError(f"{key} must be a list of texts, as in {key}=[forest,'sea ice']")
    found: list[str] = []
    while not reader.takes("]"):
        if found:
            reader.expect(",")
        found.append(reader.item(",]"))
    reader.end()
    return found


def _entries(key: str, value: str) -> dict[str, str]:
    """Read ``{a: b, c: d}``."""
    reader = _Reader(key, value.strip())
    if not reader.takes("{"):
        raise ConfigError(
            f"{key} must be a mapping from text to text, as in {key}=\"{{'sea ice': frozen sea}}\""
        )
    found: dict[str, str] = {}
    while not reader.takes("}"):
        if found:
            reader.expect(",")
        name = reader.item(":,}")
        reader.expect(":")
        if name in found:
            raise ConfigError(f"{key} has {name!r} twice")
        found[name] = reader.item(",}")
    reader.end()
    return found


class _Reader:
    """Reads texts one after the other from a value."""

    def __init__(self, key: str, value: str) -> None:
        self._key, self._value, self._at = key, value, 0

    def takes(self, sign: str) -> bool:
        """Step over ``sign`` if it is next."""
        self._skip_blanks()
        there = self._value.startswith(sign, self._at)
        self._at += len(sign) if there else 0
        return there

    def expect(self, sign: str) -> None:
        """Step over ``sign``, which must be next."""
        if not self.takes(sign):
            raise self._unreadable()

    def end(self) -> None:
        """Refuse anything that is left."""
        self._skip_blanks()
        if self._at < len(self._value):
            raise self._unreadable()

    def item(self, separators: str) -> str:
        """Return the text up to one of ``separators``, or the one in quotes."""
        self._skip_blanks()
        next_sign = self._value[self._at : self._at + 1]
        if next_sign and next_sign in QUOTES:
            try:
                text, self._at = read_quoted(self._value, self._at)
            except ValueError:
                raise self._unreadable() from None
        elif next_sign and next_sign in "[{":
            raise self._unreadable()
        else:
            text = self._plain(separators)
        refuse_evaluation(text, self._key)
        return text

    def _plain(self, separators: str) -> str:
        start = self._at
        while self._at < len(self._value) and self._value[self._at] not in separators:
            self._at += 2 if self._value[self._at] == "\\" else 1
        if self._at >= len(self._value):
            raise self._unreadable()
        text = self._value[start : self._at].strip()
        if not text:
            raise self._unreadable()
        return _unescaped(text)

    def _skip_blanks(self) -> None:
        while self._value[self._at : self._at + 1].isspace():
            self._at += 1

    def _unreadable(self) -> ConfigError:
        return ConfigError(
            f"the value of {self._key} cannot be read from its character {self._at + 1}: put "
            "single quotes around names and words with commas, colons, brackets, quotes or blanks "
            "at an end"
        )


def _unescaped(text: str) -> str:
    """Return a text without quotes, in which a backslash may stand before a sign of the grammar."""
    parts, at = [], 0
    while at < len(text):
        escape = text[at] == "\\" and text[at + 1 : at + 2] in (*_ESCAPED,)
        at += 1 if escape else 0
        parts.append(text[at])
        at += 1
    return "".join(parts)


def _mapping(entries: dict[str, str]) -> str:
    return "{" + ",".join(f"{quote(name)}:{quote(text)}" for name, text in entries.items()) + "}"


def _composed_entries(entries: dict[str, str], key: str) -> dict[str, str]:
    found = {composed(name): composed(text) for name, text in entries.items()}
    if len(found) < len(entries):
        raise ConfigError(f"{key} has one name in two forms of Unicode, composed and decomposed")
    return found
