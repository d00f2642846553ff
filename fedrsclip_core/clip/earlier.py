"""How versions before 0.2 named a CLIP: by the bytes of its files. To be removed in 1.0.

Shared prompts, private files and benchmarks that they wrote are still known by it.
"""

import json
from pathlib import Path

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.folder_files import read_object
from fedrsclip_core.clip.preprocessing import FILES
from fedrsclip_core.clip.weights import weight_files
from fedrsclip_core.runs.fileio import sha256_of, sha256_of_file

_TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt")


def same_clip(files: ClipFiles, digest: str) -> bool:
    """Whether a digest, of this version or an earlier one, is this CLIP's."""
    return digest == files.digest or digest == earlier_digest(files.folder)


def earlier_digest(folder: Path) -> str:
    """Return the digest that an earlier version gave; empty if it could not read the folder."""
    file = folder / FILES[1]
    if not file.is_file():
        return ""
    settings = json.dumps(read_object(file), sort_keys=True)
    return sha256_of(earlier_fingerprint(folder), sha256_of(settings))


def earlier_fingerprint(folder: Path) -> str:
    """Return the fingerprint that an earlier version gave, which is in private files."""
    config = json.dumps(read_object(folder / "config.json"), sort_keys=True)
    tokenizer = [folder / name for name in _TOKENIZER if (folder / name).is_file()]
    return sha256_of(
        *map(sha256_of_file, weight_files(folder)),
        sha256_of(config),
        *map(sha256_of_file, tokenizer),
    )
