"""Bundle: the bundled tasks, configs/ and datasets/, wherever this installation has them."""

from pathlib import Path

from pipeline.errors import UsageError

PARTS = ("configs", "datasets")
INSTALLED = Path(__file__).parent / "bundled"
"""Where a wheel holds them."""
CLONE = Path(__file__).parents[2]
"""Where a clone, or an editable installation of one, holds them."""


def files() -> dict[str, Path]:
    """Every bundled file: its path relative to a project's folder, with slashes -> where it is. Sorted by that path.

    Raises UsageError when this installation holds none.
    """
    for top in (INSTALLED, CLONE):
        if all((top / part).is_dir() for part in PARTS):
            found = (
                p for part in PARTS for p in (top / part).rglob("*") if p.is_file() and "__pycache__" not in p.parts
            )
            return {p.relative_to(top).as_posix(): p for p in sorted(found)}
    raise UsageError(
        f"this installation holds no bundled tasks (neither {INSTALLED} nor {CLONE / 'configs'}); install the wheel, or clone the project"
    )
