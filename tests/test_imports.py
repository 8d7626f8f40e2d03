"""Imports point one way, and the light parts stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "data": {"data"},
    "policies": {"data", "policies"},
    "router": {"data", "router"},
    "training": {"data", "policies", "router", "training"},
    "serving": {"data", "policies", "router", "serving"},
}
HEAVY = ("mlflow", "sklearn", "polars", "pyarrow", "plotly", "torch", "sentence_transformers", "transformers", "vllm", "scipy")


def imported_packages(path: Path) -> set[str]:
    """The parts of Rheostat a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("rheostat.")}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    wrong = {str(path.relative_to(ROOT)): extra for path in files if (extra := imported_packages(path) - MAY_IMPORT[package])}

    assert files
    assert wrong == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_the_one_import_name_reaches_every_package(package: str) -> None:
    link = ROOT / "rheostat" / package

    assert link.is_symlink()
    assert link.resolve() == ROOT / package


@pytest.mark.parametrize("module", ["rheostat.cli", "rheostat.serving.server"])
def test_no_heavy_library_is_loaded_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"
