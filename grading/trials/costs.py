"""From what is claimed and what is read of a network's costs to those that rank it, and to the doubts about them.

Everything counted inside the sandbox can be forged by the submission, so nothing here is a proof. Counts that are made
in different ways are compared, the largest ranks, and where they do not agree a person is asked to look.
"""
from dataclasses import dataclass

from grading.trials.claims import Claims
from handin.weights import Contents

TOLERANCE = 0.2            # share by which two counts may differ before a person looks
SLACK = 4096               # bytes: differences below are nothing
LITERAL_ALLOWANCE = 2048   # bytes of numbers and texts in the source that are nobody's weights
FILE_OVERHEAD, TENSOR_OVERHEAD = 2048, 400  # bytes that a .pth needs, and for each tensor (torch.save: about 300)


@dataclass(frozen=True)
class Costs:
    """flops: MACs that rank, or None if they are not known. size_kb: KB that rank. claimed: all counts, as recorded."""

    flops: int | None
    size_kb: float | None
    claimed: dict[str, int | float | None]
    flags: list[dict[str, str]]


def judge_costs(claims: Claims, contents: Contents | None, literal_bytes: int, file_bytes: int) -> Costs:
    """The costs of a network whose run is over.

    FLOPs are the largest of thop's count, the dispatcher's for a picture of zeros and its largest for any scored
    picture. The size is the larger of the bytes of all tensors held (before or after the forward passes) and of the
    tensors in the .pth, unpacked, plus what the .pth holds beside its tensors and the source's literals, each above an
    allowance. contents: the .pth's, None where it cannot be read; file_bytes: its size as a file, which counts then.
    """
    told = claims.numbers
    flops = [told[name] for name in ("thop", "dispatched", "zeros", "largest") if name in told]
    held = [told[name] for name in ("held_before", "held_after") if name in told]
    stored = contents.stored if contents else file_bytes
    size = max([*held, stored]) + _beside(contents) + max(0, literal_bytes - LITERAL_ALLOWANCE)
    claimed = {"thop": told.get("thop"), "dispatched": told.get("dispatched", told.get("zeros")),
               "dispatched_max": told.get("largest"), "held_kb": max(held) / 1024 if held else None,
               "pth_kb": file_bytes / 1024, "pth_unpacked_kb": stored / 1024 if contents else None,
               "literal_bytes": literal_bytes}
    flags = [{"code": code, "text": text} for code, text in
             (*_doubt_counts(claims), *_doubt_sizes(told, contents, literal_bytes))]
    return Costs(max(flops) if len(flops) > 1 else None, size / 1024 if held else None, claimed, flags)


def _beside(contents: Contents | None) -> int:
    """Bytes of the .pth that are neither its tensors' nor needed to hold them."""
    return max(0, contents.beside - FILE_OVERHEAD - TENSOR_OVERHEAD * contents.storages) if contents else 0


def _doubt_counts(claims: Claims) -> list[tuple[str, str]]:
    told, doubts = claims.numbers, []
    if claims.uncounted or not {"thop", "zeros", "largest"} <= told.keys():
        doubts.append(("UNCOUNTED", f"thop's count is missing: {claims.uncounted or 'nothing was reported'}"))
    if {"dispatched", "hidden"} <= told.keys() and told["hidden"] > TOLERANCE * told["dispatched"]:
        doubts.append(("COUNTERS_DISAGREE", f"thop does not see {told['hidden']:,} of the {told['dispatched']:,} "
                                            "multiply-accumulates that are executed in convolutions and products"))
    if {"seen", "idle"} <= told.keys() and told["idle"] > TOLERANCE * told["seen"]:
        doubts.append(("COUNTERS_DISAGREE", f"of the {told['seen']:,} multiply-accumulates that thop counts in "
                                            f"convolutions and products the dispatcher sees {told['idle']:,} less"))
    picture = [told[name] for name in ("zeros", "smallest", "largest") if name in told]
    if picture and max(picture) > 1.01 * min(picture):
        doubts.append(("COST_VARIES", f"what is executed depends on the picture: {min(picture):,} to {max(picture):,} "
                                      "multiply-accumulates"))
    elif picture and "pair" in told and abs(told["pair"] - 2 * max(picture)) > 2 * TOLERANCE * max(picture):
        doubts.append(("COST_VARIES", f"two pictures at once take {told['pair']:,} multiply-accumulates, one takes "
                                      f"{max(picture):,}"))
    if told.get("elements", 0) > max(told.get("zeros", 0), told.get("dispatched", 0)):
        doubts.append(("UNCOUNTED_WORK", f"operators that no counter knows write {told['elements']:,} numbers a "
                                         "picture, more than there are multiply-accumulates"))
    if claims.strange:
        doubts.append(("UNCOUNTED_WORK", f"operators that no counter knows: {', '.join(claims.strange)}"))
    if claims.subclassed:
        doubts.append(("SUBCLASS", "layers of types derived from counted ones, which thop does not count: "
                                   f"{', '.join(claims.subclassed)}"))
    if told.get("early", 0):
        doubts.append(("EARLY_WORK", f"{told['early']:,} multiply-accumulates are executed while the file is imported "
                                     "and the weights are loaded"))
    if claims.foreign:
        doubts.append(("CHANNEL", f"{claims.foreign} lines in the report that the grader did not write"))
    return doubts


def _doubt_sizes(told: dict[str, int], contents: Contents | None, literal_bytes: int) -> list[tuple[str, str]]:
    doubts = []
    before, after = told.get("held_before", 0), told.get("held_after", 0)
    if before != after:
        doubts.append(("SIZE_CHANGES", f"tensors of {before:,} bytes are held before the forward passes, of "
                                       f"{after:,} after them"))
    if literal_bytes > LITERAL_ALLOWANCE:
        doubts.append(("LITERALS", f"the source holds {literal_bytes:,} bytes of numbers and texts, and "
                                   f"{LITERAL_ALLOWANCE:,} are usual: may weights be among them?"))
    if contents is None:
        return [*doubts, ("WEIGHTS_FILE", "the .pth is not what torch.save writes: its tensors could not be measured")]
    held = max(before, after)
    if abs(held - contents.stored) > max(TOLERANCE * held, SLACK):
        doubts.append(("SIZES_DISAGREE", f"the .pth holds tensors of {contents.stored:,} bytes, the loaded network of "
                                         f"{held:,}"))
    if _beside(contents):
        doubts.append(("WEIGHTS_FILE", f"the .pth holds {contents.beside:,} bytes beside its {contents.storages} "
                                       "tensors: may weights be among them?"))
    return doubts
