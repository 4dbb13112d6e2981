"""Measure the source tree: sizes, names, imports and habits, as docs/decisions.md reports them.

    python benchmarks/house.py [FOLDER] [--json]

FOLDER is a package (default: src/lingraft). A room is a package, or a top-level module; an import
arrow goes from one room to another, and a circle is a set of modules that import each other.
Only the standard library is used, so that it runs on any checkout of any project.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

LONG_LINE = 100
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
NOT_REASONS = ("# noqa", "# type:", "# pragma", "#!")


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, its text and its syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module


@dataclass(frozen=True)
class Shape:
    """The measures of a source tree."""

    files: int
    lines: int
    statements: int
    rooms: int
    import_arrows: int
    circles: int
    function_median: float
    function_p90: float
    longest_function: int
    comments_per_1000_lines: float
    long_lines_percent: float
    comprehensions_per_100_statements: float
    deferred_imports_per_1000_lines: float
    file_names_used_twice: int
    class_names_used_twice: int


def modules_of(folder: Path) -> list[Module]:
    """Return the modules below a package folder, by name."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        name = ".".join(part for part in parts if part != "__init__")
        text = path.read_text(encoding="utf-8")
        found.append(Module(name, path, text, ast.parse(text)))
    return found


def room_of(module: Module, folder: Path) -> str:
    """Return the package that holds a module; a top-level module is a room of its own."""
    parent = module.path.parent.relative_to(folder)
    return str(parent) if parent.parts else module.path.stem


def imports_of(module: Module, known: set[str]) -> Iterator[str]:
    """Yield the project's modules in a module's import statements, deferred ones included."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import name` means the module package.name where there is one.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parent = name.rpartition(".")[0]
            if name in known:
                yield name
            elif parent in known:
                yield parent


def circles_in(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected components of more than one module (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            component = set(stack[stack.index(name) :])
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(component)

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


def deferred_imports(tree: ast.Module) -> int:
    """Count the import statements inside functions."""
    inside = set()
    for function in ast.walk(tree):
        if isinstance(function, FUNCTIONS):
            for node in ast.walk(function):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    inside.add(node)
    return len(inside)


def comments_of(text: str) -> int:
    """Count the lines that hold a comment which is no directive to a tool."""
    lines = io.StringIO(text).readline
    return sum(
        token.type == tokenize.COMMENT and not token.string.startswith(NOT_REASONS)
        for token in tokenize.generate_tokens(lines)
    )


def repeated(names: list[str]) -> int:
    """Return how many distinct names occur more than once."""
    return sum(count > 1 for count in Counter(names).values())


def shape_of(folder: Path) -> Shape:
    """Measure every module below a package folder."""
    modules = modules_of(folder)
    known = {module.name for module in modules}
    room = {module.name: room_of(module, folder) for module in modules}
    graph = {module.name: set(imports_of(module, known)) - {module.name} for module in modules}
    arrows = {(room[name], room[other]) for name, others in graph.items() for other in others}
    nodes = [node for module in modules for node in ast.walk(module.tree)]
    lengths = sorted(
        node.end_lineno - node.lineno + 1
        for node in nodes
        if isinstance(node, FUNCTIONS) and node.end_lineno
    )
    lines = [line for module in modules for line in module.text.splitlines()]
    thousands = len(lines) / 1000
    statements = sum(isinstance(node, ast.stmt) for node in nodes)
    comprehensions = sum(isinstance(node, COMPREHENSIONS) for node in nodes)
    classes = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    stems = [
        module.path.stem for module in modules if module.path.stem not in ("__init__", "__main__")
    ]
    return Shape(
        files=len(modules),
        lines=len(lines),
        statements=statements,
        rooms=len(set(room.values())),
        import_arrows=sum(begin != end for begin, end in arrows),
        circles=len(circles_in(graph)),
        function_median=statistics.median(lengths),
        function_p90=statistics.quantiles(lengths, n=10)[-1],
        longest_function=lengths[-1],
        comments_per_1000_lines=sum(comments_of(module.text) for module in modules) / thousands,
        long_lines_percent=100 * sum(len(line) > LONG_LINE for line in lines) / len(lines),
        comprehensions_per_100_statements=100 * comprehensions / statements,
        deferred_imports_per_1000_lines=sum(deferred_imports(m.tree) for m in modules) / thousands,
        file_names_used_twice=repeated(stems),
        class_names_used_twice=repeated(classes),
    )


def main() -> None:
    """Print the measures of the package that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(__file__).resolve().parent.parent / "src" / "lingraft"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    measures = asdict(shape_of(arguments.folder.resolve()))
    if arguments.json:
        print(json.dumps(measures, indent=1))
        return
    for name, value in measures.items():
        shown = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        print(f"{name.replace('_', ' '):36}{shown:>10}")


if __name__ == "__main__":
    main()
