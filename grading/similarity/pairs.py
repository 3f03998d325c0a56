"""Which submissions are alike, in code or in weights: pairs with their evidence, for a person to judge.

Nothing here is a verdict. Two honest students who took the lab's own settings and seed can get equal weights on one
machine, and short networks that follow one figure look alike; that is why the hand-out and whatever many have in common
are subtracted from the code, and why each pair comes with what there is to see.
"""
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grading.kit.strip import strip_python
from grading.similarity.weightprint import compare, fingerprint
from grading.similarity.winnow import Prints, read_source, shared_lines, tokens, winnow, without
from utils.lab import ROOT, TASKS

__all__ = ["Pair", "Submission", "find_pairs", "fingerprint", "groups"]

CODE_SHARE = 0.6       # of the smaller file's own passages
CODE_PASSAGES = 12     # at least, so that a few lines are no flag
COMMON = 10            # in more files than this (and than a quarter of the class) a passage is common knowledge
WEIGHTS_SHARE = 0.2    # of the elements, equal in every byte
# Measured on task 2's network after 150 steps: another seed 0.07, the same seed with another learning rate 0.92 or
# another order of pictures 0.89; a copy with 10 % noise 0.995, a copy trained on for 60 gentle steps 0.999, for 100 at
# full rate 0.967, which is let go.
WEIGHTS_COSINE = 0.98
WEIGHTS_PAIRED = 0.5   # of the elements, before a cosine says anything


@dataclass(frozen=True)
class Submission:
    """One student's side of a task: the network file as it was handed in, its sha256, the weights' fingerprint."""

    student: str
    source: Path | None = None
    sha256: str = ""
    weights: dict | None = None
    weights_sha256: str = ""


@dataclass
class Pair:
    """Two students' files of one task that are alike.

    code: the shared part of the smaller file's own passages, 1 where the files agree token for token, None where the
    code is no reason. weights: the like for the weights, equal_share or cosine. evidence: a line for each reason.
    lines: for each of the two, the lines (first, last) that the other has too.
    """

    task: int
    first: str
    second: str
    code: float | None = None
    weights: float | None = None
    evidence: list[str] = field(default_factory=list)
    lines: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ((), ())

    @property
    def score(self) -> float:
        return max(self.code or 0, self.weights or 0)

    def other(self, student: str) -> str:
        return self.second if student == self.first else self.first


def find_pairs(task: int, submissions: Sequence[Submission]) -> list[Pair]:
    """The pairs of `submissions` to one task that are alike enough for a person to look at, the most alike first."""
    pairs: dict[tuple[int, int], Pair] = {}

    def pair(i: int, j: int) -> Pair:
        return pairs.setdefault((i, j), Pair(task, submissions[i].student, submissions[j].student))

    _compare_code(task, submissions, pair)
    _compare_weights(submissions, pair)
    return sorted(pairs.values(), key=lambda found: (-found.score, found.first, found.second))


def groups(pairs: Sequence[Pair]) -> list[list[str]]:
    """The students whom pairs connect, directly or through others, as sorted groups, the largest first."""
    home: dict[str, set[str]] = {}
    for pair in pairs:
        joined = home.get(pair.first, {pair.first}) | home.get(pair.second, {pair.second})
        for student in joined:
            home[student] = joined
    distinct = {id(group): sorted(group) for group in home.values()}
    return sorted(distinct.values(), key=lambda group: (-len(group), group))


def hand_out(task: int) -> Prints:
    """The fingerprints of the network file as the kit holds it, without the solutions."""
    file = TASKS[task].network_file
    name = file.relative_to(ROOT).as_posix()
    return winnow(tokens(strip_python(file.read_text(encoding="utf-8"), name, task)[0]))


def _compare_code(task: int, submissions: Sequence[Submission], pair) -> None:
    given = hand_out(task).every
    prints: dict[int, Prints] = {}
    for index, one in enumerate(submissions):
        if one.source is not None and one.source.is_file():
            prints[index] = without(winnow(tokens(read_source(one.source))), given)
    for same in _alike({index: own.whole for index, own in prints.items() if own.kept}):
        own_lines = {index: shared_lines(prints[index], prints[index]) for index in same}
        for i, j in itertools.combinations(same, 2):
            found = pair(i, j)
            found.code = 1.0
            bytes_too = submissions[i].sha256 and submissions[i].sha256 == submissions[j].sha256
            found.evidence.append("the network files are equal, byte for byte" if bytes_too else
                                  "the network files are equal but for names, comments, layout and numbers from 10 on")
            found.lines = own_lines[i], own_lines[j]
    spread = Counter(value for own in prints.values() for value in own.every)
    common = {value for value, files in spread.items() if files > max(COMMON, len(submissions) // 4)}
    prints = {index: without(own, common) for index, own in prints.items()}
    together = Counter(itertools.chain.from_iterable(
        itertools.combinations(files, 2) for files in _owners(prints).values()))
    for (i, j), count in together.items():
        share = count / max(min(len(prints[i].kept), len(prints[j].kept)), 1)
        if count < CODE_PASSAGES or share < CODE_SHARE or pair(i, j).code is not None:
            continue
        found = pair(i, j)
        found.code = min(share, 0.99)
        found.lines = shared_lines(prints[i], prints[j]), shared_lines(prints[j], prints[i])
        found.evidence.append(f"{share:.0%} of the passages that are not the hand-out's are in both network files, "
                              f"whatever their names: lines {_ranges(found.lines[0])} and {_ranges(found.lines[1])}")


def _compare_weights(submissions: Sequence[Submission], pair) -> None:
    places = [index for index, one in enumerate(submissions) if one.weights and one.weights.get("storages")]
    likeness = compare([submissions[index].weights for index in places])
    for a, b in itertools.combinations(range(len(places)), 2):
        i, j = places[a], places[b]
        share, cosine = likeness.equal_share[a, b], likeness.cosine[a, b]
        if share >= WEIGHTS_SHARE:
            found = pair(i, j)
            found.weights = float(share)
            file_too = submissions[i].weights_sha256 and submissions[i].weights_sha256 == submissions[j].weights_sha256
            found.evidence.append("the weights files are equal, byte for byte" if file_too else
                                  f"{likeness.equal[a, b]} weight tensors are equal, byte for byte: {share:.0%} of the "
                                  "smaller network's elements")
        elif cosine >= WEIGHTS_COSINE and likeness.paired_share[a, b] >= WEIGHTS_PAIRED:
            found = pair(i, j)
            found.weights = float(cosine)
            found.evidence.append(f"the weights point the same way: cosine {cosine:.4f} over "
                                  f"{likeness.paired_share[a, b]:.0%} of the smaller network's elements (separately "
                                  "initialised networks: about 0; one seed, other settings: up to about 0.9)")


def _alike(marks: Mapping[int, str]) -> list[list[int]]:
    """The keys that share a mark, two or more of them."""
    found = defaultdict(list)
    for index, mark in marks.items():
        found[mark].append(index)
    return [same for same in found.values() if len(same) > 1]


def _owners(prints: Mapping[int, Prints]) -> dict[int, list[int]]:
    found = defaultdict(list)
    for index, own in prints.items():
        for value in own.kept:
            found[value].append(index)
    return found


def _ranges(lines: Sequence[tuple[int, int]], most: int = 4) -> str:
    """The longest ranges of lines, in the file's order: 12-48, 60-71."""
    longest = sorted(sorted(lines, key=lambda pair: pair[0] - pair[1])[:most])
    text = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in longest)
    return text + (" and others" if len(lines) > most else "")
