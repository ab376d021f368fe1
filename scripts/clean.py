"""Remove reports and runs, but not the kept replies and not what was certified: `make clean` runs this.

    clean.py [--all] [--reports-dir reports] [--runs-dir runs]

A decision stays whose policy.json carries a certificate (verdict certified or cheap_only), or cannot be read, so that nobody
knows. What it was made from stays with it. `--all` removes those too. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
from pathlib import Path

CERTIFIED = ("certified", "cheap_only")
OTHERS = ("uncertified", "strong_only", "optimized")


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    options.add_argument("--all", action="store_true", help="certified decisions too")
    options.add_argument("--reports-dir", type=Path, default=Path("reports"))
    options.add_argument("--runs-dir", type=Path, default=Path("runs"))
    args = options.parse_args()
    kept = sum(cleaned(task, everything=args.all) for task in folders(args.runs_dir))
    pages = sum(cleaned(task, everything=args.all) for task in folders(args.reports_dir))
    (args.reports_dir / "index.html").unlink(missing_ok=True)
    if pages:
        listed_again(args.reports_dir)
    if kept or pages:
        print(
            f"kept {max(kept, pages)} certified decisions under {args.runs_dir} and {args.reports_dir}; make clean ALL=1 removes them too"
        )
    return 0


def folders(parent: Path) -> list[Path]:
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.is_symlink()) if parent.is_dir() else []


def cleaned(task: Path, *, everything: bool) -> int:
    """Remove a task's folder but for the certified decisions in it; how many these are."""
    kept: set[Path] = set()
    for run in folders(task):
        stays = {decision for decision in folders(run) if not everything and certified(decision)}
        for decision in folders(run):
            if decision not in stays:
                shutil.rmtree(decision)
        if not stays:
            shutil.rmtree(run)
        kept |= stays
    if not kept:
        shutil.rmtree(task)
    elif not points_at(task / "latest.json", kept):
        (task / "latest.json").unlink(missing_ok=True)
    return len(kept)


def certified(decision: Path) -> bool:
    path = decision / "policy.json"
    if not path.is_file():
        return False
    try:
        verdict = json.loads(path.read_text("utf-8"))["verdict"]
        if verdict not in (*CERTIFIED, *OTHERS):
            raise ValueError(verdict)  # damaged
        return verdict in CERTIFIED
    except (ValueError, KeyError, TypeError, OSError):
        print(f"{path}: cannot be read, so it stays", file=sys.stderr)
        return True


def points_at(latest: Path, kept: set[Path]) -> bool:
    with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
        said = json.loads(latest.read_text("utf-8"))
        return latest.parent / said["run_id"] / said["decision_id"] in kept
    return False


def listed_again(reports: Path) -> None:
    """Write the index of what stays, where the libraries for it are installed; `make report` writes it otherwise."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    with contextlib.suppress(ImportError):
        from pipeline.deliver.report import index

        index.refresh(reports)


if __name__ == "__main__":
    sys.exit(main())
