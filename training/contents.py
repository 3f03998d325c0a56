"""What a run keeps, looked at: values in JSON's types, and what tells two state_dicts apart."""
import json
import os

from utils.lab import LabError


def first_difference(own: dict, saved: dict) -> str | None:
    """What first tells two modules' state_dicts apart, in keys and shapes; None if nothing does."""
    for key, tensor in own.items():
        if key not in saved:
            return f"no {key}"
        shapes = [tuple(getattr(value, "shape", ())) for value in (saved[key], tensor)]
        if shapes[0] != shapes[1]:
            return f"{key} {shapes[0]} instead of {shapes[1]}"
    return next((f"a further {key}" for key in saved if key not in own), None)


def plain(content: dict, where: str) -> dict:
    """`content` in JSON's types: tuples become lists, numpy's and torch's numbers Python's, paths text."""
    def convert(value: object) -> object:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if hasattr(value, "tolist"):
            return value.tolist()
        raise LabError(f"expected numbers, text and lists in {where}, found {type(value).__name__}")

    return json.loads(json.dumps(content, default=convert))
