"""Which columns of a data set hold image and class, and what the classes of its rows are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedrsclip_core.data.hub.split_names import as_listed
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, Features  # type: ignore[import-untyped]

_LABELS = (
    "label", "labels", "class", "classes", "category", "categories", "target", "targets", "cls",
    "scene", "scene_class", "land_use", "landuse", "land_cover", "landcover",
)  # fmt: skip
_LABEL_NAMES = ("class_name", "label_name", "category_name", "class_label", "label_text")
_NAMES_OF = ("{}_name", "{}_names", "{}_text", "text_{}", "{}_str", "{}_string", "{}name")
"""How a column is called that has in words what column ``{}`` has in numbers."""
_IMAGES = (
    "image", "img", "images", "picture", "photo", "pixels", "jpg", "jpeg", "png", "tif", "tiff",
)  # fmt: skip
_PATHS = ("image_path", "img_path", "file_name", "filename", "file", "path", "filepath")
_SEPARATOR = "."
SPLIT_COLUMNS = ("split", "subset", "partition")
"""How a column is called that says of each row of which split it is."""


def find_columns(
    features: "Features", image_column: str | None, label_column: str | None, where: str
) -> tuple[str, str]:
    """Return the columns of image and class: those asked for, or the only ones that can be meant.

    A field inside a column is called ``<column>.<field>``.

    Parameters
    ----------
    features : Features
        The data set's columns.
    image_column, label_column : str or None
        ``None``: to be found.
    where : str
        The data set, for error sentences.

    Raises
    ------
    DataError
        If there is no such column, it cannot hold what it should, or several could be meant.
    """
    flat = dict(_flat(features))
    image = image_column or _the_image(flat, where)
    label = label_column or _the_label(flat, image, where)
    for key, column in (("image", image), ("label", label)):
        if column not in flat:
            raise DataError(
                f"{where} has no column {column!r}: set data.{key}_column to one of "
                f"{as_listed(list(features))}"
            )
    if not (_holds_images(flat[image]) or _is_text(flat[image])):
        raise DataError(f"column {image!r} of {where} holds no images: correct data.image_column")
    if not _holds_labels(flat[label]):
        raise DataError(
            f"column {label!r} of {where} holds neither class names nor numbers: correct "
            "data.label_column"
        )
    return image, label


def labels_of(split: "Dataset", column: str, where: str) -> list[str | None]:
    """Return the class of each row as text, ``None`` for a row without; numbers as digits.

    Parameters
    ----------
    split : Dataset
        The rows.
    column : str
        Holds classes, or lists of one class each.
    where : str
        The data set, for error sentences.

    Raises
    ------
    DataError
        If a row has several classes, or a number that is not whole.
    """
    names = declared_names(split, column)
    return [_label(value, names, column, where) for value in values_of(split, column)]


def declared_names(split: "Dataset", column: str) -> list[str]:
    """Return the classes that a column declares, in its order; empty if it declares none."""
    return _declared(_single(dict(_flat(split.features))[column]))


def named_beside(
    split: "Dataset", column: str, labels: Sequence[str | None]
) -> dict[str, str] | None:
    """Return the names of numbered classes, if a column beside has exactly one for each.

    Parameters
    ----------
    split : Dataset
        The rows.
    column : str
        Holds the numbers.
    labels : Sequence[str or None]
        What it holds.
    """
    flat = dict(_flat(split.features))
    named = _names_beside(column)
    for beside in (name for name in flat if name.lower() in named and _is_name(flat[name])):
        pairs = set(zip(labels, labels_of(split, beside, ""), strict=True))
        known = {number: name for number, name in pairs if number is not None and name}
        if known and len(known) == len(pairs) == len(set(known.values())):
            return known
    return None


def values_of(split: "Dataset", column: str) -> list[Any]:
    """Return the values of a column, or of a field inside one."""
    outer = outer_column(column, split.column_names)
    table = split.select_columns([outer]).with_format("arrow")[:]
    return values_in(table.column(0).to_pylist(), column, split.column_names)


def outer_column(column: str, columns: Sequence[str]) -> str:
    """Return the column in which a field is, or the column itself."""
    return column if column in columns else column.partition(_SEPARATOR)[0]


def labels_beside(features: "Features", label: str) -> list[str]:
    """Return the columns that may say what an image is: its class, a name of it, and its split.

    Parameters
    ----------
    features : Features
        The data set's columns.
    label : str
        The column of the class.
    """
    outer = outer_column(label, list(features))
    known = {*_names_beside(label), *SPLIT_COLUMNS}
    return [name for name in features if name == outer or name.lower() in known]


def values_in(values: list[Any], column: str, columns: Sequence[str]) -> list[Any]:
    """Return of each value of the outer column the field that ``column`` names.

    Parameters
    ----------
    values : list[Any]
        Of the column itself, or of the one that the field is in.
    column : str
        The column, or ``<column>.<field>``.
    columns : Sequence[str]
        The data set's columns.
    """
    for field in () if column in columns else column.split(_SEPARATOR)[1:]:
        values = [None if value is None else value.get(field) for value in values]
    return values


def holds_names(features: "Features", column: str) -> bool:
    """Whether a column holds names, as text or declared."""
    return _is_name(dict(_flat(features))[column])


def holds_paths(features: "Features", column: str) -> bool:
    """Whether a column holds text, which for an image is its path."""
    return _is_text(_single(dict(_flat(features))[column]))


def pixel_type(features: "Features", column: str) -> str:
    """Return the type of the numbers if a column holds pixels; empty if it holds files or paths."""
    feature = dict(_flat(features))[column]
    if not _depth(feature):
        return ""
    while _is_list(feature):
        feature = _element(feature)
    return str(feature.dtype)


def _names_beside(column: str) -> list[str]:
    return [pattern.format(column) for pattern in _NAMES_OF] + list(_LABEL_NAMES)


def _flat(features: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, feature in features.items():
        yield f"{above}{name}", feature
        if isinstance(feature, dict) and not _is_file(feature):
            yield from _flat(feature, f"{above}{name}{_SEPARATOR}")


def _the_image(flat: Mapping[str, Any], where: str) -> str:
    if "image" in flat and (_holds_images(flat["image"]) or _is_text(flat["image"])):
        return "image"
    # Lists of lists may be boxes, too.
    found = [name for name, f in flat.items() if _holds_images(f) and _depth(f) != 2]
    by_name = [name for name, f in flat.items() if name.lower() in _IMAGES and _holds_images(f)]
    paths = [n for n, f in flat.items() if _is_text(f) and n.lower() in _IMAGES + _PATHS]
    found = by_name if len(by_name) == 1 else found
    return _the_only(found or paths, list(flat), "image", where)


def _the_label(flat: Mapping[str, Any], image: str, where: str) -> str:
    if "label" in flat and _holds_labels(flat["label"]):
        return "label"
    fitting = {name: f for name, f in flat.items() if name != image and _holds_labels(f)}
    last = {name: name.rpartition(_SEPARATOR)[2].lower() for name in fitting}
    by_name = [name for name in fitting if last[name] in _LABELS]
    declared = [name for name, feature in fitting.items() if _declared(_single(feature))]
    if len(by_name) == 1 and by_name[0] in declared:
        return by_name[0]
    found = list(dict.fromkeys([*declared, *by_name]))
    in_words = [name for name in fitting if last[name] in _LABEL_NAMES]
    others = [name for name in flat if name != image]
    return _the_only(found or in_words, others, "label", where)


def _the_only(found: Sequence[str], others: Sequence[str], key: str, where: str) -> str:
    if len(found) == 1:
        return found[0]
    what = "an image" if key == "image" else "a class"
    none = f"no column of {where} plainly holds {what}"
    several = f"several columns of {where} could hold {what}"
    candidates = list(dict.fromkeys(found or others))
    if not candidates:
        raise DataError(f"{where} has no column beside the image that could hold {what}")
    raise DataError(
        f"{several if found else none}: set data.{key}_column to one of {as_listed(candidates)}"
    )


def _label(value: Any, names: Sequence[str], column: str, where: str) -> str | None:
    if isinstance(value, list):
        if len(value) > 1:
            raise DataError(
                f"column {column!r} of {where} has rows with {len(value)} classes, but here an "
                "image is of one class: choose another data.label_column, or another data set"
            )
        value = value[0] if value else None
    if value is None or value == "" or value != value:  # NaN is what a table has for nothing
        return None
    if isinstance(value, str):
        return value
    if int(value) != value:
        raise DataError(
            f"column {column!r} of {where} has {value}, which is no class: correct "
            "data.label_column"
        )
    if value < 0:
        return None
    return names[int(value)] if names else str(int(value))


def _declared(feature: Any) -> list[str]:
    return list(getattr(feature, "names", None) or ())


def _single(feature: Any) -> Any:
    return _element(feature) if _is_list(feature) else feature


def _element(feature: Any) -> Any:
    return feature[0] if isinstance(feature, list) else feature.feature


def _is_list(feature: Any) -> bool:
    return isinstance(feature, list) or type(feature).__name__ in ("List", "LargeList", "Sequence")


def _dtype(feature: Any) -> str:
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else ""


def _is_text(feature: Any) -> bool:
    return _dtype(feature) in ("string", "large_string")


def _is_name(feature: Any) -> bool:
    return _is_text(feature) or bool(_declared(feature))


def _holds_labels(feature: Any) -> bool:
    one = _single(feature)
    number = _dtype(one).startswith(("int", "uint", "bool", "float"))
    return _is_name(one) or number


def _is_file(feature: Any) -> bool:
    """Whether it is an image as the library stores it, or a table that had one."""
    plain = isinstance(feature, dict) and {"bytes", "path"} == set(feature)
    return plain or type(feature).__name__ == "Image"


def _holds_images(feature: Any) -> bool:
    one = _single(feature)
    pixels = _depth(feature) in (2, 3)
    return _is_file(one) or pixels or _dtype(one) in ("binary", "large_binary")


def _depth(feature: Any) -> int:
    """How many lists of numbers are in each other; 0 if there is anything else inside."""
    if type(feature).__name__ in ("Array2D", "Array3D"):
        return len(feature.shape)
    depth = 0
    while _is_list(feature):
        feature, depth = _element(feature), depth + 1
    return depth if _dtype(feature).startswith(("int", "uint", "float")) else 0
