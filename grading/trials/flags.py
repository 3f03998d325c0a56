"""What a person should look at in a network file, read off its syntax tree: the file is parsed and never run.

Code that wants to hide gets past any such reading. It is one net of several: what is measured is compared as well
(grading.trials.costs), and a flag takes no points by itself.
"""
import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from grading.trials.claims import clean_text
from grading.trials.suspects import ATTRIBUTES, BUILTINS, COUNTED, FREE_TO_SET, NAMES, WORDS
from handin.rules import LOADERS, READERS

LARGEST = 1 << 17  # bytes of source that are parsed: a file can be made on which each takes some 700 bytes, and 0.1 ms
PROSE_ALLOWANCE = 8192  # bytes of docstrings that are nobody's weights: the reference networks have up to 5,500
LONG_NAME, LONG_TEXT = 64, 256  # characters of a name, and bytes of a constant, that look like data
GUARD = ast.dump(ast.parse("__name__ == '__main__'", mode="eval").body)


@dataclass
class Source:
    """flags: one for each code that was found, with its lines. literal_bytes: of the numbers and texts in the code.

    Very long names are texts, too, and so are docstrings above an allowance.
    """

    flags: list[dict[str, str]] = field(default_factory=list)
    literal_bytes: int = 0


def read_source(path: Path) -> Source:
    """Looks at a network file. One that Python cannot parse has a flag that says so; nothing is raised for it."""
    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    try:
        if len(raw) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(raw)  # of bytes: in the encoding that the file names, as Python itself reads it
        return Source(_collect(_Reader(tree).places()), _literal_bytes(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or str(error) or type(error).__name__
        return Source([{"code": "SOURCE", "text": f"{WORDS['SOURCE']}: {clean_text(reason)}"}], path.stat().st_size)


def _collect(places: Iterator[tuple[str, int, str]]) -> list[dict[str, str]]:
    found: dict[str, dict[str, int]] = {}
    for code, line, what in sorted(places, key=lambda place: place[1]):
        found.setdefault(code, {}).setdefault(clean_text(what, 60), line)
    flags = []
    for code, lines in found.items():
        shown = ", ".join(f"{what} (line {line})" for what, line in list(lines.items())[:6])
        more = f" and {len(lines) - 6} more" if len(lines) > 6 else ""
        flags.append({"code": code, "text": f"{WORDS[code]}: {shown}{more}"})
    return flags


class _Reader:
    """A parsed file, with what its names stand for."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes = list(_walk(tree))
        self.prose = _prose(self.nodes)
        self.known: dict[str, str] = {}
        self.classes = {node.name for node in self.nodes if isinstance(node, ast.ClassDef)}
        self.paths = {argument.arg for node in self.nodes if isinstance(node, ast.FunctionDef)
                      and node.name == "load_model" for argument in node.args.args}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                self.known |= {alias.asname or alias.name.split(".")[0]:
                               alias.name if alias.asname else alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                self.known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        self.roots = {full.split(".")[0] for full in self.known.values()}
        for node in self.nodes:  # Base = nn.Conv2d
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = self.name(node.value)
                if self._foreign(name):
                    self.known.setdefault(node.targets[0].id, name)

    def name(self, node: ast.AST) -> str:
        """a.b.c with aliases written out, also for getattr(a.b, "c"); ?.c for a part of something else."""
        parts = []
        while True:
            if isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr"
                    and len(node.args) > 1 and isinstance(node.args[1], ast.Constant)):
                parts.append(str(node.args[1].value))
                node = node.args[0]
            else:
                break
        parts.append(self.known.get(node.id, node.id) if isinstance(node, ast.Name) else "?")
        return ".".join(reversed(parts))

    def places(self) -> Iterator[tuple[str, int, str]]:
        """(code, line, what) of all that is suspicious, perhaps several times."""
        for node in self.nodes:
            line = getattr(node, "lineno", 0)
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                if node.names[0].name == "*" and (node.module or "").split(".")[0] not in ("torch", "math", "typing"):
                    yield "INTROSPECTION", line, f"from {node.module} import *"
            elif isinstance(node, (ast.Attribute, ast.Name, ast.Call)):
                names = [self.name(node)]
            elif isinstance(node, ast.FunctionDef):
                names = [f"def.{node.name}"]
            else:
                names = []
            for name in names:
                if isinstance(node, (ast.Import, ast.ImportFrom)) or self._foreign(name):
                    yield from ((code, line, name) for code, rule in NAMES.items() if rule.fullmatch(name))
                last = name.rpartition(".")[2]
                yield from ((code, line, last) for code, rule in ATTRIBUTES.items() if rule.fullmatch(last))
            if isinstance(node, ast.Call):
                yield from ((code, line, what) for code, what in self._call(node))
            elif isinstance(node, ast.ClassDef):
                yield from ((code, line, what) for code, what in self._class(node))
            elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
                yield from ((code, line, what) for code, what in self._change(node))
            elif isinstance(node, ast.Constant):
                if isinstance(node.value, str) and node.value.startswith("/proc"):
                    yield "FILES", line, "/proc"
                if id(node) not in self.prose and _size(node.value) > LONG_TEXT:
                    yield "LONG", line, f"{_size(node.value):,} bytes"

    def _call(self, node: ast.Call) -> Iterator[tuple[str, str]]:
        name = self.name(node.func)
        last = name.rpartition(".")[2]
        mentioned = {part.id for part in ast.walk(node.args[0]) if isinstance(part, ast.Name)} if node.args else set()
        if (last in READERS or name in LOADERS) and not mentioned & self.paths:
            yield "FILES", f"{name}()"
        if last == "forward" and not (isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call)
                                      and self.name(node.func.value.func) == "super"):
            yield "FORWARD_CALL", f"{name}()"
        if name in ("getattr", "setattr", "delattr") and len(node.args) > 1:
            owner, attribute = self.name(node.args[0]), node.args[1]
            computed = not isinstance(attribute, ast.Constant)
            if name != "getattr" and self._foreign(owner):
                yield "PATCH", f"{name}({owner}, ...)"
            elif name == "getattr" and computed and owner not in ("self", "torch.nn", "torch.nn.functional"):
                yield "INTROSPECTION", f"getattr({owner}, ...)"
        if name == "type" and len(node.args) == 3:
            yield "SUBCLASS", "type() with bases"

    def _class(self, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
        for base in node.bases:
            name = self.name(base)
            last = name.rpartition(".")[2]
            if isinstance(base, ast.Call):
                yield "SUBCLASS", f"{node.name} of a computed class"
            elif last.removeprefix("Lazy") in COUNTED and last not in self.classes - {node.name}:
                yield "SUBCLASS", f"{node.name}({name})"
        if any(isinstance(part, ast.FunctionDef) and part.name == "__call__" for part in node.body):
            yield "HOOKS", f"{node.name}.__call__"

    def _change(self, node: ast.Attribute | ast.Subscript) -> Iterator[tuple[str, str]]:
        name = self.name(node if isinstance(node, ast.Attribute) else node.value)
        last = name.rpartition(".")[2]
        changes = isinstance(node, ast.Attribute) and last in ("forward", "__class__", "__call__")
        if changes or (self._foreign(name) and not FREE_TO_SET.fullmatch(name)):
            yield "PATCH", f"{name} = ..."

    def _foreign(self, name: str) -> bool:
        """Whether it is of something imported or built in."""
        return name.split(".")[0] in self.roots | BUILTINS


def _walk(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those under the module's own `if __name__ == "__main__":`, which never runs where it is imported.

    Where the file gives anything else the name `__name__`, it may run, and nothing is left out.
    """
    yield tree
    guarded = not any(_names_itself(node) for node in ast.walk(tree))
    for child in ast.iter_child_nodes(tree):
        if guarded and isinstance(child, ast.If) and ast.dump(child.test) == GUARD:
            for part in child.orelse:
                yield from ast.walk(part)
        else:
            yield from ast.walk(child)


def _names_itself(node: ast.AST) -> bool:
    """Whether `__name__` stands in a node in any way but to be read: assigned, imported, an argument, a text."""
    reads = isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load)
    return not reads and "__name__" in _words(node)


def _words(node: ast.AST) -> Iterator[str]:
    """The names and texts that are a node's own."""
    for _, value in ast.iter_fields(node):
        yield from (word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str))


def _prose(nodes: list[ast.AST]) -> set[int]:
    """Ids of the texts that are statements."""
    return {id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def _literal_bytes(tree: ast.Module) -> int:
    """Bytes of the numbers (8 each, or more) and texts in the code, each very long name among them once.

    Texts that are statements are prose, of which a part is free, unless something asks for `__doc__`.
    """
    nodes = list(_walk(tree))
    prose = _prose(nodes)
    constants = [node for node in nodes if isinstance(node, ast.Constant)]
    names = {word for node in nodes if not isinstance(node, ast.Constant) for word in _words(node)}
    free = 0 if any("__doc__" in _words(node) for node in nodes) else PROSE_ALLOWANCE
    told = sum(_size(node.value) for node in constants if id(node) in prose)
    kept = sum(_size(node.value) for node in constants if id(node) not in prose)
    return kept + sum(_size(name) for name in names if len(name) > LONG_NAME) + max(0, told - free)


def _size(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, complex)):
        return 0
    return max(8, (value.bit_length() + 7) // 8) if isinstance(value, int) else 16 if isinstance(value, complex) else 8
