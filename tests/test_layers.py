"""The house has four rooms and a corridor, and arrows run one way. This reads the imports and holds them to it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pipeline"
FILES = sorted(PACKAGE.rglob("*.py"))
CORRIDOR = {"config", "errors", "run", "tables", "config_file", "looks", "changes", "engine"}
# who may know all rooms: the main path, its desk, and the command line
WHOLE_PATH = {"__main__", "commands", "stages", "job", "sourcing", "assembly", "shards", "facts", "findings"}
ALLOWED = {
    "collect": {"collect", "measure.tokens"},
    "measure": {"measure"},
    "decide": {"decide", "measure"},
    "deliver": {"deliver", "decide", "measure"},
}
# the production decision and what it is made of: standard library only, and one another
STDLIB_ONLY = ("decide.calibrator", "deliver.policy", "errors")
NO_WORLD = {"os", "pathlib", "time", "datetime", "socket", "random", "subprocess", "tempfile", "shutil", "io"}


def module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            found.add(base)
            found |= {
                f"{base}.{alias.name}"
                for alias in node.names
                if (PACKAGE.parent / base.replace(".", "/") / f"{alias.name}.py").exists()
            }
    return found


def own(path: Path) -> set[str]:
    """Modules of the package that a file imports, without the package's name and without bare folders."""
    found = {name.removeprefix("pipeline.") for name in imports(path) if name.startswith("pipeline.")}
    return {name for name in found if (PACKAGE / f"{name.replace('.', '/')}.py").exists()}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_arrows_run_one_way(path: Path) -> None:
    me = module(path)
    room = me.split(".")[0]
    for target in own(path):
        if room in ALLOWED:
            allowed = target in CORRIDOR or any(target == a or target.startswith(f"{a}.") for a in ALLOWED[room])
        elif me in WHOLE_PATH or me == "":
            allowed = True
        else:
            allowed = target in CORRIDOR
        assert allowed, f"{me} must not import {target}"


@pytest.mark.parametrize("path", [p for p in FILES if module(p).startswith(("measure", "decide"))], ids=module)
def test_measure_and_decide_know_no_path_clock_network_or_global_chance(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & NO_WORLD


@pytest.mark.parametrize(
    "path", [p for p in FILES if module(p).startswith("measure") or module(p) in STDLIB_ONLY], ids=module
)
def test_what_production_runs_needs_the_standard_library_only(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or top == "pipeline", f"{module(path)} imports {name}"


def test_importing_the_policy_loads_no_third_party_module() -> None:
    code = "import sys, pipeline.deliver.policy; print(sorted({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'pipeline'}))"
    # -I -S: nothing of this environment's site-packages is loaded at start-up
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() in ("[]", "['__main__']"), done.stdout


@pytest.mark.parametrize("path", FILES, ids=module)
def test_nothing_is_pickled_and_no_file_holds_two_nouns(path: Path) -> None:
    assert not {"pickle", "joblib", "cloudpickle", "marshal", "shelve"} & {n.split(".")[0] for n in imports(path)}
    assert len(path.read_text("utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=module)
def test_packages_hand_nothing_on(path: Path) -> None:
    body = ast.parse(path.read_text("utf-8")).body
    assert all(isinstance(node, ast.Expr | ast.Assign) for node in body)
