"""The federation's class names as far as the server knows them."""

from fedrsclip_core.config.schema import DataConfig


def class_names(data: DataConfig) -> list[str]:
    """Return the class names in order; empty if only the sites' folders tell them."""
    if data.class_names or data.name != "demo_scenes":
        return list(data.class_names)
    from fedrsclip_core.demo.scenes import CLASS_NAMES

    return list(CLASS_NAMES)


def class_words(data: DataConfig) -> list[str]:
    """Return what the text encoder reads for each class name."""
    from fedrsclip_core.data.names import words_for

    return list(words_for(class_names(data), data.class_words))
