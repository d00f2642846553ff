"""The published folder, whole or not at all."""

from pathlib import Path

from fedrsclip.publish.card import Stated, card
from fedrsclip.publish.finished import Finished, picture_of
from fedrsclip_core.runs import fileio
from fedrsclip_core.runs.published import CONFIG, PROMPT, description
from fedrsclip_core.runs.sealed import read_tensors
from fedrsclip_core.runs.shared_prompt import write_shared_prompt

CARD, PICTURE = "README.md", "accuracy.png"


def write_folder(out: Path, run: Finished, stated: Stated) -> list[Path]:
    """Write what a model hub expects; return the files.

    Parameters
    ----------
    out : Path
        Absent, or an empty folder.
    run : Finished
        What is published.
    stated : Stated
        What the card says besides.

    Raises
    ------
    OSError
        If the disk is full or not writable.
    """
    picture = picture_of(run.folder.path)
    file = run.folder.shared_prompt
    with fileio.whole_folder(out) as staged:
        if read_tensors(file)[2]:
            fileio.write_bytes(staged / PROMPT, file.read_bytes())
        else:  # of an earlier version, without a checksum
            write_shared_prompt(staged / PROMPT, run.prompt)
        about = description(run.prompt, fileio.sha256_of_file(staged / PROMPT))
        fileio.write_json(staged / CONFIG, about)
        fileio.write_text(staged / CARD, card(run, stated, picture=picture is not None))
        if picture is not None:
            fileio.write_bytes(staged / PICTURE, picture)
    return sorted(out.iterdir())
