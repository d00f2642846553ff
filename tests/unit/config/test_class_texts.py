"""Classes with any name: by overrides, by a file, and the same however they are given."""

import unicodedata
from pathlib import Path

import pytest

from fedrsclip.run.submission import submission
from fedrsclip_core.config.compose import (
    OVERRIDES_KEY,
    compose,
    from_run_config,
    to_run_config,
)
from fedrsclip_core.config.overrides import join_overrides, key_of, quote, split_override
from fedrsclip_core.config.resolved import from_json, to_json
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit

NAMES = [
    "sea ice",
    "Straße",
    "Moor- & Heideland",
    "农田",
    "50 % forest",
    "v1.0",
    "a=b",
    "#1 road",
    "[red]",
    "{x}",
    "null",
    "~",
    "true",
    "no",
    "1e3",
    "007",
    "2026-11-26",
    "C:\\tiles\\",
    "it's",
    'say "tree"',
    "a, b: c",
    " padded ",
    "*star",
    "&co",
    "!tag",
    "- dash",
    "'t Harde",
    "🌲",
    "غابة",
]


def _file(folder: Path, text: str) -> str:
    file = folder / "classes.yaml"
    file.write_text(text, encoding="utf-8")
    return f"data.classes={file}"


def _mapping(entries: dict[str, str]) -> str:
    return "{" + ", ".join(f"{quote(name)}: {quote(text)}" for name, text in entries.items()) + "}"


def _yaml(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_classes_of_any_name_have_words_and_aliases(tmp_path: Path) -> None:
    """By single entries, by whole mappings and by a file: the same configuration, also sent."""
    words = {name: f"what {name}" for name in NAMES}
    aliases = {f"old {name}": name for name in NAMES}
    names = f"data.class_names=[{','.join(map(quote, NAMES))}]"
    entries = [
        *(f"data.class_words.{quote(name)}={quote(text)}" for name, text in words.items()),
        *(f"data.class_aliases.{quote(name)}={quote(text)}" for name, text in aliases.items()),
    ]
    whole = [f"data.class_words={_mapping(words)}", f"data.class_aliases={_mapping(aliases)}"]
    text = "".join(
        f"{_yaml(name)}: {{words: {_yaml(words[name])}, aliases: [{_yaml('old ' + name)}]}}\n"
        for name in NAMES
    )
    config = compose([_file(tmp_path, text), "data=folder"])
    for given in (entries, whole):
        assert compose([names, *given, "data=folder"]) == config
    data = config.data
    assert (data.class_names, data.class_words, data.class_aliases) == (NAMES, words, aliases)
    assert from_json(to_json(config)) == config
    sent = join_overrides([names, *entries, "data=folder"])
    assert from_run_config({OVERRIDES_KEY: sent}) == config


@pytest.mark.parametrize(
    ("override", "name", "words"),
    [
        ("data.class_words.sea ice=frozen sea", "sea ice", "frozen sea"),
        ("+data.class_words.Straße=street", "Straße", "street"),
        ("data.class_words.v1.0=one", "v1.0", "one"),
        ("data.class_words.'a=b'=either, or", "a=b", "either, or"),
        ('data.class_words."a\'b"=x', "a'b", "x"),
        ("data.class_words.'t Harde=a town", "'t Harde", "a town"),
        ("data.class_words.null='null'", "null", "null"),
        ("data.class_words.forest=1e3", "forest", "1e3"),
        ("data.class_words.forest=true", "forest", "true"),
        ("data.class_words={a b: c d}", "a b", "c d"),
        ("data.class_words={1: one}", "1", "one"),
        (r"data.class_words={a\:b: c\,d}", "a:b", "c,d"),
    ],
)
def test_names_and_words_need_quotes_only_where_they_are_unclear(
    override: str, name: str, words: str
) -> None:
    assert compose([override]).data.class_words == {name: words}


def test_plain_scalars_of_a_file_are_text(tmp_path: Path) -> None:
    text = "- no\n- on\n- 1e3\n- 0x1F\n- null\n- ~\n- 12:30:45\n- 2026-11-26\n- sea ice\n- v1.0\n"
    names = compose([_file(tmp_path, "\ufeff" + text), "data=folder"]).data.class_names
    assert names == text.removeprefix("- ").strip().split("\n- ")
    mapping = "null: nothing\nyes: 'null'\nforest: null\nriver: ~\nlake:\n"
    data = compose([_file(tmp_path, mapping), "data=folder"]).data
    assert data.class_names == ["null", "yes", "forest", "river", "lake"]
    assert data.class_words == {"null": "nothing", "yes": "null"}


def test_composed_and_decomposed_names_are_one(tmp_path: Path) -> None:
    apart, whole = (unicodedata.normalize(form, "Straßenbäume") for form in ("NFD", "NFC"))
    assert apart != whole
    expected = compose([f"data.class_names=[{whole},x]", f"data.class_words.{whole}=trees"])
    assert compose([f"data.class_names=[{apart},x]", f"data.class_words.{apart}=trees"]) == expected
    assert compose([f"data.class_names=[{whole},x]", f"data.class_words.{apart}=trees"]) == expected
    assert compose([_file(tmp_path, f"{apart}: trees\nx:\n")]) == expected
    with pytest.raises(ConfigError, match="twice"):
        compose([f"data.class_names=[{apart},{whole}]"])
    with pytest.raises(ConfigError, match="two forms"):
        compose([f"data.class_words={{{apart}: a, {whole}: b}}"])
    with pytest.raises(ConfigError, match="NFC"):
        from_json(to_json(expected).replace("\\u00e4", "a\\u0308"))


def test_a_whole_mapping_replaces_and_a_single_entry_is_added() -> None:
    union = compose(["data=union"]).data.class_aliases
    assert compose(["data=union", "data.class_aliases={lake2: lake}"]).data.class_aliases == {
        "lake2": "lake"
    }
    assert compose(["data=union", "data.class_aliases.lake2=lake"]).data.class_aliases == {
        **union,
        "lake2": "lake",
    }
    assert compose(["data=union", "data.class_aliases={}"]).data.class_aliases == {}


def test_a_file_stands_for_names_words_and_aliases(tmp_path: Path) -> None:
    """Nothing of the option's own classes is left, and what travels no longer names the file."""
    override = _file(tmp_path, "forest: {aliases: [wood, Wald]}\nsea ice: frozen sea\n")
    data = compose(["data=union", override, "data.class_words.forest=trees"]).data
    assert data.class_names == ["forest", "sea ice"]
    assert data.class_words == {"sea ice": "frozen sea", "forest": "trees"}
    assert data.class_aliases == {"wood": "forest", "Wald": "forest"}
    sent = submission(["data=folder", override, "run.name=a"])
    assert not any("classes.yaml" in text for text in sent.overrides)
    (tmp_path / "classes.yaml").unlink()
    assert compose(sent.overrides) == sent.config
    assert from_run_config(to_run_config(sent.config, sent.overrides)) == sent.config
    with pytest.raises(ConfigError, match=r"data\.classes names a file of who submits"):
        from_run_config({OVERRIDES_KEY: override})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing", "is empty"),
        ("[]", "names no classes"),
        ("forest", "line 1: write a list of names"),
        ("- forest\n- river\n- forest", "line 3: 'forest' is there twice"),
        ("forest: a\nforest: b", "line 2: 'forest' is there twice"),
        ("- [a, b]", "line 1: a name must be a text"),
        ("- ''", "line 1: a name is empty"),
        ("forest: [a, b]", "line 1: what is said of 'forest' must be a text"),
        ("forest:\n  word: trees", "line 2: 'forest' has 'word': say words and aliases"),
        ("forest:\n  aliases: wood", "line 2: the aliases of 'forest' must be a list"),
        ("a:\n  aliases: [x]\nb:\n  aliases: [x]", "line 4: the alias 'x' is there twice"),
        ("- &co", "line 1: a name is empty"),
        ("- *star", "is no YAML"),
        ("- %\n\t- x", "is no YAML"),
        ("- a\n---\n- b", "is no YAML"),
        ("[" * 5000, "is no YAML"),
    ],
)
def test_a_wrong_file_is_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([_file(tmp_path, text), "data=folder"])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for value, words in (
        (tmp_path / "no.yaml", "there is no file of classes at"),
        (tmp_path, "cannot be read (Is a directory)"),
        ("[forest,river]", r"data.class_names=[...]"),
    ):
        with pytest.raises(ConfigError) as caught:
            compose([f"data.classes={value}", "data=folder"])
        assert words in str(caught.value)
    (tmp_path / "latin").write_bytes("Stra\xdfe".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not UTF-8"):
        compose([f"data.classes={tmp_path / 'latin'}", "data=folder"])
    with pytest.raises(ConfigError, match=r"data\.classes and data\.class_names are both given"):
        compose([_file(tmp_path, "- a"), "data.class_names=[a,b]"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.class_words.forest=null", "data.class_words.forest has no text"),
        ("data.class_words.forest=", "data.class_words.forest has no text"),
        ("data.class_words.forest=[a]", "must be a text"),
        ("data.class_words.forest={a: b}", "must be a text"),
        ("data.class_words.forest='a", "cannot be read"),
        ("data.class_words={a: {b: c}}", "cannot be read"),
        ("data.class_words={a}", "cannot be read"),
        ("data.class_words={a: b", "cannot be read"),
        ("data.class_words={a: b, a: c}", "'a' twice"),
        ("data.class_words=null", "a mapping from text to text"),
        ("data.class_names=null", "a list of texts"),
        ("data.class_names=[a,[b]]", "cannot be read"),
        ("data.class_names=[a,,b]", "cannot be read"),
        ("data.class_names=[a,'b]", "cannot be read"),
        ("data.class_names=[a,b] c", "cannot be read"),
        ("data.class_names=[a,' ']", "empty name"),
        ("data.class_words.a.b=c", "data.class_words has 'a.b', which is not in"),
        ("data.class_words.a\tb=c", "control characters"),
        ("data.class_words.${seed}=c", "holds ${"),
        (r"data.class_words={$\{seed\}: c}", "holds ${"),
    ],
)
def test_what_is_unclear_is_refused_in_one_sentence(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["data=uc_merced", override])
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_key_of_an_entry_is_its_name_however_it_is_quoted(name: str) -> None:
    text = f"data.class_words.{quote(name)}=x = y"
    assert split_override(text) == (f"data.class_words.{name}", "x = y")
    assert key_of(f"+{text}") == f"data.class_words.{name}"
