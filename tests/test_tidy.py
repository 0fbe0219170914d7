"""Budgets and bans that no linter knows, checked on the syntax tree of every file in `src` and `tests`.

A rule is a function from a source file to its findings; `RULES` lists them. Each rule is proven by `PLANTED`: a small
violation that it must find, and a near miss that it must leave alone.

Lines of a function count only if they hold code: no blanks, comments, docstrings. Attributes of a class are the names
assigned through `self` in its methods plus the fields annotated in its body (without `ClassVar`). A record, that is a
class whose only methods are validation (`__post_init__`, `validate`) and properties, has no limit on its fields.

Set iteration is found by a heuristic: an expression is a set if it is written as one (literal, comprehension, `set()`,
`frozenset()`, set operators and methods), if it is a variable so annotated or assigned in the same function, or an
attribute, property or function that the heart declares as one.
Iterating is fine inside what cannot show the order: `sorted`, `any`, `all`, `sum`, `len`, `min`, `max`, `set`,
`frozenset` (without `key=`), and set comprehensions.
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FUNCTION_LINES, FUNCTION_LINES_RAFT = 70, 50
FILE_LINES, FILE_LINES_RAFT = 600, 400
CLASS_METHODS, CLASS_ATTRIBUTES = 20, 15

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
HEART_CONTRACT = next(contract for contract in CONTRACTS if contract["id"] == "heart")
HEART_FOLDERS = tuple(f"src/{module.replace('.', '/')}/" for module in HEART_CONTRACT["source_modules"])
HEART_BANS = frozenset(HEART_CONTRACT["forbidden_modules"])

Function = ast.FunctionDef | ast.AsyncFunctionDef
Finding = tuple[int, str]


@dataclass
class Source:
    """One parsed file. `set_names` are the attributes, properties and functions that the heart annotates as sets."""

    path: str
    text: str
    set_names: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        return list(tokenize.generate_tokens(io.StringIO(self.text).readline))

    @cached_property
    def code_lines(self) -> set[int]:
        silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
        lines = {
            number
            for token in self.tokens
            if token.type not in silent
            for number in range(token.start[0], token.end[0] + 1)
        }
        for node in self.nodes:
            if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
                docstring = node.body[0]
                lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
        return {number for number, line in enumerate(self.text.splitlines(), 1) if line.strip()} & lines

    @property
    def in_src(self) -> bool:
        return self.path.startswith("src/")

    @property
    def in_raft(self) -> bool:
        return self.path.startswith("src/d_engine/raft/")

    @property
    def in_heart(self) -> bool:
        return self.path.startswith(HEART_FOLDERS)


# --- budgets ---------------------------------------------------------------------------------------------------------


def long_function(source: Source) -> Iterator[Finding]:
    limit = FUNCTION_LINES_RAFT if source.in_raft else FUNCTION_LINES
    for node in source.nodes:
        if isinstance(node, Function):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            count = sum(number in source.code_lines for number in lines)
            if count > limit:
                yield node.lineno, f"function {node.name} has {count} code lines, limit {limit}"


def long_file(source: Source) -> Iterator[Finding]:
    limit = FILE_LINES_RAFT if source.in_raft else FILE_LINES
    count = len(source.text.splitlines())
    if count > limit:
        yield 1, f"file has {count} lines, limit {limit}"


def methods_of(node: ast.ClassDef) -> list[Function]:
    return [item for item in node.body if isinstance(item, Function)]


def attributes_of(node: ast.ClassDef) -> set[str]:
    names = {
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and "ClassVar" not in ast.unparse(item.annotation)
    }
    for method in methods_of(node):
        for item in ast.walk(method):
            if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store) and is_self(item.value):
                names.add(item.attr)
    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def is_record(node: ast.ClassDef) -> bool:
    return all(
        method.name in ("__post_init__", "validate")
        or any(ast.unparse(decorator).endswith("property") for decorator in method.decorator_list)
        for method in methods_of(node)
    )


def large_class(source: Source) -> Iterator[Finding]:
    for node in source.nodes:
        if isinstance(node, ast.ClassDef):
            methods = len({method.name for method in methods_of(node)})
            if methods > CLASS_METHODS:
                yield node.lineno, f"class {node.name} has {methods} methods, limit {CLASS_METHODS}"
            attributes = len(attributes_of(node))
            if attributes > CLASS_ATTRIBUTES and not is_record(node):
                yield node.lineno, f"class {node.name} has {attributes} attributes, limit {CLASS_ATTRIBUTES}"


# --- bans ------------------------------------------------------------------------------------------------------------


def swallowed_exception(source: Source) -> Iterator[Finding]:
    for node in source.nodes:
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield node.lineno, "bare except"
            elif catches_all(node.type) and all(is_nothing(item) for item in node.body):
                yield node.lineno, "every exception is swallowed"
        elif (
            isinstance(node, ast.Call)
            and name_of(node.func) == "suppress"
            and any(map(catches_all, node.args))
        ):
            yield node.lineno, "every exception is suppressed"


def catches_all(node: ast.expr) -> bool:
    types = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(name_of(item) in ("Exception", "BaseException") for item in types)


def is_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


UNCODED = re.compile(r"type:\s*ignore(?!\[\S)|noqa(?!:\s*[A-Z]+\d)|mypy:\s*ignore-errors")


def uncoded_ignore(source: Source) -> Iterator[Finding]:
    for token in source.tokens:
        if token.type == tokenize.COMMENT and UNCODED.search(token.string):
            yield token.start[0], f"an exemption without its code: {token.string}"


def assert_in_src(source: Source) -> Iterator[Finding]:
    for node in source.nodes:
        if source.in_src and isinstance(node, ast.Assert):
            yield node.lineno, "assert in src: use check(...)"


def imports_of(source: Source) -> Iterator[Finding]:
    """The line and full name of every module imported."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def unsafe_evaluation(source: Source) -> Iterator[Finding]:
    for line, module in imports_of(source):
        if module.partition(".")[0] in ("pickle", "_pickle", "shelve", "marshal"):
            yield line, f"import of {module}"
    for node in source.nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("eval", "exec")
        ):
            yield node.lineno, f"call of {node.func.id}"


def impure_heart(source: Source) -> Iterator[Finding]:
    for line, module in imports_of(source):
        if source.in_heart and module.partition(".")[0] in HEART_BANS:
            yield line, f"the heart imports {module}"


def print_outside_cli(source: Source) -> Iterator[Finding]:
    if source.in_src and not source.path.startswith("src/d_engine/cli/"):
        for node in source.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield node.lineno, "print outside cli"


UNFINISHED = re.compile(rf"\b({'TO'}DO|{'FIX'}ME|{'XX'}X)\b")


def unfinished(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if mark := UNFINISHED.search(line):
            yield number, f"unfinished work: {mark.group()}"


# --- iteration over sets ---------------------------------------------------------------------------------------------

SET_METHODS = ("union", "intersection", "difference", "symmetric_difference")
SET_TYPES = re.compile(r"\b(typing\.|abc\.)?(set|frozenset|AbstractSet|MutableSet|Set|FrozenSet)\b(?=\[|$| )")
ORDER_FREE = ("sorted", "any", "all", "sum", "len", "min", "max", "set", "frozenset")
ORDERED = (
    "list",
    "tuple",
    "iter",
    "enumerate",
    "zip",
    "map",
    "filter",
    "join",
    "extend",
    "fromkeys",
    "deque",
    "reversed",
)


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_set_type(annotation: ast.expr | None) -> bool:
    if annotation is None:
        return False
    text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    return any(SET_TYPES.match(part.strip()) is not None for part in str(text).split("|"))


def scopes(source: Source) -> Iterator[list[ast.AST]]:
    """The nodes outside all functions, then those of each outermost function."""
    outside: list[ast.AST] = [source.tree]
    for node in outside:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield list(ast.walk(child))
            else:
                outside.append(child)
    yield outside


def set_variables(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and is_set_type(node.annotation)
        ):
            yield node.target.id
        elif isinstance(node, ast.arg) and is_set_type(node.annotation):
            yield node.arg
        elif isinstance(node, ast.Assign) and is_written_as_set(node.value):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def declared(source: Source) -> Iterator[tuple[str, bool]]:
    """Every attribute and function of the file, as `.name`, and whether it is (or returns) a set."""
    for node in source.nodes:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.AnnAssign):
                    yield f".{name_of(item.target)}", is_set_type(item.annotation)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            yield f".{node.target.attr}", is_set_type(node.annotation)
        elif isinstance(node, Function):
            yield f".{node.name}", is_set_type(node.returns)
        elif isinstance(node, ast.Assign) and is_written_as_set(node.value):
            yield from (
                (f".{target.attr}", True) for target in node.targets if isinstance(target, ast.Attribute)
            )


def is_written_as_set(node: ast.expr) -> bool:
    return isinstance(node, ast.Set | ast.SetComp) or (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )


def set_names_of(sources: list[Source]) -> frozenset[str]:
    """Attributes and functions that are sets wherever these sources declare them."""
    found = [declaration for source in sources for declaration in declared(source)]
    return frozenset(
        {name for name, is_set in found if is_set} - {name for name, is_set in found if not is_set}
    )


def is_set(node: ast.expr, names: frozenset[str]) -> bool:
    """Whether the expression is a set; `names` holds variables as `name`, attributes and functions as `.name`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return any(is_set(side, names) or is_keys(side) for side in (node.left, node.right))
    if isinstance(node, ast.IfExp):
        return is_set(node.body, names) or is_set(node.orelse, names)
    if isinstance(node, ast.Call):
        copies = (
            isinstance(node.func, ast.Attribute)
            and node.func.attr == "copy"
            and is_set(node.func.value, names)
        )
        name = name_of(node.func)
        return copies or is_written_as_set(node) or f".{name}" in names or name in SET_METHODS
    if isinstance(node, ast.Attribute):
        return f".{node.attr}" in names
    return is_written_as_set(node) or name_of(node) in names


def is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and name_of(node.func) in ("keys", "items")


def iterated(nodes: list[ast.AST]) -> Iterator[ast.expr]:
    """Expressions whose order shows in what the code does."""
    order_free = {
        id(argument)
        for node in nodes
        if isinstance(node, ast.Call) and name_of(node.func) in ORDER_FREE and not node.keywords
        for argument in node.args
    }
    for node in nodes:
        if isinstance(node, ast.For | ast.AsyncFor):
            yield node.iter
        elif isinstance(node, ast.YieldFrom):
            yield node.value
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp) and id(node) not in order_free:
            yield from (generator.iter for generator in node.generators)
        elif (isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Load)) or (
            isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List)
        ):
            yield node.value
        elif isinstance(node, ast.Call):
            name = name_of(node.func)
            if name in ORDERED or (name in ORDER_FREE and node.keywords):
                yield from node.args
            elif isinstance(node.func, ast.Attribute) and name == "pop" and not node.args:
                yield node.func.value


def iteration_over_set(source: Source) -> Iterator[Finding]:
    if not source.in_heart:
        return
    own = {name for name, is_set in declared(source) if is_set}
    other = {name for name, is_set in declared(source) if not is_set}
    attributes = (source.set_names - other) | own
    for nodes in scopes(source):
        names = frozenset(attributes | set(set_variables(nodes)))
        for node in iterated(nodes):
            if is_set(node, names):
                yield node.lineno, f"iteration over a set: {ast.unparse(node)}"


Rule = Callable[[Source], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    long_function,
    long_file,
    large_class,
    swallowed_exception,
    uncoded_ignore,
    assert_in_src,
    unsafe_evaluation,
    impure_heart,
    print_outside_cli,
    unfinished,
    iteration_over_set,
)


# --- the project is tidy ---------------------------------------------------------------------------------------------


def project() -> list[Source]:
    paths = sorted(path for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py"))
    sources = [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]
    set_names = set_names_of([source for source in sources if source.in_heart])
    for source in sources:
        source.set_names = set_names
    return sources


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_project_keeps(rule: Rule, sources: list[Source]) -> None:
    findings = [f"{source.path}:{line}: {text}" for source in sources for line, text in rule(source)]
    assert not findings, "\n".join(findings)


@pytest.fixture(scope="module", name="sources")
def project_sources() -> list[Source]:
    return project()


# --- every rule can fail ---------------------------------------------------------------------------------------------

RAFT, KV, CLI, TEST = (
    "src/d_engine/raft/x.py",
    "src/d_engine/kv/x.py",
    "src/d_engine/cli/x.py",
    "tests/test_x.py",
)
ENGINE = "src/d_engine/engine/x.py"


def function(code_lines: int) -> str:
    silent = '    """Two\n    lines."""\n\n    # a comment\n'
    return "def f():\n" + silent + "    f()\n" * (code_lines - 1)


def class_with(methods: int = 0, attributes: int = 0, fields: int = 0) -> str:
    body = [f"    x{number}: int\n" for number in range(fields)]
    body += [f"    def m{number}(self): ...\n" for number in range(methods)]
    if attributes:
        body += [
            "    def __init__(self):\n",
            *(f"        self.y{number} = 0\n" for number in range(attributes)),
        ]
    return "class C:\n" + "".join(body)


SWALLOW = "try:\n    f()\nexcept {}:\n    {}\n"
VOTERS = "class C:\n    voters: frozenset[str]\n    def f(self) -> None:\n        "

# rule, path, text that breaks it, the nearest text that does not
PLANTED: tuple[tuple[Rule, str, str, str], ...] = (
    (long_function, RAFT, function(51), function(50)),
    (long_function, KV, function(71), function(70)),
    (long_function, TEST, "async " + function(71), "async " + function(70)),
    (long_file, RAFT, "#\n" * 401, "#\n" * 400),
    (long_file, KV, "#\n" * 601, "#\n" * 600),
    (large_class, KV, class_with(methods=21), class_with(methods=20)),
    (large_class, KV, class_with(attributes=16), class_with(attributes=15)),
    (large_class, KV, class_with(methods=1, fields=16), class_with(fields=16)),
    (large_class, KV, class_with(attributes=8, fields=8), class_with(attributes=8, fields=7)),
    (swallowed_exception, KV, SWALLOW.format("", "raise"), SWALLOW.format("ValueError", "pass")),
    (swallowed_exception, TEST, SWALLOW.format("Exception", "pass"), SWALLOW.format("Exception", "g()")),
    (
        swallowed_exception,
        KV,
        SWALLOW.format("(OSError, BaseException)", "..."),
        SWALLOW.format("OSError", "..."),
    ),
    (swallowed_exception, KV, "suppress(Exception)", "suppress(KeyError)"),
    (uncoded_ignore, TEST, "x = 1  # type: ignore", "x = 1  # type: ignore[assignment]"),
    (uncoded_ignore, KV, "x = 1  # noqa", "x = 1  # noqa: E501"),
    (uncoded_ignore, KV, "# mypy: ignore-errors", "# mypy never ignores"),
    (assert_in_src, ENGINE, "assert x", "check(x)"),
    (unsafe_evaluation, ENGINE, "import pickle", "import json"),
    (unsafe_evaluation, TEST, "from pickle import loads", "from json import loads"),
    (unsafe_evaluation, KV, "eval('1')", "self.eval('1')"),
    (impure_heart, RAFT, "import os.path", "import dataclasses"),
    (
        impure_heart,
        KV,
        "def f():\n    from concurrent.futures import Future",
        "from collections.abc import Set",
    ),
    (print_outside_cli, ENGINE, "print(1)", "self.print(1)"),
    (unfinished, TEST, f"# {'TO'}DO: more", "# to do: more"),
    (iteration_over_set, RAFT, "for x in {1, 2}: pass", "for x in (1, 2): pass"),
    (iteration_over_set, KV, "[x for x in set(y)]", "{x for x in set(y)}"),
    (iteration_over_set, KV, "list(frozenset(y))", "sorted(frozenset(y))"),
    (iteration_over_set, KV, "sorted(set(y), key=f)", "min(set(y))"),
    (iteration_over_set, KV, "for x in a.keys() - b: pass", "for x in a.keys(): pass"),
    (
        iteration_over_set,
        KV,
        "def f(a: set[int]):\n    for x in a: pass",
        "def f(a: list[int]):\n    for x in a: pass",
    ),
    (iteration_over_set, KV, "a = set()\nfor x in a: pass", "a = dict()\nfor x in a: pass"),
    (
        iteration_over_set,
        KV,
        "def f() -> set[int] | None: ...\n[*f()]",
        "def f() -> list[set[int]]: ...\n[*f()]",
    ),
    (
        iteration_over_set,
        KV,
        VOTERS + "for x in self.voters: g(x)",
        VOTERS + "for x in sorted(self.voters): g(x)",
    ),
    (iteration_over_set, KV, VOTERS + "yield from self.voters", VOTERS + "yield self.voters"),
    (iteration_over_set, KV, VOTERS + "g(x for x in self.voters)", VOTERS + "all(x for x in self.voters)"),
    (iteration_over_set, KV, VOTERS + "self.voters.pop()", VOTERS + "self.voters.discard(1)"),
)


@pytest.mark.parametrize(("rule", "path", "bad", "good"), PLANTED)
def test_rule_finds_planted_violation(rule: Rule, path: str, bad: str, good: str) -> None:
    assert list(rule(Source(path, bad)))
    assert not list(rule(Source(path, good)))


def test_every_rule_is_proven() -> None:
    assert {rule for rule, *_ in PLANTED} == set(RULES)


def test_rules_apply_only_where_they_should() -> None:
    assert not list(assert_in_src(Source(TEST, "assert x")))
    assert not list(print_outside_cli(Source(CLI, "print(1)")))
    assert not list(impure_heart(Source(ENGINE, "import os")))
    assert not list(iteration_over_set(Source(ENGINE, "for x in {1, 2}: pass")))


def test_set_attribute_declared_in_another_file_is_known() -> None:
    declaring = Source(RAFT, "class C:\n    voters: frozenset[str]\n    peers: set[str]")
    elsewhere = Source(KV, "class D:\n    peers: list[str]")
    set_names = set_names_of([declaring, elsewhere])
    assert set_names == {".voters"}
    assert list(iteration_over_set(Source(KV, "for x in c.voters: pass", set_names)))


def test_the_project_is_looked_at(sources: list[Source]) -> None:
    paths = {source.path for source in sources}
    assert {"src/d_engine/__init__.py", "src/d_engine/raft/__init__.py", "tests/test_tidy.py"} <= paths
    assert {"asyncio", "threading", "time", "random", "os"} <= HEART_BANS
    assert len(HEART_FOLDERS) == 5
