"""What a replayed graph costs, and what about it a person should look at.

The figures come from the replay, in which no code of the submission's runs: they are counts and no claims. A doubt is
a flag: the score stands, and a person decides whether it ranks.
"""
from dataclasses import dataclass

from utils.lab import INPUT_SIZE

PIXELS = INPUT_SIZE[0] * INPUT_SIZE[1]
MOST_WRITTEN = 20     # elements that operators write, to a multiply-accumulate (the lab's networks: 0.03 to 1.2)
MOST_ARITHMETIC = 0.4   # elements computed or summed outside products, likewise (the lab's: 0.001 to 0.13)
MOST_GAP = 0.05       # of mIoU on composites (honest networks: at most 0.012, a table of labels: 0.41)


@dataclass(frozen=True)
class Seams:
    """mIoU of composites, images put together of two at a column, and of the same pixels in the two whole images."""

    composites: float
    whole: float

    @property
    def gap(self) -> float:
        return self.whole - self.composites


def doubts(told: dict[str, int]) -> list[dict[str, str]]:
    """Flags for a replay's figures: macs, least_macs, elements, arithmetic, wide, number_bytes, bytes."""
    macs, found = told["macs"], []
    if told["least_macs"] != macs:
        found.append(("COST_VARIES", f"the work depends on the image: {told['least_macs']:,} to {macs:,} "
                                     "multiply-accumulates"))
    if macs < PIXELS:
        found.append(("FREE", f"expected at least one multiply-accumulate a pixel ({PIXELS:,}), found {macs:,}"))
    for name, most, words in (("elements", MOST_WRITTEN, "write or resize"),
                              ("arithmetic", MOST_ARITHMETIC, "compute or sum")):
        if told[name] > most * max(macs, 1):
            found.append(("UNCOUNTED_WORK", f"operators that count as nothing {words} {told[name]:,} numbers an image, "
                                            f"more than {most} for each of {macs:,} multiply-accumulates"))
    if told["wide"]:
        found.append(("WIDE_PRODUCTS", f"{told['wide']:,} multiply-accumulates are of 64-bit or whole numbers, each of "
                                       "which can hold several products"))
    if told["number_bytes"]:
        found.append(("NUMBERS", f"the graph holds {told['number_bytes']:,} bytes of numbers beside its tensors, which "
                                 "count: may weights be among them?"))
    return [{"code": code, "text": text} for code, text in found]


def doubt_seams(seams: Seams) -> list[dict[str, str]]:
    """A flag where a network does much worse on two halves of images than on the whole ones."""
    if seams.gap <= MOST_GAP:
        return []
    return [{"code": "BY_HEART", "text": f"mIoU {seams.composites:.3f} on images put together of two, "
                                         f"{seams.whole:.3f} on the same pixels of whole ones: may labels have been "
                                         "learned by heart?"}]
