"""Turns the working reference into what students get: a stub in place of each solution, and no lines of the teacher's.

    ### BEGIN SOLUTION task 1: the layers of Down        a comment and a raise that names task, file and part
    ...                                            ->    stand in its place
    ### END SOLUTION

    ### BEGIN HIDDEN
    ...                                            ->    nothing
    ### END HIDDEN

SOLUTION belongs in the four files that students write in, inside a function or a notebook's code cell, so that every
file can still be imported. HIDDEN may be anywhere in a text. Text that is nearly such a marker is an error, because a
misspelt marker would give a solution away.
"""
import ast
import dataclasses
import json
import re

import nbformat

from utils.lab import LabError

SOLUTION = re.compile(r"([ \t]*)### BEGIN SOLUTION task (\d+): (\S(?:.*\S)?)")
HIDDEN = re.compile(r"([ \t]*)### BEGIN HIDDEN")
END = re.compile(r"([ \t]*)### END (SOLUTION|HIDDEN)")
LIKE_A_MARKER = re.compile(r"\b(?:begin|end)[\W_]*(?:solution|hidden)", re.IGNORECASE)
SPELLING = "spell it `### BEGIN SOLUTION task 1: what is to be written`, `### BEGIN HIDDEN`, `### END SOLUTION` or " \
           "`### END HIDDEN`, alone in its line"
LINE_LENGTH = 120
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


@dataclasses.dataclass(frozen=True)
class StrippedBlock:
    """The lines between two markers, as `solution`, without the last newline.

    `first` and `last` are the markers' lines in the repository's file (from 1), or in the notebook's cell `cell` (from
    1); `indent` is the markers' indentation. A hidden block has task 0 and no name.
    """

    file: str
    cell: int
    first: int
    last: int
    task: int
    name: str
    indent: str
    solution: str = ""

    def place(self, line: int = 0) -> str:
        """The place of `line` in the repository, by default that of the block's first marker."""
        return place(self.file, self.cell, line or self.first)

    @property
    def message(self) -> str:
        """What the stub says when it is called."""
        return f"task {self.task}, still to be written in {self.file}: {self.name}"

    @property
    def stub(self) -> str:
        """What the student finds: a comment, and a raise with the message, broken where the line would be too long."""
        statement = f"raise NotImplementedError({_quoted(self.message)})"
        if len(self.indent + statement) > LINE_LENGTH:
            head = self.message.removesuffix(self.name)
            statement = "\n".join(["raise NotImplementedError(", f"{self.indent}    {_quoted(head)}",
                                   f"{self.indent}    {_quoted(self.name)})"])
        return f"{self.indent}# YOUR CODE HERE: {self.name}\n{self.indent}{statement}"


def place(file: str, cell: int, line: int) -> str:
    """A line's place as text: "network/network.py:31", or "x.ipynb, cell 15, line 3"."""
    return f"{file}, cell {cell}, line {line}" if cell else f"{file}:{line}"


def strip_text(text: str, file: str, task: int = 0, cell: int = 0) -> tuple[str, list[StrippedBlock]]:
    """The text as students get it, and the blocks that were taken out.

    task: the task that the file belongs to, 0 for a file without solutions. Raises LabError, naming the line, for a
    marker that is misspelt, nested, unclosed, stray, of another task or at another indentation, and for a block that is
    empty or less indented than its markers.
    """
    kept, blocks, inside, opening = [], [], [], None
    for number, line in enumerate(text.split("\n"), 1):
        here = place(file, cell, number)
        begin, end = SOLUTION.fullmatch(line) or HIDDEN.fullmatch(line), END.fullmatch(line)
        if LIKE_A_MARKER.search(line) and not (begin or end):
            raise LabError(f"expected a solution's marker in the agreed form, found {line.strip()!r} in {here}: "
                           + SPELLING)
        if begin and opening:
            raise LabError(f"expected {opening.place()}'s marker to be closed first, found {line.strip()!r} inside it "
                           f"in {here}: write its END before")
        if begin:
            opening, inside = _open(begin, file, task, cell, number), []
        elif end:
            blocks.append(_close(opening, end, inside, number, here))
            kept += blocks[-1].stub.split("\n") if blocks[-1].task else []
            opening = None
        else:
            (inside if opening else kept).append(line)
    if opening:
        raise LabError(f"expected an END to the marker in {opening.place()}, found none up to the end of the "
                       f"{'cell' if cell else 'file'}: write it after the solution's last line")
    return "\n".join(kept), blocks


def strip_python(text: str, file: str, task: int = 0) -> tuple[str, list[StrippedBlock]]:
    """`strip_text` for a Python file; raises LabError also where importing the file would run a stub."""
    stripped, blocks = strip_text(text, file, task)
    if not any(block.task for block in blocks):
        return stripped, blocks
    try:
        tree = ast.parse(stripped)
    except SyntaxError as error:
        raise LabError(f"expected Python without the solutions, found {error.msg} in {file} (line {error.lineno} of "
                       "what is left): put the markers around whole statements") from None
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    in_functions = {node.value for function in functions for statement in function.body
                         for node in ast.walk(statement) if isinstance(node, ast.Constant)}
    for block in blocks:
        if block.task and block.message not in in_functions:
            raise LabError(f"expected the solution to stand inside a function, found one outside in {block.place()}: "
                           "its stub would stop the import; make it a function's body")
    return stripped, blocks


def strip_notebook(text: str, file: str, task: int) -> tuple[str, list[StrippedBlock]]:
    """`strip_text` for each code cell of a notebook, without outputs and metadata.

    Of the metadata only the cells' tags stay, which training.headless needs, and a kernel of no machine in particular.
    """
    try:
        book = nbformat.reads(text, as_version=4)
        nbformat.validate(book)
    except Exception as error:  # each version of nbformat has others
        reason = str(error).strip().split("\n")[0][:200]
        raise LabError(f"expected a notebook, found {reason} in {file}: open it in Jupyter and save it again") from None
    blocks = []
    for number, cell in enumerate(book.cells, 1):
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.source, taken = strip_text(cell.source, file, task, number)
            blocks += taken
            cell.outputs, cell.execution_count = [], None
        elif LIKE_A_MARKER.search(cell.source):
            raise LabError(f"expected markers in code cells only, found one in {file}, cell {number}, which is "
                           f"{cell.cell_type}: move it, or say it in other words")
    book.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return nbformat.writes(nbformat.from_dict(book), version=4) + "\n", blocks


def _open(begin: re.Match, file: str, task: int, cell: int, number: int) -> StrippedBlock:
    if begin.re is HIDDEN:
        return StrippedBlock(file, cell, number, number, 0, "", begin[1])
    here = place(file, cell, number)
    if not task:
        raise LabError(f"expected no solution in {file}, found one in {here}: students write in the two networks and "
                       "the two notebooks; use `### BEGIN HIDDEN` for what they shall not get")
    if int(begin[2]) != task:
        raise LabError(f"expected a part of task {task}, found task {begin[2]} in {here}: correct the number, {file} "
                       f"belongs to task {task}")
    return StrippedBlock(file, cell, number, number, task, begin[3], begin[1])


def _close(opening: StrippedBlock | None, end: re.Match, inside: list[str], number: int, here: str) -> StrippedBlock:
    if not opening:
        raise LabError(f"expected a BEGIN before {end[0].strip()!r}, found none in {here}: remove it, or write "
                       "the BEGIN")
    kind = "SOLUTION" if opening.task else "HIDDEN"
    if end[2] != kind:
        raise LabError(f"expected `### END {kind}` for the marker in {opening.place()}, found {end[0].strip()!r} in "
                       f"{here}: close it with its own kind")
    if end[1] != opening.indent:
        raise LabError(f"expected the END at the indentation of its BEGIN ({opening.place()}), found another in "
                       f"{here}: align the two")
    code = [line for line in inside if line.strip() and not (opening.task and line.lstrip().startswith("#"))]
    if not code:
        raise LabError(f"expected lines between the markers, found nothing but comments in {opening.place()}: write "
                       "the solution, or remove the markers")
    outside = next((index for index, line in enumerate(inside, opening.first + 1)
                    if line.strip() and not line.startswith(opening.indent)), 0)
    if outside:
        raise LabError(f"expected the block's lines at the indentation of its markers or deeper, found another in "
                       f"{opening.place(outside)}: move the markers out, or the line in")
    return dataclasses.replace(opening, last=number, solution="\n".join(inside))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a Python literal as well
