"""Batches: the same images in every tier and for every number of processes, and nothing left behind."""
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_pair
from torch.utils.data import DataLoader

from dataset import ring
from dataset.augment import Augment
from dataset.batches import TIERS, Batches, open_evaluation
from dataset.cache import Arrays
from dataset.dataset import SegmentationDataset
from utils.lab import MEAN, STD, LabError

WORLDS = [1, 2, 3, 6, 7, 8]


class Stub:
    """What Batches needs of a data set: random pixels that cannot be written, every target full of its number."""

    split = "stub"
    cached = None

    def __init__(self, n: int = 17, augment: Augment | None = None) -> None:
        self.augment = augment
        rng = np.random.default_rng(n)
        images = rng.integers(0, 256, (n, 256, 512, 3), dtype=np.uint8)
        targets = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 256, 512)).copy()
        for part in (images, targets):
            part.setflags(write=False)
        self.arrays = images, targets

    def __len__(self) -> int:
        return len(self.arrays[0])


@pytest.fixture(scope="module")
def plain() -> Stub:
    return Stub()


@pytest.fixture(scope="module")
def augmented(plain) -> Stub:
    stub = Stub(1, Augment())
    stub.arrays = plain.arrays
    return stub


def numbers(batches: Batches) -> list[list[int]]:
    """The numbers of the images in each batch of an epoch, told by their targets (unaugmented)."""
    return [target[:, 0, 0].tolist() for _, target in batches]


def order_of(batches: Batches) -> list[int]:
    """The numbers of an epoch's images."""
    return list(itertools.chain.from_iterable(numbers(batches)))


def equal(ours, theirs) -> bool:
    """The same batches, bit for bit."""
    return all(torch.equal(a, b) for one, other in zip(ours, theirs, strict=True)
               for a, b in zip(one, other, strict=True))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches of")]


# --- what lies beside an image -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("augment", [None, Augment(flip=0, crop=0, color=0),
                                     Augment(flip=0.5, crop=0.4, scale=(1.5, 1.5), rotate=0, color=0)])
def test_what_lies_beside_a_image_is_mirrored_with_it_and_zero_where_it_was_cropped(plain, tier, augment):
    dataset = Stub(1, augment)
    left = np.zeros((17, 256, 512, 3), np.uint8)
    left[:, :, :256] = 200  # the left half of every image is bright, of what lies beside it, too
    dataset.arrays = left, plain.arrays[1]
    soft = np.ones((17, 2, 4, 8), np.uint8)
    soft[..., :4] = 1 + np.arange(17)[:, None, None, None]
    batches = Batches(dataset, 5, shuffle=True, seed=2, tier=tier, soft=soft)
    kinds = set()
    for data, target, beside in [*batches, *batches]:  # kept for later: no buffer is shared
        assert beside.dtype == torch.uint8 and beside.shape[1:] == (2, 4, 8)
        for image, label, part in zip(data, target, beside, strict=True):
            bright = image[0] > 0
            if bright.float().mean() == 0.5 and bright[:, 0].all() != bright[:, -1].all() and label.max() < 255:
                number = int(label[0, 0])
                mirrored = bool(bright[0, -1])
                expected = torch.from_numpy(soft[number])
                if part.any():
                    assert torch.equal(part, expected.flip(2) if mirrored else expected)
                    kinds.add("mirrored" if mirrored else "straight")
            if not part.any():
                kinds.add("cropped")
    assert kinds == ({"mirrored", "straight", "cropped"} if augment and augment.flip else {"straight"})


def test_zeros_mark_exactly_the_cropped_images(plain):
    dataset = Stub(1, Augment(flip=0, crop=0.5, scale=(0.5, 0.5), rotate=0, color=0))
    dataset.arrays = plain.arrays
    soft = np.full((17, 1, 2, 4), 9, np.uint8)
    for _, target, beside in Batches(dataset, 4, shuffle=True, soft=soft):
        assert ((target == 255).flatten(1).any(1) == (beside == 0).flatten(1).all(1)).all()  # shrunk: a rim is unseen


@pytest.mark.parametrize("soft", [np.zeros((16, 1, 2, 4), np.uint8), np.zeros((17, 1, 2, 4), np.float32),
                                  np.zeros((17, 2, 4), np.uint8)])
def test_what_cannot_lie_beside_the_images_is_refused(plain, soft):
    with pytest.raises(ValueError, match=r"expected soft as uint8 \(17, C, h, w\)"):
        Batches(plain, 4, soft=soft)


# --- the images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
def test_batches_are_the_normalized_images_in_order(plain, tier):
    images, targets = plain.arrays
    data, target = (torch.cat(parts) for parts in zip(*Batches(plain, 5, tier=tier), strict=True))
    assert (data.dtype, target.dtype) == (torch.float32, torch.int64)
    np.testing.assert_allclose(data.permute(0, 2, 3, 1), (images / 255 - MEAN) / STD, atol=1e-5)
    np.testing.assert_array_equal(target, targets)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("cached", [True, False])
def test_batches_are_the_items_of_a_dataloader(sample, tier, cached):
    dataset = SegmentationDataset(sample, "train", cache=cached)
    batches = Batches(dataset, batch_size=3, tier=tier)
    assert len(batches) == 2 and equal(batches, DataLoader(dataset, batch_size=3))


@pytest.mark.parametrize("augment", [False, True])
def test_all_tiers_give_the_very_same_batches_over_two_epochs(plain, augmented, augment):
    dataset = augmented if augment else plain
    gpu, ring, cpu = (Batches(dataset, 4, shuffle=True, seed=5, tier=tier) for tier in ("gpu", "ring", "cpu"))
    for _ in range(2):
        expected = list(cpu)
        assert equal(gpu, expected) and equal(ring, expected)


def test_a_cpu_gathers_batch_by_batch_by_itself(plain):
    assert Batches(plain, 4).tier == "cpu"


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("augment", [False, True])
def test_batches_that_are_kept_do_not_change(plain, augmented, tier, augment):
    batches = Batches(augmented if augment else plain, 2, shuffle=True, tier=tier)
    kept = [(parts, [part.clone() for part in parts]) for parts in batches]
    assert len(kept) == 9 and equal(*zip(*kept, strict=True))


@pytest.mark.parametrize("tier", TIERS)
def test_batches_may_be_written_on_and_the_map_stays_as_it_is(tmp_path, plain, tier):
    parts = []
    for name, part in zip(("images", "labels"), plain.arrays, strict=True):
        np.save(tmp_path / f"{name}.npy", part[:5])
        parts.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    stub = Stub(1)
    stub.arrays, stub.cached = tuple(parts), Arrays(*parts, tmp_path)
    batches = Batches(stub, 2, tier=tier)
    for _ in range(2):  # the second epoch sees what the first wrote on, if anything is shared
        for number, (data, target) in enumerate(batches):
            assert target[:, 0, 0].tolist() == [[0, 1], [2, 3], [4]][number]
            data.fill_(9)
            target.fill_(9)
    for part in itertools.chain(batches.take([0, 1]), batches.stored([0, 1])):
        part.fill_(9)
    for part, expected in zip(parts, plain.arrays, strict=True):
        np.testing.assert_array_equal(part, expected[:5])


def test_take_and_stored_give_chosen_images_whole_and_unaugmented(plain, augmented):
    batches = Batches(augmented, 4, shuffle=True)
    for chosen in ([3, 0, 3], torch.tensor([3, 0, 3]), np.array([3, 0, 3])):
        images, targets = batches.stored(chosen)
        np.testing.assert_array_equal(images, plain.arrays[0][[3, 0, 3]])
        np.testing.assert_array_equal(targets, plain.arrays[1][[3, 0, 3]])
        data, target = batches.take(chosen)
        np.testing.assert_allclose(data.permute(0, 2, 3, 1), (images.numpy() / 255 - MEAN) / STD, atol=1e-5)
        np.testing.assert_array_equal(target, targets)
    with pytest.raises(IndexError):
        batches.take([17])


# --- order, seed and epoch ----------------------------------------------------------------------------------------


def test_an_epoch_is_shuffled_and_holds_every_image_once(plain):
    order = order_of(Batches(plain, 4, shuffle=True))
    assert sorted(order) == list(range(17)) != order


def test_order_and_augmentation_follow_from_seed_and_epoch(augmented):
    def epochs(seed: int, first: int, count: int) -> list[list]:
        batches = Batches(augmented, 6, shuffle=True, seed=seed)
        batches.set_epoch(first)
        return [list(batches) for _ in range(count)]

    whole = epochs(3, 0, 3)
    assert all(map(equal, whole, epochs(3, 0, 3)))
    assert equal(whole[2], epochs(3, 2, 1)[0])
    assert not equal(whole[0], whole[1]) and not equal(whole[1], whole[2])
    assert not any(equal(epoch, epochs(4, 0, 1)[0]) for epoch in whole)


def test_an_epoch_left_early_counts_as_one(plain):
    whole, left = (Batches(plain, 4, shuffle=True) for _ in range(2))
    _, second = numbers(whole), numbers(whole)
    next(iter(left))
    assert left.epoch == 1 and numbers(left) == second


def test_a_images_augmentation_is_the_same_in_batches_of_every_size(augmented):
    one_by_one, at_once = (Batches(augmented, batch_size, shuffle=True) for batch_size in (1, 17))
    (data, target), = at_once
    for number, (own_data, own_target) in enumerate(one_by_one):
        assert torch.equal(own_data[0], data[number]) and torch.equal(own_target[0], target[number])


# --- shards -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prime() -> Stub:
    return Stub(23, Augment())


def shards(dataset: Stub, batch_size: int, world: int, shuffle: bool) -> list[Batches]:
    return [Batches(dataset, batch_size, shuffle=shuffle, seed=1, shard=(rank, world)) for rank in range(world)]


@pytest.mark.parametrize("world", WORLDS)
def test_unshuffled_shards_hold_every_image_exactly_once(prime, monkeypatch, world):
    monkeypatch.setattr(prime, "augment", None)
    for rank, batches in enumerate(shards(prime, 2 * world, world, shuffle=False)):
        own = list(range(23))[rank::world]
        expected = [own[start:start + 2] for start in range(0, len(own), 2)]
        assert len(batches) == len(expected) and numbers(batches) == expected


@pytest.mark.parametrize("world", WORLDS)
def test_shuffled_shards_deal_the_order_and_make_equally_many_steps(prime, monkeypatch, world):
    monkeypatch.setattr(prime, "augment", None)
    dealt = order_of(Batches(prime, 5, shuffle=True, seed=1))[:23 // world * world]
    parts = shards(prime, 3 * world, world, shuffle=True)
    epochs = [numbers(batches) for batches in parts]
    assert [list(itertools.chain(*epoch)) for epoch in epochs] == [dealt[rank::world] for rank in range(world)]
    assert len({tuple(map(len, epoch)) for epoch in epochs}) == 1
    assert {len(batches) for batches in parts} == {len(epochs[0])}


def test_each_epoch_leaves_out_other_images(prime, monkeypatch):
    monkeypatch.setattr(prime, "augment", None)
    parts = shards(prime, 8, 8, shuffle=True)
    left_out = [frozenset(range(23)).difference(*map(order_of, parts)) for _ in range(3)]
    assert all(len(some) == 7 for some in left_out) and len(set(left_out)) == 3


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_all_shards_together_make_the_steps_of_a_single_process(prime, world, shuffle):
    single = list(Batches(prime, 2 * world, shuffle=shuffle, seed=1))
    parts = [list(batches) for batches in shards(prime, 2 * world, world, shuffle)]
    for rank, part in enumerate(parts):
        for step, (data, target) in enumerate(part):
            own = slice(rank, rank + len(data) * world, world)
            assert torch.equal(data, single[step][0][own]) and torch.equal(target, single[step][1][own])
    used = sum(len(target) for part in parts for _, target in part)
    assert used == (23 // world * world if shuffle else 23)


@pytest.mark.parametrize("shuffle", [False, True])
def test_fewer_images_than_processes_make_no_empty_batch(shuffle):
    lengths = []
    for batches in shards(Stub(2), 3, 3, shuffle):
        sizes = [len(target) for _, target in batches]
        assert len(batches) == len(sizes)
        lengths.append(sum(sizes))
    assert lengths == ([0, 0, 0] if shuffle else [1, 1, 0])


@pytest.mark.parametrize("batch_size, world", [(0, 1), (-4, 1), (0, 2), (5, 2), (2, 4)])
def test_batch_size_that_cannot_be_dealt_is_named(plain, batch_size, world):
    with pytest.raises(LabError, match=f"BATCH_SIZE .* processes, {world}, found {batch_size} in the settings"):
        Batches(plain, batch_size, shard=(0, world))


@pytest.mark.parametrize("tier", TIERS)
def test_batch_larger_than_the_split_is_one_batch(plain, tier):
    batches = Batches(plain, 100, tier=tier)
    assert len(batches) == 1 and numbers(batches) == [list(range(17))]


# --- the ring -----------------------------------------------------------------------------------------------------


def test_an_exception_in_the_rings_thread_is_raised_in_the_loop(plain, monkeypatch):
    calls, gather = itertools.count(1), ring.gather

    def failing(*arguments: object) -> list[torch.Tensor]:
        if next(calls) == 3:
            raise LabError("the third batch")
        return gather(*arguments)

    monkeypatch.setattr(ring, "gather", failing)
    got = []
    with pytest.raises(LabError, match="the third batch"):
        got.extend(target[:, 0, 0].tolist() for _, target in Batches(plain, 4, tier="ring"))
    assert got == [[0, 1, 2, 3], [4, 5, 6, 7]] and threads() == []


def test_leaving_the_loop_early_leaves_no_thread(plain):
    batches = Batches(plain, 2, tier="ring")
    for _ in batches:
        assert threads() == ["batches of stub"]
        break
    assert threads() == []
    iterator = iter(batches)
    next(iterator)
    iterator.close()
    assert threads() == []
    with pytest.raises(ZeroDivisionError):
        for _ in batches:
            raise ZeroDivisionError
    assert threads() == []
    assert numbers(batches) == numbers(Batches(plain, 2)) and threads() == []


def test_two_loops_at_once_do_not_disturb_each_other(plain):
    expected = numbers(Batches(plain, 3))
    batches = Batches(plain, 3, tier="ring")
    for (_, one), (_, other), number in zip(batches, batches, expected, strict=True):
        assert one[:, 0, 0].tolist() == other[:, 0, 0].tolist() == number
    assert threads() == []
    nested = [numbers(batches) for _ in batches]
    assert nested == [expected] * len(expected) and threads() == []


def test_an_epoch_that_is_never_begun_starts_no_thread(plain):
    iterator = iter(Batches(plain, 3, tier="ring"))
    assert threads() == []
    del iterator


# --- what it says -------------------------------------------------------------------------------------------------


def test_it_says_where_the_images_are_kept(plain, sample):
    for tier, text in (("gpu", "in the memory of cpu, copied from memory, decoded just now"),
                       ("ring", "copied to cpu batch by batch from memory"),
                       ("cpu", "gathered batch by batch from memory")):
        assert str(Batches(plain, 4, tier=tier)).startswith(f"stub: 17 images, 0.01 GB, {text}")
    cached = SegmentationDataset(sample, "train")
    assert str(Batches(cached, 4)) == (f"train: 4 images, 0.00 GB, gathered batch by batch from the cache "
                                       f"{cached.cached.folder}")


def test_an_unknown_tier_is_told_before_the_first_batch(plain):
    with pytest.raises(LabError, match="expected a tier of gpu, ring, cpu, found 'disk'"):
        Batches(plain, 4, tier="disk")


def test_evaluation_takes_val_or_test_where_only_that_is(tmp_path, tiny_pair, capsys):
    def described(split: str | None) -> str:
        batches, description = open_evaluation(tmp_path, split, torch.device("cpu"))
        assert len(batches) == 1 and not batches.shuffle and batches.dataset.augment is None
        assert str(batches) in capsys.readouterr().err
        return description

    write_pair(tmp_path, "test", "x_000000_000019", *tiny_pair)
    write_pair(tmp_path, "train", "x_000000_000019", *tiny_pair)
    assert described(None) == f"test of {Path(tmp_path)} (laid out as Cityscapes), 1 images"
    write_pair(tmp_path, "val", "x_000000_000019", *tiny_pair)
    assert described(None).startswith("val of")
    assert described("train").startswith("train of")
