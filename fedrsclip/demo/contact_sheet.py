"""Draw a contact sheet of the demo scenes: ``python -m fedrsclip.demo.contact_sheet OUT``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fedrsclip.data.contact_sheet import draw_sheet
from fedrsclip_core.demo.scenes import CLASS_NAMES, FEDERATION, PRETRAINING, Image, render


def contact_sheet(columns: int, *, seed: int, stream: str, shifted: bool) -> Image:
    """Return a sheet with a row per class; ``shifted`` gives each column a client's domain."""
    from PIL import Image as PillowImage

    def scene(row: int, column: int) -> PillowImage.Image:
        domain = column if shifted else None
        return PillowImage.fromarray(render(row, column, seed=seed, domain=domain, stream=stream))

    rows = {
        name: [scene(row, column) for column in range(columns)]
        for row, name in enumerate(CLASS_NAMES)
    }
    return np.asarray(draw_sheet(rows))


def main() -> None:
    """Write the sheet the command line asks for."""
    parser = argparse.ArgumentParser(description="Draw a contact sheet of the demo scenes.")
    parser.add_argument("out", type=Path, help="picture to write, e.g. sheet.png")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stream", choices=(FEDERATION, PRETRAINING), default=FEDERATION)
    parser.add_argument("--unshifted", action="store_true", help="without the clients' domains")
    args = parser.parse_args()

    from PIL import Image as PillowImage

    sheet = contact_sheet(
        args.columns, seed=args.seed, stream=args.stream, shifted=not args.unshifted
    )
    PillowImage.fromarray(sheet).save(args.out)
    print(f"{args.out}: {len(CLASS_NAMES)} classes x {args.columns} scenes ({args.stream})")


if __name__ == "__main__":
    main()
