"""What the documents say is what the program does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.serving.config import parse

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_command_in_the_readme_exists_with_its_options() -> None:
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines() if line.startswith("rheostat ")]

    assert len(lines) >= 7
    for line in lines:
        command = line[1:3] if line[1] == "engine" else line[1:2]
        help_text = CliRunner().invoke(app, [*command, "--help"])
        assert help_text.exit_code == 0, line
        assert all(option in help_text.output for option in line if option.startswith("--")), line


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in re.findall(r"make (\w+)", " ".join(blocks("sh"))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_python_in_the_readme_compiles() -> None:
    assert blocks("python")
    for block in blocks("python"):
        compile(block, "README.md", "exec")


def test_the_example_configuration_is_accepted() -> None:
    text = (ROOT / "examples" / "rheostat.toml").read_text(encoding="utf-8")

    assert len(parse(text).backend) == len(tomllib.loads(text)["backend"]) == 2


def test_the_readmes_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_top_level_folder_is_in_the_file_tree() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name != "build"}
    listed = set(re.findall(r"^    (\w+)/ ", README, re.MULTILINE))

    assert {folder for folder in folders if not folder.endswith("egg-info")} - {"htmlcov"} <= listed
