"""Guest: finds what is a test in a module and runs it.

Tests that check nothing are refused, since every solution passes them, and so are those that ask for what is not here (pytest
and its fixtures, other packages), since none does.

Knows nothing of solutions. Standard library only.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import sys
import types
import unittest
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MODULE = "exam_tests"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class UnusableError(Exception):
    """The tests tell no solution from another: they check nothing, or cannot be run."""


def run_suite(source: str, given: Mapping[str, Any]) -> None:
    """Run a test module's own statements, then its `test_` functions, `Test` classes and unittest cases.

    Args:
        source: of the module.
        given: names that it may use; they are no tests of its own.

    Raises:
        UnusableError: there was nothing in it that can fail, or it is no Python, or asks for what is not here.
    """
    tree, code = _compiled(source)
    module = sys.modules[MODULE] = types.ModuleType(MODULE)  # dataclasses look their module up by its name
    module.__dict__.update(given)
    exec(code, module.__dict__)  # noqa: S102 - the operator's tests
    own = [(name, value) for name, value in vars(module).items() if name not in given or value is not given[name]]
    ran = sum(_run(name, value) for name, value in own)
    if not ran and not _can_fail(tree):
        raise UnusableError("nothing in them ran that can fail: give asserts, test_ functions, Test classes or unittest cases")


def _compiled(source: str) -> tuple[ast.Module, types.CodeType]:
    try:
        tree = ast.parse(source, "tests")
        code = compile(tree, "tests", "exec")  # finds a `return` outside of a function, and the like
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnusableError(f"they are no Python: {error}") from error
    for name in _imported(tree):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise UnusableError(f"they import {name}, which is not here: use asserts, unittest and the rest of the standard library")
    return tree, code


def _imported(node: ast.AST) -> Iterator[str]:
    """The packages that a module imports whatever happens: under a condition, or guarded, it may never ask for them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (each.name.partition(".")[0] for each in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module.partition(".")[0]
        elif not isinstance(child, ast.Try | ast.If | ast.With):
            yield from _imported(child)


def _run(name: str, value: Any) -> int:
    """Run what is a test, and count."""
    if isinstance(value, type):
        if issubclass(value, unittest.TestCase):
            return _run_case(value)
        return _run_class(value) if name.startswith("Test") else 0
    if not name.startswith("test_") or not callable(value):
        return 0
    _call(value)
    return 1


def _run_case(case: type[unittest.TestCase]) -> int:
    for name in unittest.defaultTestLoader.getTestCaseNames(case):
        _check_needs(getattr(case, name), given=1)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    if not result.wasSuccessful():
        raise AssertionError(f"{len(result.failures) + len(result.errors)} of {result.testsRun} tests of {case.__name__} failed")
    return max(0, result.testsRun - len(result.skipped))


def _run_class(case: type) -> int:
    """As pytest runs one: every `test_` method on an instance of its own."""
    names = [name for name in dir(case) if name.startswith("test_") and callable(getattr(case, name))]
    if names:
        _call_hook(case, "setup_class")
    for name in names:
        instance = case()
        method = getattr(instance, name)
        _call_hook(instance, "setup_method", method)
        _call(method)
        _call_hook(instance, "teardown_method", method)
    if names:
        _call_hook(case, "teardown_class")
    return len(names)


def _call_hook(owner: Any, name: str, *given: Any) -> None:
    """Call what stands round tests, where there is one, with as much as it takes."""
    hook = getattr(owner, name, None)
    if hook is not None:
        hook(*given[: len(inspect.signature(hook).parameters)])


def _check_needs(test: Callable[..., Any], *, given: int = 0) -> None:
    """Refuse a test that wants more than it is given, as fixtures and parameters: it would fail whatever the solution is."""
    # A decorator may give what the function below it asks for, as unittest.mock.patch does.
    parameters = list(inspect.signature(test, follow_wrapped=False).parameters.values())[given:]
    wanted = [each.name for each in parameters if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    if wanted:
        name = getattr(test, "__name__", "a test")
        raise UnusableError(f"{name} asks for {', '.join(wanted)}: fixtures and parameters are not given here, so write tests without")


def _call(test: Callable[[], Any]) -> None:
    _check_needs(test)
    returned = test()
    if inspect.iscoroutine(returned):
        import asyncio

        asyncio.run(returned)
    elif inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise UnusableError(f"{getattr(test, '__name__', 'a test')} yields, so that nothing in it ran: write it without yield")


def _can_fail(module: ast.Module) -> bool:
    """Whether statements outside of definitions assert, raise, or call for its effect a function that may."""
    own = {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return any(isinstance(node, ast.Assert | ast.Raise) or (isinstance(node, ast.Expr) and _checks(node, own)) for node in _running(module))


def _checks(statement: ast.Expr, own: set[str]) -> bool:
    called = {ast.unparse(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)}
    return any(name in own or name.rpartition(".")[2].startswith("assert") for name in called)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """What runs by itself when the module does: neither definitions nor what is for the main module only."""
    for child in ast.iter_child_nodes(node):
        for_main = isinstance(child, ast.If) and "__name__" in ast.unparse(child.test)
        if not for_main and not isinstance(child, _DEFINITIONS):
            yield child
            yield from _running(child)
