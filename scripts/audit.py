"""Known vulnerabilities of what requirements/run.txt and dev.txt lock, from PyPI's advisories, by pip-audit.

make audit                  exit 0: none known, or the advisories cannot be had (it says which); 1: some are known
make audit ARGS=--strict    exit 3 where they cannot be had
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = tuple(Path(__file__).resolve().parent.parent / "requirements" / name for name in ("run.txt", "dev.txt"))
UNKNOWN = 3


def audited(lock: Path) -> tuple[dict[str, Any] | None, str]:
    """What pip-audit finds for a lock, and what it said; None where it could not ask."""
    words = ["-r", str(lock), "--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([sys.executable, "-m", "pip_audit", *words], capture_output=True, text=True, check=False)
    said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    try:
        return json.loads(done.stdout), said
    except ValueError:
        return None, said


def main() -> int:
    """Ask for each lock and say what is known."""
    code = 0
    for lock in LOCKS:
        found, said = audited(lock)
        if found is None:
            print(f"{lock.name}: not audited, the advisories cannot be had: {said[:300]}")
            code = code or (UNKNOWN if "--strict" in sys.argv[1:] else 0)
            continue
        packages = found["dependencies"]
        known = [(p, v) for p in packages for v in p.get("vulns", ())]
        for package, advisory in known:
            mended = ", ".join(advisory.get("fix_versions") or ()) or "no version"
            print(f"{lock.name}: {package['name']} {package['version']}: {advisory['id']}, fixed in {mended}")
        print(f"{lock.name}: {len(packages):,} packages, {len(known):,} known vulnerabilities")
        code = 1 if known else code
    return code


if __name__ == "__main__":
    sys.exit(main())
