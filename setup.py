"""The build of sdist and wheel: pyproject.toml says the rest; here configs/ and datasets/ become the data of `demo`.

They live once in the repository, beside the packages. A wheel holds packages only, so building copies them to
`pipeline/demo/bundled/`, from where `cascade-threshold demo DIR` writes them out.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUNDLED = ("configs", "datasets")
TARGET = Path("pipeline", "demo", "bundled")


class BuildWithBundled(build_py):
    """build_py that also copies the bundled tasks; an editable install reads them where they are."""

    def bundled(self) -> dict[str, str]:
        """The copy in the build folder of each bundled file -> the file."""
        files = sorted(p for top in BUNDLED for p in Path(top).rglob("*") if p.is_file())
        kept = [p for p in files if "__pycache__" not in p.parts and not any(s.startswith(".") for s in p.parts)]
        return {str(Path(self.build_lib) / TARGET / p): str(p) for p in kept}

    def run(self) -> None:
        """Build the packages, then copy."""
        super().run()
        if not self.editable_mode:
            for copy, file in self.bundled().items():
                self.mkpath(str(Path(copy).parent))
                self.copy_file(file, copy)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files that building makes."""
        return [*super().get_outputs(include_bytecode), *([] if self.editable_mode else self.bundled())]


setup(cmdclass={"build_py": BuildWithBundled})
