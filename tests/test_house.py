"""The house: what no module may do to another, and how large rooms may grow."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import skpair

FOLDER = Path(skpair.__file__).parent
MODULES = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*.py")}
TREES = {name: ast.parse(text) for name, text in MODULES.items()}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def defined(tree):
    """Name what a module defines or sets that is private: functions, classes, attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return set(filter(is_private, names))


def used(tree):
    """Name what a module uses of others, or of objects, that is private."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or node.module.startswith("skpair")):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    return set(filter(is_private, names))


def test_no_module_uses_what_is_private_to_another():
    private = {name: defined(tree) for name, tree in TREES.items()}
    everything = set().union(*private.values())
    for name, tree in TREES.items():
        assert not (used(tree) & everything) - private[name], name


def test_a_private_name_of_another_is_found():
    tree = ast.parse("from .pairs import _a\ndef f(x):\n    return x._b, x.c, x.__dict__")
    assert used(tree) == {"_a", "_b"}
    assert defined(ast.parse("class _A:\n    def _b(self):\n        self._c = 1")) == {
        "_A",
        "_b",
        "_c",
    }


@pytest.mark.parametrize("name", sorted(MODULES))
def test_rooms_are_small(name):
    assert len(MODULES[name].splitlines()) <= (600 if name == "matcher.py" else 450)
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ClassDef):
            documented = len((ast.get_docstring(node, clean=False) or "").splitlines()) + sum(
                len(ast.get_docstring(part, clean=False).splitlines())
                for part in ast.walk(node)
                if isinstance(part, ast.FunctionDef) and ast.get_docstring(part)
            )
            assert node.end_lineno - node.lineno + 1 - documented <= 300, node.name


@pytest.mark.slow
def test_lancedb_is_imported_when_its_store_is_asked_for():
    code = (
        "import sys; import skpair.search; assert 'lancedb' not in sys.modules; "
        "from skpair.search import LanceStore; assert 'skpair.search.lance' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ImportError, match="cannot import name 'Other'"):
        from skpair.search import Other  # noqa: F401


def test_every_wing_says_what_it_is_for():
    wings = [path.parent for path in FOLDER.glob("*/__init__.py")]
    assert {"rows", "learning", "known", "storage", "search"} <= {wing.name for wing in wings}
    for wing in wings:
        assert inspect.cleandoc(ast.get_docstring(TREES[f"{wing.name}/__init__.py"]))
