"""The markers around solutions: what becomes of a block, and whatever is nearly a marker is refused."""
import nbformat
import pytest

from grading.kit.strip import strip_notebook, strip_python, strip_text
from utils.lab import LabError

GOOD = """def f():
    ### BEGIN SOLUTION task 1: the "answer" of f
    return 40 + 2
    ### END SOLUTION
"""


def test_a_block_becomes_a_stub_at_its_indentation():
    stripped, (block,) = strip_python(GOOD, "a.py", 1)
    assert stripped == """def f():
    # YOUR CODE HERE: the "answer" of f
    raise NotImplementedError("task 1, still to be written in a.py: the \\"answer\\" of f")
"""
    assert (block.place(), block.last, block.solution) == ("a.py:2", 4, "    return 40 + 2")
    scope = {}
    exec(stripped, scope)
    with pytest.raises(NotImplementedError, match='the "answer" of f'):
        scope["f"]()


def test_a_long_stub_is_broken_and_says_the_same():
    name = "a part whose name is long, " * 4 + "so long"
    stripped, _ = strip_python(GOOD.replace('the "answer" of f', name), "some_folder/a.py", 1)
    scope = {}
    exec(stripped, scope)
    with pytest.raises(NotImplementedError) as caught:
        scope["f"]()
    assert str(caught.value) == f"task 1, still to be written in some_folder/a.py: {name}"


def test_hidden_lines_go_without_a_trace():
    assert strip_text("a\n### BEGIN HIDDEN\nb\n### END HIDDEN\nc\n", "Makefile")[0] == "a\nc\n"


@pytest.mark.parametrize(("old", "new", "line", "words"), [
    ("### BEGIN SOLUTION task 1: the \"answer\" of f", "### BEGIN SOLUTION", 2, "in the agreed form"),
    ("### BEGIN", "## BEGIN", 2, "in the agreed form"),
    ("### BEGIN", "###BEGIN", 2, "in the agreed form"),
    ("### BEGIN SOLUTION", "### begin solution", 2, "in the agreed form"),
    ("### BEGIN SOLUTION", "### BEGIN  SOLUTION", 2, "in the agreed form"),
    ("### BEGIN SOLUTION", "### BEGINSOLUTION", 2, "in the agreed form"),
    ("### BEGIN SOLUTION", "### BEGIN_SOLUTION", 2, "in the agreed form"),
    ("### END SOLUTION", "### END SOLUTION ", 4, "in the agreed form"),
    ("### END SOLUTION", "### end of it  ### END SOLUTION", 4, "in the agreed form"),
    ("    return 40 + 2", "    return 40 + 2  ### END SOLUTION", 3, "in the agreed form"),
    ("task 1", "task 2", 2, "expected a part of task 1, found task 2"),
    ("    return 40 + 2", "    ### BEGIN SOLUTION task 1: b\n    return 1", 3, "closed first"),
    ("    return 40 + 2", "    ### BEGIN HIDDEN\n    return 1", 3, "closed first"),
    ("    ### END SOLUTION\n", "", 2, "expected an END"),
    ("### BEGIN SOLUTION task 1: the \"answer\" of f", "pass", 4, "expected a BEGIN"),
    ("    ### END SOLUTION", "    ### END HIDDEN", 4, "### END SOLUTION"),
    ("    ### END", "        ### END", 4, "indentation of its BEGIN"),
    ("    return 40 + 2\n", "", 2, "nothing but comments"),
    ("    return 40 + 2", "    # think", 2, "nothing but comments"),
    ("    return 40 + 2", "  return 40 + 2", 3, "indentation of its markers"),
    ("def f():", "class F:", 2, "inside a function"),
    ("def f():", "if True:", 2, "inside a function"),
    ("def f():", "def f(:", 1, "expected Python"),
])
def test_a_marker_that_is_not_as_agreed_is_named_with_its_line(old, new, line, words):
    assert old in GOOD
    text = GOOD.replace(old, new)
    with pytest.raises(LabError, match=words) as caught:
        strip_python(text, "network/network.py", 1)
    assert f"network/network.py:{line}" in str(caught.value) or f"network/network.py (line {line} " in str(caught.value)
    assert ": " in str(caught.value) and "\n" not in str(caught.value)


def test_a_marker_at_the_left_margin_of_a_module_is_refused():
    text = "### BEGIN SOLUTION task 1: the answer\nanswer = 42\n### END SOLUTION\n"
    with pytest.raises(LabError, match=r"inside a function, found one outside in network/network\.py:1"):
        strip_python(text, "network/network.py", 1)
    with pytest.raises(LabError, match=r"expected no solution in utils/a\.py, found one in utils/a\.py:2"):
        strip_python(GOOD, "utils/a.py")


def test_markers_of_a_notebook_are_named_with_cell_and_line():
    def strip(kind: str, source: str):
        cell = nbformat.v4.new_code_cell(source) if kind == "code" else nbformat.v4.new_markdown_cell(source)
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), cell])
        return strip_notebook(nbformat.writes(book), "book.ipynb", 1)

    text, (block,) = strip("code", "x = 1\n### BEGIN SOLUTION task 1: y\ny = 2\n### END SOLUTION")
    assert (block.cell, block.first, block.last) == (2, 2, 4) and "y = 2" not in text
    with pytest.raises(LabError, match=r"expected an END .* book\.ipynb, cell 2, line 1.*end of the cell"):
        strip("code", "### BEGIN SOLUTION task 1: y\ny = 2")
    with pytest.raises(LabError, match=r"book\.ipynb, cell 2, which is markdown"):
        strip("markdown", "### BEGIN SOLUTION task 1: y\ny = 2\n### END SOLUTION")
    for text in ("not JSON", '{"cells": 3}', "[]"):
        with pytest.raises(LabError, match=r"expected a notebook, found .* in book\.ipynb"):
            strip_notebook(text, "book.ipynb", 1)
