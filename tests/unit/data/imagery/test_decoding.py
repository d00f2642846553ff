"""What one image file may cost: pixels are bounded before they are decoded."""

import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedrsclip_core.data.imagery.decoding import LARGEST, decode
from fedrsclip_core.errors import DataError

pytestmark = pytest.mark.unit


def png(width: int, height: int) -> bytes:
    """A black PNG of any size, written without the pixels in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int, **options: object) -> bytes:
    """A JPEG that is dark on its left half and bright on its right."""
    image = Image.new("L", (width, height), 40)
    image.paste(200, (width // 2, 0, width, height))
    file = BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(12000, 12000), (20000, 20000), (60000, 1000)])
def test_a_small_file_with_many_pixels_is_refused(width: int, height: int) -> None:
    file = png(width, height)
    assert len(file) < 60_000
    with pytest.raises(DataError, match=r"too large .* cut the scene into tiles"):
        decode(file)


def test_refusing_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(12000, 12000))
    code = (
        "import resource, sys; from fedrsclip_core.data.imagery.decoding import decode\n"
        "from fedrsclip_core.errors import DataError\nimport PIL.PngImagePlugin\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode(open(sys.argv[1], 'rb').read())\n"
        "except DataError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "bomb.png")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown * (1 if sys.platform == "darwin" else 1024) < 20_000_000


def test_a_large_jpeg_is_decoded_smaller() -> None:
    image = decode(jpeg(10_000, 4000))
    assert image.size == (5000, 2000)
    left, right = np.asarray(image)[:, 1000], np.asarray(image)[:, 4000]
    assert abs(left.mean() - 40) < 2 and abs(right.mean() - 200) < 2


def test_a_larger_jpeg_is_decoded_still_smaller() -> None:
    assert decode(jpeg(12_000, 12_000)).size == (3000, 3000)


def test_a_large_progressive_jpeg_is_refused() -> None:
    with pytest.raises(DataError, match=r"too large .10000 x 4000 pixels; at most 33554432"):
        decode(jpeg(10_000, 4000, progressive=True))


def test_what_fits_is_decoded_as_it_is() -> None:
    file = jpeg(5792, 5792)
    assert LARGEST >= 5792**2
    whole = Image.open(BytesIO(file)).convert("RGB")
    assert decode(file).tobytes() == whole.tobytes()
