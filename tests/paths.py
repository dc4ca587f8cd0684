"""Where the tests find the real DICOM that is not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

#: Real objects from public repositories, beside the checkout; see its MANIFEST.md.
SHARED = REPOSITORY.parent / "shared" / "data"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"no real DICOM here: {SHARED.name} is expected at ../shared/data"
)
