"""Packages of the npm registry, unpacked as they were published; nothing of them is run but in a page."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path


class NotFetched(Exception):
    """npm or its registry is not there."""


def fetch(
    cache: Path, name: str, version: str, sha256: str, *, wanted: Callable[[str], bool] = lambda _: True
) -> Path:
    """Return the folder of a package, downloaded into ``cache`` the first time.

    Parameters
    ----------
    sha256
        Of the tarball that npm gives for this version: another one would be another program.
    wanted
        Whether a file of the package is needed, e.g. "dist/index.html".

    Raises
    ------
    NotFetched
        npm is missing or cannot reach its registry.
    """
    folder = cache / f"{name.strip('@').replace('/', '-')}-{version}"
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetched("npm is missing (Debian package: npm)")
    cache.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        command = [npm, "pack", "--silent", f"{name}@{version}"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=280)
        if done.returncode:
            raise NotFetched(f"npm cannot fetch {name}@{version}: {done.stderr.strip()[-300:]}")
        (tarball,) = scratch.glob("*.tgz")
        found = hashlib.sha256(tarball.read_bytes()).hexdigest()
        assert found == sha256, f"{name}@{version} is not what it was: SHA-256 {found}"
        with tarfile.open(tarball) as archive:
            members = [m for m in archive if wanted(m.name.removeprefix("package/"))]
            archive.extractall(scratch, members=members, filter="data")
        (scratch / "package").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
