"""Which students' work is alike, in code, weights or errors: pairs with their evidence, for a person to judge.

Nothing here is a verdict. Two honest students with the lab's own settings and seed can get equal weights on one
machine, and short networks that follow one figure look alike. That is why each pair comes with what there is to see.
The hand-out is subtracted from the code. What many share makes a cluster, which is shown as one, and no pairs.
"""
import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from grading.errors import equal_errors
from grading.kit.strip import strip_python
from grading.report.similarity.weights import compare
from grading.report.similarity.winnow import Prints, read_source, shared_lines, tokens, winnow, without
from utils.lab import ROOT, TASKS

CODE_SHARE = 0.6       # of the smaller file's own passages
CODE_PASSAGES = 12     # at least, so that a few lines are no flag
COMMON = 10            # a passage in more files than this, and than a quarter of the class, belongs to a cluster
WEIGHTS_SHARE = 0.2    # of the elements, equal in every byte
# Measured on task 2's network after 150 steps: another seed 0.07, the same seed with another learning rate 0.92 or
# another order of images 0.89; a copy with 10 % noise 0.995, a copy trained on for 60 gentle steps 0.999, for 100 at
# full rate 0.967, which is let go.
WEIGHTS_COSINE = 0.98
WEIGHTS_PAIRED = 0.5   # of the elements, before a cosine says anything
# Measured on the sample's 50 validation images: two seeds of task 2's network 0.46, of the U-Net 0.41, one of each 0.31
# to 0.32; a copy with 3 % noise 0.71, without its calibration 0.77, in 8 bits 0.96, in 16 bits 0.998.
ERRORS_SHARE = 0.6     # equal errors


@dataclass(frozen=True)
class TaskFiles:
    """What one student handed in for a task: the network file, its sha256, the weights' fingerprint and sha256.

    errors: the error map of the scored masks and its data's digest (grading.errors).
    """

    student: str
    source: Path | None = None
    sha256: str = ""
    weights: dict | None = None
    weights_sha256: str = ""
    errors: tuple[np.ndarray, str] | None = None


@dataclass
class AlikePair:
    """Two students' files of one task that are alike.

    code: the shared part of the smaller file's own passages, 1 where the files agree token for token, None where the
    code is no reason. weights: the same for the weights, equal share or cosine. errors: the share of equal errors.
    evidence: a line for each reason. lines: for each of the two, the lines (first, last) that the other has too.
    """

    task: int
    first: str
    second: str
    code: float | None = None
    weights: float | None = None
    errors: float | None = None
    evidence: list[str] = field(default_factory=list)
    lines: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ((), ())

    @property
    def score(self) -> float:
        return max(self.code or 0, self.weights or 0, self.errors or 0)

    def other(self, student: str) -> str:
        return self.second if student == self.first else self.first


@dataclass
class Cluster:
    """Students of whose network files most is what many files of the class have: a tutorial, or a chain of copies.

    share: the middle student's share of such passages; lines: where they are in the first student's file.
    """

    task: int
    students: list[str]
    share: float
    lines: list[tuple[int, int]]

    @property
    def text(self) -> str:
        return (f"{self.share:.0%} of the passages that are not the hand-out's are in many of these files: lines "
                f"{_ranges(self.lines)} of the first")


FindPair = Callable[[int, int], AlikePair]  # the pair of two students, by their places in the class


def find_pairs(task: int, everybody: Sequence[TaskFiles]) -> tuple[list[AlikePair], list[Cluster]]:
    """The pairs of students whose files of a task are alike enough for a person to look at, the most alike first.

    Beside them the clusters: of them no pairs are made but those that agree in what the cluster has not.
    """
    pairs: dict[tuple[int, int], AlikePair] = {}

    def pair(i: int, j: int) -> AlikePair:
        return pairs.setdefault((i, j), AlikePair(task, everybody[i].student, everybody[j].student))

    clusters = _compare_code(task, everybody, pair)
    _compare_weights(everybody, pair)
    _compare_errors(everybody, pair)
    return sorted(pairs.values(), key=lambda found: (-found.score, found.first, found.second)), clusters


def groups(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The students whom pairs connect, directly or through others, as sorted groups, the largest first."""
    home: dict[str, set[str]] = {}
    for first, second in pairs:
        joined = home.get(first, {first}) | home.get(second, {second})
        for student in joined:
            home[student] = joined
    distinct = {id(group): sorted(group) for group in home.values()}
    return sorted(distinct.values(), key=lambda group: (-len(group), group))


def hand_out(task: int) -> Prints:
    """The fingerprints of the network file as the kit holds it, without the solutions."""
    file = TASKS[task].network_file
    name = file.relative_to(ROOT).as_posix()
    return winnow(tokens(strip_python(file.read_text(encoding="utf-8"), name, task)[0]))


def _compare_code(task: int, everybody: Sequence[TaskFiles], pair: FindPair) -> list[Cluster]:
    given = hand_out(task).every
    prints = {index: without(winnow(tokens(read_source(one.source))), given)
              for index, one in enumerate(everybody) if one.source is not None and one.source.is_file()}
    equal = _by_value((own.whole, index) for index, own in prints.items() if own.kept)
    for i, j in _couples(equal.values()):
        found = pair(i, j)
        found.code = 1.0
        bytes_too = everybody[i].sha256 and everybody[i].sha256 == everybody[j].sha256
        found.evidence.append("the network files are equal, byte for byte" if bytes_too else
                              "the network files are equal but for names, comments, layout and numbers from 10 on")
        found.lines = shared_lines(prints[i], prints[i]), shared_lines(prints[j], prints[j])
    spread = Counter(value for own in prints.values() for value in own.every)
    common = {value for value, files in spread.items() if files > max(COMMON, len(everybody) // 4)}
    clusters = _clusters(task, everybody, prints, common)
    prints = {index: without(own, common) for index, own in prints.items()}
    for i, j, share in _sharing(prints, prints):
        if pair(i, j).code is not None:
            continue
        found = pair(i, j)
        found.code = min(share, 0.99)
        found.lines = shared_lines(prints[i], prints[j]), shared_lines(prints[j], prints[i])
        found.evidence.append(f"{share:.0%} of the passages that are not the hand-out's are in both network files, "
                              f"whatever their names: lines {_ranges(found.lines[0])} and {_ranges(found.lines[1])}")


    return clusters


def _sharing(looked_at: dict[int, Prints], whole: dict[int, Prints]) -> Iterator[tuple[int, int, float]]:
    """Each two files that share enough of the passages `looked_at`, with the part that these are of the smaller one."""
    owners = _by_value((value, index) for index, own in looked_at.items() for value in own.kept)
    for (i, j), count in Counter(_couples(owners.values())).items():
        share = count / max(min(len(whole[i].kept), len(whole[j].kept)), 1)
        if count >= CODE_PASSAGES and share >= CODE_SHARE:
            yield i, j, share


def _clusters(task: int, everybody: Sequence[TaskFiles], prints: dict[int, Prints], common: set[int]) -> list[Cluster]:
    """The groups of those whose files are mostly passages that are `common`."""
    inside = {index: without(own, own.every.keys() - common) for index, own in prints.items()}
    places = {everybody[index].student: index for index in prints}
    found = []
    for students in groups((everybody[i].student, everybody[j].student) for i, j, _ in _sharing(inside, prints)):
        members = [places[student] for student in students]
        share = statistics.median(len(inside[index].kept) / max(len(prints[index].kept), 1) for index in members)
        first = inside[members[0]]
        found.append(Cluster(task, students, share, shared_lines(first, first)))
    return found


def _compare_weights(everybody: Sequence[TaskFiles], pair: FindPair) -> None:
    places = [index for index, one in enumerate(everybody) if one.weights and one.weights.get("storages")]
    likeness = compare([everybody[index].weights for index in places])
    for a, b in itertools.combinations(range(len(places)), 2):
        i, j = places[a], places[b]
        share, cosine = likeness.equal_share[a, b], likeness.cosine[a, b]
        if share >= WEIGHTS_SHARE:
            found = pair(i, j)
            found.weights = float(share)
            file_too = everybody[i].weights_sha256 and everybody[i].weights_sha256 == everybody[j].weights_sha256
            found.evidence.append("the weights files are equal, byte for byte" if file_too else
                                  f"{likeness.equal[a, b]} weight tensors are equal, byte for byte: {share:.0%} of the "
                                  "smaller network's elements")
        elif cosine >= WEIGHTS_COSINE and likeness.paired_share[a, b] >= WEIGHTS_PAIRED:
            found = pair(i, j)
            found.weights = float(cosine)
            found.evidence.append(f"the weights point the same way: cosine {cosine:.4f} over "
                                  f"{likeness.paired_share[a, b]:.0%} of the smaller network's elements (separately "
                                  "initialized networks: about 0; one seed, other settings: up to about 0.9)")


def _compare_errors(everybody: Sequence[TaskFiles], pair: FindPair) -> None:
    alike = _by_value(((one.errors[1], one.errors[0].shape), index)
                      for index, one in enumerate(everybody) if one.errors is not None)
    for places in alike.values():  # of one data set
        shares = equal_errors([everybody[index].errors[0] for index in places])
        for a, b in zip(*np.nonzero(np.triu(shares >= ERRORS_SHARE, 1)), strict=True):
            found = pair(places[a], places[b])
            found.errors = float(shares[a, b])
            found.evidence.append(f"the networks err alike: {found.errors:.0%} of the pixels at which either errs have "
                                  "the same wrong class in both")


def _by_value(owned) -> dict[object, list[int]]:
    """(value, owner) as {value: its owners}."""
    found = defaultdict(list)
    for value, owner in owned:
        found[value].append(owner)
    return found


def _couples(owners):
    """Each two of those who have a value in common, once for every such value."""
    return itertools.chain.from_iterable(itertools.combinations(sharing, 2) for sharing in owners)


def _ranges(lines: Sequence[tuple[int, int]], most: int = 4) -> str:
    """The longest ranges of lines, in the file's order: 12-48, 60-71."""
    longest = sorted(sorted(lines, key=lambda pair: pair[0] - pair[1])[:most])
    text = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in longest)
    return text + (" and others" if len(lines) > most else "")
