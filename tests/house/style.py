"""The style's rules, one function each: from the source files to the places that break it."""

import ast
import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from tests.house.source import Definition, Finding, Function, Source, words

BANNED = {"util", "helper", "common", "misc", "manager", "base", "handler", "processor"}
BROAD = {"Exception", "BaseException"}
UNSAFE = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
ENDS = {"deadline", "attempt", "attempts", "tries"}
"""A word of these in a function that sleeps says when it stops."""
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)

Sources = Sequence[Source]
Findings = Iterator[Finding]

# Only these files talk to these systems. MLflow takes 0.9 s to import: inside functions only.
ADAPTERS = {
    "boto3": {"bearloop/store.py"},
    "botocore": {"bearloop/store.py"},
    "kubernetes": {"api/cluster/kubernetes.py"},
    "mlflow": {"api/tracking.py", "trainer/tracking.py"},
}


FRAMEWORK_NAMES = {"get_route_handler"}
"""Methods of FastAPI that a subclass must name so."""


def empty_names(sources: Sources) -> Findings:
    """Names that say nothing of what the thing is."""
    for source in sources:
        for part in source.path.removesuffix(".py").split("/"):
            if word := _banned(part):
                yield Finding(source.path, 1, f"{part!r} says {word!r}: name what it is about")
        for node in source.nodes:
            if isinstance(node, Definition) and (word := _banned(node.name)):
                says = f"{node.name!r} says {word!r}: name what it is or does"
                yield Finding(source.path, node.lineno, says)


def long_files(sources: Sources) -> Findings:
    """Files of more than 450 lines."""
    for source in sources:
        if source.lines > 450:
            says = f"{source.lines} lines, at most 450: split it by what it tells"
            yield Finding(source.path, 1, says)


def file_budget(sources: Sources) -> Findings:
    """The product's files as a whole: median at most 120 lines, 95 % at most 320."""
    sizes = [source.lines for source in sources if source.lines > 1]
    longest = sorted(sources, key=lambda source: -source.lines)[:8]
    yield from _over_budget(
        sizes,
        limits=(120, 320),
        what="lines a file",
        worst=[(source.path, 1, source.lines) for source in longest],
    )


def long_functions(sources: Sources) -> Findings:
    """Functions of more than 70 lines."""
    for source in sources:
        for function in source.functions:
            if (size := _lines(function)) > 70:
                says = f"{function.name} has {size} lines, at most 70: name its steps"
                yield Finding(source.path, function.lineno, says)


def function_budget(sources: Sources) -> Findings:
    """The product's functions as a whole: median at most 10 lines, 95 % at most 40."""
    sized = [
        (source.path, function.lineno, _lines(function))
        for source in sources
        for function in source.functions
    ]
    worst = sorted(sized, key=lambda entry: -entry[2])[:8]
    sizes = [size for _, _, size in sized]
    yield from _over_budget(sizes, limits=(10, 40), what="lines a function", worst=worst)


def deep_nesting(sources: Sources) -> Findings:
    """Blocks more than three deep in a function."""
    for source in sources:
        for function in source.functions:
            if (depth := _depth(function.body)) > 3:
                says = f"{function.name} nests {depth} blocks, at most 3: return early or split"
                yield Finding(source.path, function.lineno, says)


def many_positional(sources: Sources) -> Findings:
    """Functions that take more than three parameters by position."""
    for source in sources:
        for function in source.functions:
            if (count := len(_positional(function))) > 3 and not _is_dunder(function.name):
                says = f"{function.name} takes {count} by position, at most 3: put `*` before them"
                yield Finding(source.path, function.lineno, says)


def parameter_budget(sources: Sources) -> Findings:
    """The product's functions as a whole: 95 % take at most five parameters."""
    counted = [
        (source.path, function.lineno, len(_positional(function)) + len(function.args.kwonlyargs))
        for source in sources
        for function in source.functions
    ]
    worst = sorted(counted, key=lambda entry: -entry[2])[:8]
    counts = [count for _, _, count in counted]
    yield from _over_budget(counts, limits=(5, 5), what="parameters a function", worst=worst)


def private_above_public(sources: Sources) -> Findings:
    """Private functions that stand above the first public one (or class, where none is)."""
    for source in sources:
        defined = [node for node in source.tree.body if isinstance(node, Definition)]
        public = [node for node in defined if not node.name.startswith("_")]
        functions = [node for node in public if isinstance(node, Function)]
        for first in (functions or public)[:1]:
            for node in defined[: defined.index(first)]:
                if isinstance(node, Function) and node.name.startswith("_"):
                    says = f"{node.name} stands above the public {first.name}: move it below"
                    yield Finding(source.path, node.lineno, says)


def missing_docstrings(sources: Sources) -> Findings:
    """Modules that do not open with a sentence."""
    for source in sources:
        if not ast.get_docstring(source.tree):
            yield Finding(source.path, 1, "no docstring: open with a sentence on what this is")


def broad_excepts(sources: Sources) -> Findings:
    """Handlers that swallow every error, outside the worker's loop."""
    for source in sources:
        for node in source.nodes:
            if _catches_all(node) and source.path != "api/worker.py":
                says = "catches everything: name the errors that you can answer"
                yield Finding(source.path, _line(node), says)


def patched_tests(sources: Sources) -> Findings:
    """Tests that replace product code from outside."""
    way_out = "write a fake with verbs and hand it over through the front door"
    for source in sources:
        for found in source.imports:
            if found.is_within("unittest.mock") or found.is_within("pytest_mock"):
                yield Finding(source.path, found.line, f"imports {found.module}: {way_out}")
        for node in source.nodes:
            if _called(node) in {"monkeypatch.setattr", "monkeypatch.setitem", "mocker.patch"}:
                yield Finding(source.path, _line(node), f"{_called(node)}: {way_out}")


def commits(sources: Sources) -> Findings:
    """Transactions that end anywhere but at the edge."""
    for source in sources:
        if source.program != "api":
            # Elsewhere there is no database, and a rollback is a promotion's.
            continue
        for node in source.nodes:
            verb = (_called(node) or "").rpartition(".")[2]
            if verb in {"commit", "rollback"} and source.path != "api/database.py":
                says = f"{verb}() belongs to api/database.py: return, and let the edge commit"
                yield Finding(source.path, _line(node), says)


def environment_readers(sources: Sources) -> Findings:
    """Programs that read the environment in more than one file."""
    readers: dict[str, list[Finding]] = {}
    for source in sources:
        lines = [_line(node) for node in source.nodes if _reads_environment(node)]
        if lines:
            says = "reads the environment, as another file of the program does: take it from there"
            readers.setdefault(source.program, []).append(Finding(source.path, lines[0], says))
    for found in readers.values():
        if len(found) > 1:
            yield from found


def sleeps(sources: Sources) -> Findings:
    """Sleeps in a function that knows neither a deadline nor a number of tries."""
    for source in sources:
        for function in source.functions if "sleep" in source.text else ():
            calls = [node for node in ast.walk(function) if _is_sleep(node)]
            if calls and not ENDS & _words_in(function):
                says = f"{function.name} sleeps without a deadline: take one, or wait on an event"
                yield Finding(source.path, _line(calls[0]), says)
        for node in source.tree.body:
            if isinstance(node, ast.Expr) and _is_sleep(node.value):
                yield Finding(source.path, node.lineno, "sleeps while it is imported")


def foreign_adapters(sources: Sources) -> Findings:
    """Imports of an outside system's client anywhere but in its adapter."""
    for source in sources:
        for found in source.imports:
            system = found.module.split(".")[0]
            owners = ADAPTERS.get(system)
            if owners is None or found.typing:
                continue
            if source.path not in owners:
                says = f"imports {system}: ask {' or '.join(sorted(owners))} instead"
                yield Finding(source.path, found.line, says)
            elif system == "mlflow" and not found.lazy:
                says = "imports mlflow at the top (0.9 s): import it inside the function"
                yield Finding(source.path, found.line, says)


def unsafe_loading(sources: Sources) -> Findings:
    """Loading that can run code: pickle and its kin, torch.load, numpy's allow_pickle."""
    for source in sources:
        for node in source.nodes:
            if module := _unsafe_import(node):
                says = f"imports {module}: keep weights in safetensors, records in JSON"
                yield Finding(source.path, _line(node), says)
            if not isinstance(node, ast.Call):
                continue
            if _called(node) == "torch.load" and not _is_true(node, "weights_only"):
                says = "torch.load without weights_only=True can run code: say it"
                yield Finding(source.path, node.lineno, says)
            if _is_true(node, "allow_pickle"):
                yield Finding(source.path, node.lineno, "allow_pickle=True can run code: drop it")


def thick_routes(sources: Sources) -> Findings:
    """Routes with a query, or with a body of more than 12 lines."""
    for source in sources:
        if not source.path.startswith("api/") or not source.path.endswith("/routes.py"):
            continue
        for found in source.imports:
            if found.is_within("sqlalchemy") and not found.module.startswith("sqlalchemy.orm"):
                says = "a route that knows SQL: put the query into the stage, under a name"
                yield Finding(source.path, found.line, says)
        for function in source.functions:
            if (size := _body_lines(function)) > 12:
                says = f"{function.name} has a body of {size} lines, at most 12: call an action"
                yield Finding(source.path, function.lineno, says)


def _banned(name: str) -> str | None:
    if name in FRAMEWORK_NAMES:
        return None
    found = [word for word in words(name) if word in BANNED or word.removesuffix("s") in BANNED]
    return found[0] if found else None


def _lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _over_budget(
    sizes: Sequence[int],
    *,
    limits: tuple[int, int],
    what: str,
    worst: Iterable[tuple[str, int, int]],
) -> Findings:
    if not sizes:
        return
    middle = median(sizes)
    high = sorted(sizes)[math.ceil(0.95 * len(sizes)) - 1]
    if middle > limits[0] or high > limits[1]:
        says = f"{what}: median {middle} (at most {limits[0]}), 95 % {high} (at most {limits[1]})"
        for path, line, size in worst:
            yield Finding(path, line, f"{size}; {says}: shorten the longest first")


def _depth(statements: Sequence[ast.stmt]) -> int:
    return max((_depth_of(statement) for statement in statements), default=0)


def _depth_of(statement: ast.stmt) -> int:
    if not isinstance(statement, BLOCKS):
        return 0
    inner: list[int] = []
    for field in ("body", "orelse", "finalbody"):
        block = getattr(statement, field, [])
        # `elif` is an `if` in the else of an `if`, and no deeper for the reader.
        is_elif = field == "orelse" and len(block) == 1 and isinstance(block[0], ast.If)
        inner.append(_depth(block) - (1 if is_elif and isinstance(statement, ast.If) else 0))
    parts = (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ()))
    return 1 + max([*inner, *(_depth(part.body) for part in parts)])


def _positional(function: Function) -> list[ast.arg]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    bound = arguments and arguments[0].arg in {"self", "cls"}
    return arguments[1:] if bound else arguments


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _catches_all(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    return node.type is None or bool(BROAD & set(_names(node.type)))


def _names(node: ast.expr) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            yield child.id
        elif isinstance(child, ast.Attribute):
            yield child.attr


def _called(node: ast.AST) -> str | None:
    return _dotted(node.func) if isinstance(node, ast.Call) else None


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 1)


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in {"environ", "getenv"}
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        return (node.module == "os" and bool(names & {"environ", "getenv"})) or (
            node.module == "pydantic_settings" and "BaseSettings" in names
        )
    return False


def _is_sleep(node: ast.AST) -> bool:
    return (_called(node) or "").rpartition(".")[2] == "sleep"


def _words_in(function: Function) -> set[str]:
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(function)}
    names |= {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    return {word for name in names for word in words(name)}


def _unsafe_import(node: ast.AST) -> str | None:
    names = [alias.name for alias in getattr(node, "names", ()) if isinstance(alias, ast.alias)]
    if isinstance(node, ast.Import):
        return next((name for name in names if name.split(".")[0] in UNSAFE), None)
    # Its errors alone may be imported: torch.load raises them.
    if isinstance(node, ast.ImportFrom) and not all(name.endswith("Error") for name in names):
        return node.module if (node.module or "").split(".")[0] in UNSAFE else None
    return None


def _is_true(call: ast.Call, keyword: str) -> bool:
    return any(
        entry.arg == keyword and isinstance(entry.value, ast.Constant) and entry.value.value is True
        for entry in call.keywords
    )
