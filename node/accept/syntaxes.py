"""Which transfer syntaxes the node accepts: those that a decoder was seen to decode.

A plugin that is installed may still be broken, and one that is broken may crash or hang. So a
disposable child process decodes one tiny sample per syntax, and what comes out right is offered.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from node.accept import samples
from node.accept.header import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from node.log import get_log

log = get_log("accept")

#: What every implementation speaks; PS3.5 10.1 makes the implicit one mandatory.
UNCOMPRESSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)

#: Compressed syntaxes, best first: lossless before lossy. UID -> (sample, bits, largest error).
_COMPRESSED: dict[str, tuple[bytes, int, int]] = {
    "1.2.840.10008.1.2.5": (samples.RLE, 12, 0),
    "1.2.840.10008.1.2.4.70": (samples.JPEG_LOSSLESS_SV1, 12, 0),
    "1.2.840.10008.1.2.4.57": (samples.JPEG_LOSSLESS, 12, 0),
    "1.2.840.10008.1.2.4.80": (samples.JPEG_LS, 12, 0),
    "1.2.840.10008.1.2.4.90": (samples.JPEG_2000_LOSSLESS, 12, 0),
    "1.2.840.10008.1.2.4.201": (samples.HTJ2K_LOSSLESS, 12, 0),
    "1.2.840.10008.1.2.4.202": (samples.HTJ2K_LOSSLESS, 12, 0),
    "1.2.840.10008.1.2.4.50": (samples.JPEG_BASELINE, 8, 4),
    "1.2.840.10008.1.2.4.51": (samples.JPEG_EXTENDED, 12, 16),
    "1.2.840.10008.1.2.4.53": (samples.JPEG_SPECTRAL_SELECTION, 12, 16),
    "1.2.840.10008.1.2.4.55": (samples.JPEG_PROGRESSIVE, 12, 16),
    "1.2.840.10008.1.2.4.81": (samples.JPEG_LS_NEAR, 12, 4),
    "1.2.840.10008.1.2.4.91": (samples.JPEG_2000, 12, 32),
    "1.2.840.10008.1.2.4.203": (samples.HTJ2K, 12, 16),
}
#: All that are tried, in the order of preference. Deflation cannot be told from a bomb before
#: it is inflated, and big endian is retired, so these two come last.
PREFERENCE = (*UNCOMPRESSED, *_COMPRESSED, DEFLATED, EXPLICIT_BIG)

#: Nothing is lost in these, and they cost nothing to look into.
_FAITHFUL = frozenset({*UNCOMPRESSED, *(uid for uid, (_, _, error) in _COMPRESSED.items() if error == 0)})

_PATIENCE_S = 60.0
_CHILD = "import sys; from node.accept.syntaxes import judge; judge(sys.argv[1:])"


@cache
def decodable_syntaxes() -> tuple[str, ...]:
    """Return the transfer syntaxes whose sample was decoded rightly, best first.

    Takes about a second the first time. A decoder that kills or hangs the child costs only its
    own syntax.
    """
    seen: list[str] = []
    left = list(_COMPRESSED)
    while left:
        done = _try_in_child(left)
        seen += [uid for uid, is_right in done.items() if is_right]
        if len(done) == len(left):
            break
        log.warning("decoder_died", transfer_syntax_uid=left[len(done)])
        left = left[len(done) + 1 :]
    return tuple(uid for uid in PREFERENCE if uid not in _COMPRESSED or uid in seen)


def in_order(proposed: Sequence[str], supported: Sequence[str]) -> tuple[str, ...]:
    """Return those of the proposed syntaxes that are supported, in the order in which to pick.

    What a sender names first is what it holds; asked for something else, some cannot convert.
    So its order counts among the lossless ones, except that explicit VR goes before implicit.
    Lossy ones come after, lest a sender compress for us.
    """
    faithful = [uid for uid in proposed if uid in _FAITHFUL and uid in supported]
    if IMPLICIT_LITTLE in faithful and EXPLICIT_LITTLE in faithful:
        faithful.remove(EXPLICIT_LITTLE)
        faithful.insert(faithful.index(IMPLICIT_LITTLE), EXPLICIT_LITTLE)
    return tuple(dict.fromkeys([*faithful, *(uid for uid in supported if uid in proposed)]))


def _try_in_child(uids: Sequence[str]) -> dict[str, bool]:
    """Return the verdicts of a child, as far as it came."""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, *uids],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
        )
        output = done.stdout
    except subprocess.TimeoutExpired as slow:
        output = slow.stdout or b""
    verdicts = {}
    for line in output.decode("ascii", "replace").splitlines():
        uid, _, verdict = line.partition(" ")
        if uid in uids and verdict in ("right", "wrong"):
            verdicts[uid] = verdict == "right"
    return verdicts


def decodes(uid: str) -> bool:
    """Return whether pydicom and its plugins decode the sample of this syntax. May crash or hang."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    from node.jpeg import SYNTAXES, decode_jpeg

    sample, bits, tolerance = _COMPRESSED[uid]
    rows, columns = np.mgrid[:16, :16]
    truth = (rows + columns) * (8 if bits == 8 else 128)  # (row, column), int, pixel values
    if uid in SYNTAXES:
        return int(np.abs(decode_jpeg(sample).astype(int) - truth).max()) <= tolerance
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(uid)
    image.Rows = image.Columns = 16
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.PixelRepresentation = 0
    image.BitsAllocated = 8 if bits == 8 else 16
    image.BitsStored = bits
    image.HighBit = bits - 1
    image.PixelData = encapsulate([sample])
    return int(np.abs(image.pixel_array.astype(int) - truth).max()) <= tolerance


def judge(uids: Sequence[str]) -> None:
    """In the child: write one line per syntax, as soon as it is known."""
    warnings.simplefilter("ignore")
    for uid in uids:
        try:
            verdict = "right" if decodes(uid) else "wrong"
        except BaseException:  # noqa: BLE001 - decoders written in Rust panic past Exception
            verdict = "wrong"
        sys.stdout.write(f"{uid} {verdict}\n")
        sys.stdout.flush()
