"""What a run is given and keeps, looked at: settings, values in JSON's types, a state_dict's shapes and types."""
import json
import os

import torch

from utils.lab import LabError


def check(fits: bool, expected: str, found: object) -> None:
    """Raises LabError for a setting that does not fit."""
    if not fits:
        raise LabError(f"expected {expected}, found {found} in the settings")


def first_difference(own: dict, saved: dict) -> str | None:
    """What first tells two modules' state_dicts apart, in keys and shapes; None if nothing does."""
    for key, tensor in own.items():
        if key not in saved:
            return f"no {key}"
        shapes = [tuple(getattr(value, "shape", ())) for value in (saved[key], tensor)]
        if shapes[0] != shapes[1]:
            return f"{key} {shapes[0]} instead of {shapes[1]}"
    return next((f"a further {key}" for key in saved if key not in own), None)


def require_float(state_dict: dict, what: str, *also: torch.dtype) -> None:
    """Raises LabError, which says `what` they are, unless the tensors are float32 or of a type among `also`."""
    others = {str(tensor.dtype) for tensor in state_dict.values()} - {str(dtype) for dtype in (torch.float32, *also)}
    if others:
        raise LabError(f"expected float32 weights {what}, found {', '.join(sorted(others))}: take the file that was "
                       "saved before they were stored in fewer bits")


def plain(content: dict, where: str) -> dict:
    """`content` in JSON's types: tuples become lists, numpy's and torch's numbers Python's, paths text."""
    def convert(value: object) -> object:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if hasattr(value, "tolist"):
            return value.tolist()
        raise LabError(f"expected numbers, text and lists in {where}, found {type(value).__name__}")

    return json.loads(json.dumps(content, default=convert))
