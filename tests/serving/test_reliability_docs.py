import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "reliability.md"


def names_of_tests(*folders):
    files = [path for folder in folders for path in (ROOT / "tests" / folder).glob("test_*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    functions = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def test_the_list_of_faults_and_the_tests_that_inject_them_agree():
    named = set(re.findall(r"`(test_\w+)`", DOCS.read_text(encoding="utf-8")))
    assert named - names_of_tests("faults", "serving") == set()
    assert names_of_tests("faults") - named == set()
