"""The wheel: what `pip install cascade-threshold` brings, in environments that hold nothing else."""

from __future__ import annotations

import ast
import email
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = sorted((ROOT / "cascade_threshold").rglob("*.py"))
LATER_THAN_3_10 = {
    "datetime": {"UTC"}, "typing": {"Self", "LiteralString", "Never", "assert_never", "assert_type", "reveal_type", "override",
                                    "Required", "NotRequired", "Unpack", "TypeVarTuple", "dataclass_transform"},
    "enum": {"StrEnum", "ReprEnum", "verify", "EnumCheck", "member", "nonmember"}, "asyncio": {"TaskGroup", "timeout", "Runner"},
    "hashlib": {"file_digest"}, "contextlib": {"chdir"}, "itertools": {"batched"}, "math": {"exp2", "cbrt", "sumprod"},
    "builtins": {"ExceptionGroup", "BaseExceptionGroup"}, "inspect": {"getmembers_static"}, "operator": {"call"},
}  # fmt: skip
LATER_MODULES = {"tomllib", "wsgiref.types"}


def python_3_10() -> str | None:
    """A Python 3.10 that runs, or None."""
    installed = sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))
    for candidate in [shutil.which("python3.10"), *map(str, installed)]:
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy so that nothing is written into the clone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in ("cascade_threshold", "pipeline"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build, str(out)], cwd=source, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel alone, without its extras."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(python), "install", "--no-index", str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    return python


def run(python: Path | str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_wheel_needs_python_3_10_and_nothing_else_and_its_extras_carry_their_markers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        names = set(archive.namelist())
    assert metadata["Requires-Python"] == ">=3.10"
    needs = metadata.get_all("Requires-Dist")
    assert all("extra ==" in need for need in needs)
    evaluation = [need for need in needs if 'extra == "pipeline"' in need]
    assert len(evaluation) >= 10
    assert all('python_version >= "3.11"' in need for need in evaluation)
    assert {"cascade_threshold/py.typed", "cascade_threshold/schemas/policy.schema.json"} <= names
    assert "pipeline/deliver/report/templates/report.html.j2" in names


def test_installed_alone_the_runtime_decides_beside_a_foreign_package_called_pipeline(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "service.py").write_text(
        "import pipeline, cascade_threshold, sys\n"
        "assert pipeline.MINE and cascade_threshold.load and cascade_threshold.Cascade\n"
        "from cascade_threshold.completion import parse\n"
        "assert parse('{}').problem\n"
        "third = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(third - {'service', 'pipeline', '__main__', '__mp_main__'}), cascade_threshold.__file__)\n"
    )
    done = run(installed, "service.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded, where = done.stdout.strip().split("] ")
    assert loaded == "['cascade_threshold'"
    assert Path(where).is_relative_to(installed.parent.parent)


@pytest.mark.parametrize("command", [["-m", "pipeline"], ["cascade-threshold"]])
def test_without_the_extra_the_command_line_says_in_one_sentence_what_to_install(
    installed: Path, command: list[str], tmp_path: Path
) -> None:
    start = [str(installed), *command] if command[0] == "-m" else [str(installed.parent / command[0])]
    help_ = run(*start, "--help", cwd=tmp_path)
    assert (help_.returncode, "evaluate" in help_.stdout) == (0, True)
    done = run(*start, "evaluate", "email_triage", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install 'cascade-threshold[pipeline]'" in done.stderr


def test_the_runtime_runs_under_python_3_10_and_the_evaluation_says_what_it_needs(tmp_path: Path) -> None:
    python = python_3_10()
    if python is None:
        pytest.skip("there is no Python 3.10 here; the syntax is read below all the same")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.dont_write_bytecode = True; "
    modules = ", ".join(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in RUNTIME if p.stem != "__init__")
    done = run(python, "-I", "-c", f"{code}import {modules}; print('fine')", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    main = f"{code}from pipeline.__main__ import main; sys.exit(main(['evaluate', 'email_triage']))"
    done = run(python, "-I", "-c", main, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "needs Python 3.11 or later" in done.stderr


@pytest.mark.parametrize("path", RUNTIME, ids=lambda p: p.stem)
def test_the_runtime_uses_neither_syntax_nor_names_that_3_10_lacks(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 10))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.TryStar), f"{path}: except*"
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & LATER_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in LATER_MODULES
            assert not {alias.name for alias in node.names} & LATER_THAN_3_10.get(node.module or "", set()), path
        elif isinstance(node, ast.Attribute):
            assert node.attr not in {"UTC", "StrEnum", "TaskGroup", "file_digest", "add_note", "exp2", "cbrt"}, path
        elif isinstance(node, ast.Name):
            assert node.id not in LATER_THAN_3_10["builtins"], path
