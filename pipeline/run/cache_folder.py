"""CacheFolder: where matplotlib keeps its font cache if the home folder is not writable, as in a container."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

VARIABLE = "MPLCONFIGDIR"


def prepare(runs_dir: Path | None) -> None:
    """Set a writable cache folder before matplotlib is imported, which fails without one.

    A value in the environment wins; then its defaults in the home folder, below `runs_dir`, or a folder for temporary files.
    """
    if os.environ.get(VARIABLE):
        return
    try:
        home = Path.home()
        defaults = [
            Path(os.environ.get(name) or home / below)
            for name, below in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache"))
        ]
        if all(_can_be_written(folder / "matplotlib") for folder in defaults):
            return
    except RuntimeError:  # not a home folder
        pass
    for folder in (None if runs_dir is None else runs_dir / ".matplotlib", _temporary()):
        if folder is not None and _can_be_written(folder):
            os.environ[VARIABLE] = str(folder)
            return


def _can_be_written(folder: Path) -> bool:
    """Whether a folder, or the nearest one above it that is there, can be written by this process (root is told of read-only disks)."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK)


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir()) / f"cascade-matplotlib-{os.getuid() if hasattr(os, 'getuid') else 0}"
    except OSError:
        return None
