"""A file of classes: ``data.classes=classes.yaml``.

A list of names, or a mapping from each name to its words, or to ``{words: ..., aliases: [...]}``.
Every scalar is text: ``no``, ``on``, ``1e3`` and ``null`` are names as they are written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

if TYPE_CHECKING:
    from yaml.nodes import Node  # type: ignore[import-untyped]

_LARGEST = 2**20
_PARTS = ("words", "aliases")


@dataclass
class ClassFile:
    """What a file says.

    Attributes
    ----------
    names : list of str
        The classes in their order.
    words : dict[str, str]
        Words of those that have some.
    aliases : dict[str, str]
        Classes by their other names.
    """

    names: list[str] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def read_class_file(name: str, key: str) -> ClassFile:
    """Read a file of classes.

    Parameters
    ----------
    name : str
        The file, relative to the working directory or not.
    key : str
        The key that names it, for sentences.

    Raises
    ------
    ConfigError
        If it is not there, is no YAML, or says anything else; with the line.
    """
    file = paths.place(name, key)
    root = _parsed(file)
    found = ClassFile()
    try:
        for node, about in _classes(root):
            class_name = _text(node, "a name")
            if class_name in found.names:
                raise _WrongError(node, f"{class_name!r} is there twice")
            found.names.append(class_name)
            _enter(found, class_name, about)
    except _WrongError as error:
        raise ConfigError(f"{file}, line {error.line}: {error}") from None
    if not found.names:
        raise ConfigError(f"{file} names no classes: write a list of names, or name: words")
    return found


class _WrongError(Exception):
    """Something in the file is not as it must be."""

    def __init__(self, node: "Node", words: str) -> None:
        super().__init__(words)
        self.line = node.start_mark.line + 1


def _parsed(file: Path) -> "Node":
    import yaml  # type: ignore[import-untyped]

    try:
        if file.stat().st_size > _LARGEST:
            raise ConfigError(f"{file} has more than a MiB: a file of classes has a line for each")
        text = file.read_bytes().decode("utf-8-sig")
        root = yaml.compose(text, yaml.SafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"there is no file of classes at {file}") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8: save it in that encoding") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ConfigError(
            f"{file}{line} is no YAML: write a list of names, or name: words, with quotes around "
            "what begins with a special sign"
        ) from error
    if root is None:
        raise ConfigError(f"{file} is empty: write a list of names, or name: words")
    return root


def _classes(root: "Node") -> Iterator[tuple["Node", "Node | None"]]:
    """Yield the node of each class, and the one of what is said about it."""
    from yaml.nodes import MappingNode, SequenceNode

    if isinstance(root, SequenceNode):
        for node in root.value:
            yield node, None
    elif isinstance(root, MappingNode):
        yield from root.value
    else:
        raise _WrongError(root, "write a list of names (- forest), or name: words")


def _enter(found: ClassFile, class_name: str, about: "Node | None") -> None:
    from yaml.nodes import MappingNode

    if about is None or _is_nothing(about):
        return
    if not isinstance(about, MappingNode):
        found.words[class_name] = _text(about, f"what is said of {class_name!r}")
        return
    given: dict[str, Node] = {}
    for key_node, value in about.value:
        part = _text(key_node, "a key")
        if part not in _PARTS or part in given:
            raise _WrongError(
                key_node, f"{class_name!r} has {part!r}: say words and aliases, each once"
            )
        given[part] = value
    if "words" in given and not _is_nothing(given["words"]):
        found.words[class_name] = _text(given["words"], f"the words of {class_name!r}")
    if "aliases" in given and not _is_nothing(given["aliases"]):
        for alias in _items(given["aliases"], class_name):
            text = _text(alias, f"an alias of {class_name!r}")
            if text in found.aliases:
                raise _WrongError(alias, f"the alias {text!r} is there twice")
            found.aliases[text] = class_name


def _items(node: "Node", class_name: str) -> list["Node"]:
    from yaml.nodes import SequenceNode

    if not isinstance(node, SequenceNode):
        raise _WrongError(node, f"the aliases of {class_name!r} must be a list")
    return list(node.value)


def _text(node: "Node", what: str) -> str:
    from yaml.nodes import ScalarNode

    if not isinstance(node, ScalarNode):
        raise _WrongError(node, f"{what} must be a text")
    if not node.value.strip():
        raise _WrongError(node, f"{what} is empty")
    return str(node.value)


def _is_nothing(node: "Node") -> bool:
    """Whether a value is left out, or is YAML's null without quotes."""
    return node.tag == "tag:yaml.org,2002:null" and node.style is None
