"""A network as a graph: the replay gives what the network gives, counts what torch counts, and refuses all else."""
import copy
import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import student_networks
import torch
from conftest import ROOT
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from network.network import UNet
from network2.network import LowComplexityNet, deploy
from utils.complexity import count_flops, count_size
from utils.graph.errors import GraphError
from utils.graph.export import export_network
from utils.graph.operators import FIXED, NAMES, find
from utils.graph.replay import Replay
from utils.graph.schema import MOST_BYTES, parse
from utils.graph.weight import information, number_bytes

torch.manual_seed(0)
IMAGE = torch.randn(1, 3, 256, 512)


def replayed(network):
    data, storages = export_network(network)
    return Replay(parse(data), storages)


@pytest.fixture(scope="module")
def content():
    """A small network's graph as JSON, and its storages."""
    data, storages = export_network(student_networks.BatchNorm())
    return json.loads(data), storages


def changed(content, change):
    other = copy.deepcopy(content)
    change(other)
    return json.dumps(other).encode()


@pytest.mark.parametrize("name", [name for name, proved in student_networks.FORMS.items() if proved])
def test_the_replay_gives_what_the_network_gives(name):
    network = getattr(student_networks, name)().eval()
    logits, _ = replayed(network).run(IMAGE)
    with torch.no_grad():
        assert torch.allclose(logits, network(IMAGE), rtol=0, atol=1e-5)


def test_nearly_all_that_students_write_can_be_proved():
    assert len(student_networks.FORMS) >= 30 and sum(student_networks.FORMS.values()) / len(
        student_networks.FORMS) >= 0.85


@pytest.mark.parametrize("name", [name for name, proved in student_networks.FORMS.items() if not proved])
def test_what_cannot_be_proved_is_told_with_the_line(name):
    # What torch has compiled has lines of its own, and in some versions none.
    line = "" if name == "ScriptedPart" else r"\(line \d+ of student_networks.py: .*\)"
    with pytest.raises(GraphError, match=f"expected .*, found .*{line}"):
        replayed(getattr(student_networks, name)().eval())


@pytest.mark.parametrize("make", [lambda: UNet(4), lambda: deploy(LowComplexityNet()),
                                  lambda: deploy(LowComplexityNet(), store="float16"),
                                  lambda: deploy(LowComplexityNet(), store="int8")],
                         ids=["task 1", "task 2", "float16", "int8"])
def test_the_lab_s_networks_cost_what_the_script_says(make):
    network = make().eval()
    replay = replayed(network)
    logits, costs = replay.run(IMAGE)
    with torch.no_grad():
        assert torch.equal(logits, network(IMAGE))
    assert costs.macs == count_flops(network)
    counters = sum(buffer.nbytes for name, buffer in network.named_buffers() if name.endswith("num_batches_tracked"))
    assert replay.size_kb == count_size(network) - counters / 1024  # which nothing reads
    assert costs.arithmetic < costs.macs and costs.elements < 20 * costs.macs


@pytest.mark.parametrize("name", ["Plain", "PaddedSkip", "SqueezeExcite", "Einsum", "UnfoldMatmul", "Autocast",
                                  "HalfInside", "CoordinateChannels"])
def test_products_are_counted_as_torch_s_own_counter_does(name):
    network = getattr(student_networks, name)().eval()
    _, costs = replayed(network).run(IMAGE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(IMAGE)
    assert costs.macs == counter.get_total_flops() // 2


class Layers(nn.Module):
    """Layers whose work is known: see the test."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        y = self.layers(x)
        return nn.functional.interpolate(y[:, :1].expand(-1, 8, -1, -1), size=x.shape[2:])


@pytest.mark.parametrize(("layers", "macs"), [
    ([nn.BatchNorm2d(3)], 4 * 3 * 256 * 512), ([nn.BatchNorm2d(3, affine=False)], 2 * 3 * 256 * 512),
    ([nn.AvgPool2d(4)], 3 * 64 * 128), ([nn.AdaptiveAvgPool2d((8, 16))], 3 * 8 * 16 * (32 * 32 + 1)),
    ([nn.MaxPool2d(2), nn.ReLU(), nn.Upsample(scale_factor=2)], 0),
    ([nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)], 4 * 128 * 256 * 27),
    ([nn.Conv2d(3, 6, 3, padding=1, groups=3)], 6 * 256 * 512 * 9),
    ([nn.ConvTranspose2d(3, 4, 2, 2)], 3 * 256 * 512 * 4 * 4)])
def test_layers_by_hand(layers, macs):
    _, costs = replayed(Layers(*layers).eval()).run(IMAGE)
    assert costs.macs == macs


def test_a_recurrent_layer_is_taken_apart_and_counts_its_matrices_once_a_step():
    network = student_networks.RowLSTM().eval()
    plain, pooling = replayed(student_networks.Plain()).run(IMAGE)[1].macs, 8 * 8 * 16
    assert replayed(network).run(IMAGE)[1].macs - plain == 8 * 16 * (2 * 4 * 8 * 8) + pooling


def test_what_changes_in_forward_is_as_it_was_for_the_next_image():
    replay = replayed(student_networks.Counter())
    assert torch.equal(replay.run(IMAGE)[0], replay.run(IMAGE)[0])
    (calls,) = [tensor for tensor in replay.tensors.values() if tensor.ndim == 0]
    assert calls == 0


def test_a_storage_counts_once_and_whole_and_what_is_not_used_does_not():
    class Views(student_networks.Base):
        def make(self):
            table = torch.randn(1000)
            self.first, self.last = nn.Parameter(table[:8]), nn.Parameter(table[-8:])
            self.unused = nn.Parameter(torch.zeros(5000))

        def peculiar(self, x):
            return x * self.first[:, None, None] + self.last[:, None, None]

    assert replayed(Views()).bytes == replayed(student_networks.Plain()).bytes + 4000


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_products_that_can_hold_several_are_told_apart(dtype):
    class Wide(student_networks.Base):
        def peculiar(self, x):
            small = nn.functional.avg_pool2d(x, 8).flatten(2)[0].to(dtype)
            return x + (small @ small.T).sum().to(x.dtype) * 0

    _, costs = replayed(Wide()).run(IMAGE)
    assert costs.wide == 8 * 8 * 128


def test_canonical_json_says_the_same_and_nothing_of_the_sender_s(content):
    graph = parse(json.dumps(content[0]).encode())
    assert parse(graph.canonical()) == graph and graph.canonical() == parse(graph.canonical()).canonical()
    padded = json.dumps(content[0], indent=7).encode() + b" " * 5000
    assert parse(padded).canonical() == graph.canonical()


@pytest.mark.parametrize(("expected", "change"), [
    ("an operator of the list", lambda c: c["nodes"][0].update(op="randn_like.default")),
    ("an operator of the list", lambda c: c["nodes"][0].update(op="from_file.default")),
    ("an operator of the list", lambda c: c["nodes"][0].update(op="as_strided.default")),
    ("an operator of the list", lambda c: c["nodes"][0].update(op="__class__.default")),
    ("an operator of the list", lambda c: c["nodes"][0].update(op="conv2d.nonsense")),
    ("arguments of", lambda c: c["nodes"][0]["args"].update(secret="weights")),
    ("a node", lambda c: c["nodes"][0].update(name="conv")),
    ("a graph of schema 1", lambda c: c.update(comment="x" * 1000)),
    ("a graph of schema 1", lambda c: c.update(schema=2)),
    ("a value that is there already", lambda c: c["nodes"][0]["args"].update(input={"ref": [99]})),
    ("a value that is there already", lambda c: c.update(output=[-1])),
    ("a known dtype", lambda c: c["tensors"][0].update(dtype="complex64")),
    ("a tensor's shape", lambda c: c["tensors"][0].update(shape=[-1, 2])),
    ("a tensor's shape", lambda c: c["tensors"][0].update(shape=[True])),
    ("no computed int", lambda c: c["nodes"][0]["args"].update(groups={"ref": [0]})),
    ("a int for", lambda c: c["nodes"][0]["args"].update(groups=1.0)),
    ("training = False", lambda c: next(node for node in c["nodes"] if "batch_norm" in node["op"])["args"].update(
        training=True)),
])
def test_what_is_not_of_the_schema_is_refused(content, expected, change):
    with pytest.raises(GraphError, match=expected):
        parse(changed(content[0], change))


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"{}", b"\xff\xfe", b"null", b'{"schema": NaN}',
                                  b"9" * 10_000, b" " * (MOST_BYTES + 1)])
def test_what_is_no_graph_is_refused(data):
    with pytest.raises(GraphError):
        parse(data)


def test_a_view_must_lie_in_its_storage(content):
    for change in (lambda c: c["tensors"][0].update(offset=1), lambda c: c["tensors"][0].update(storage=99),
                   lambda c: c["tensors"][0].update(stride=[10**6] * 4, shape=[8, 3, 3, 3])):
        with pytest.raises(GraphError, match="storage"):
            Replay(parse(changed(content[0], change)), content[1])


def test_a_mask_may_select_no_shape():
    class Masked(student_networks.Base):
        def peculiar(self, x):
            return x * x[x > 0].mean()

    with pytest.raises(GraphError):
        replayed(Masked()).run(IMAGE)


def test_numbers_in_the_graph_weigh_what_they_could_carry():
    class Constants(student_networks.Base):
        """Weights as numbers in the code, a channel at a time."""

        def peculiar(self, x):
            rng = random.Random(0)
            return torch.cat([x[:, k % 8:k % 8 + 1] * rng.random() for k in range(100)], 1)[:, :8]

    class Positions(student_networks.Base):
        """Weights as places in a table of all bytes."""

        def peculiar(self, x):
            rng, table = random.Random(0), torch.arange(256.0) / 256
            return x * torch.stack([table[rng.randrange(256)] for _ in range(120)])[:8, None, None]

    def weight(network):
        return number_bytes(parse(export_network(network)[0]))

    assert weight(Constants()) >= (100 - 32) * 8
    assert weight(Positions()) >= (120 - 64) * 2
    assert weight(student_networks.Plain()) == 0


def connected(x, bits):
    zero, one = torch.arange(2.0).unbind()
    return x * torch.stack([one if bit else zero for bit in bits]).mean()


def permuted(x, bits):
    rng = random.Random(0)
    y = torch.arange(256.0).reshape([2] * 8)
    for _ in range(len(bits) // 15):  # 8! is above 2^15
        y = y.permute(rng.sample(range(8), 8)) + 0
    return x * y.flatten()[0]


def split(x, bits):
    rng = random.Random(0)
    for _ in range(len(bits) // 8 // 16):
        sizes = [rng.randrange(1, 257) for _ in range(16)]
        x = x + torch.ones(sum(sizes)).split(sizes)[3][0]
    return x


@pytest.mark.parametrize("carry", [connected, permuted, split])
def test_what_a_graph_can_carry_is_at_most_what_it_weighs(carry):
    """By whatever means numbers are hidden in a graph, they weigh what they carry, but for 1 KB and a twentieth."""
    bits = random.Random(1).choices((0, 1), k=1920)

    class Carrier(student_networks.Base):
        def peculiar(self, x):
            return carry(x, bits)

    graph = parse(export_network(Carrier())[0])
    assert information(graph) >= len(bits) / 8  # Shannon: no code is shorter
    assert number_bytes(graph) >= information(graph) - 1024 - 1184 / 20 - 1


def test_operators_weigh_what_their_choice_can_carry():
    names = [f"{name}.default" for name in ("sin", "cos", "tan", "exp", "relu", "tanh", "floor", "neg")]
    chosen = random.Random(3).choices(names, k=4000)  # 3 bits each, and beyond 2,000 nodes each weighs 16 bytes
    graph = {"schema": 1, "tensors": [], "output": [4000], "nodes": [
        {"op": name, "args": {"self": {"ref": [k]}}} for k, name in enumerate(chosen)]}
    graph = parse(json.dumps(graph).encode())
    assert information(graph) >= 4000 * 3 / 8 and number_bytes(graph) == 2000 * 16


def test_views_weigh_what_they_can_carry():
    places = random.Random(2).choices(range(256), k=2000)
    views = [{"storage": 0, "dtype": "uint8", "offset": place, "shape": [1], "stride": [1]} for place in places]
    stacked = {"op": "cat.default", "args": {"tensors": [{"ref": [k]} for k in range(1, 2001)]}}
    graph = {"schema": 1, "tensors": views, "nodes": [stacked], "output": [2001]}
    assert information(parse(json.dumps(graph).encode())) >= 2000


@pytest.mark.parametrize(("op", "args"), [
    ("arange.default", {"end": {"ref": [2]}}), ("arange.start", {"start": 0, "end": {"ref": [2]}}),
    ("one_hot.default", {"self": {"ref": [1]}}), ("one_hot.default", {"self": {"ref": [1]}, "num_classes": -1}),
    ("index_put.default", {"self": {"ref": [1]}, "indices": [], "values": {"ref": [1]}, "accumulate": True})])
def test_shapes_that_would_depend_on_values_and_sums_by_writing_are_refused(op, args):
    item = {"op": "item.default", "args": {"self": {"ref": [1]}}}
    view = {"storage": 0, "dtype": "int64", "offset": 0, "shape": [], "stride": []}
    graph = {"schema": 1, "tensors": [view], "nodes": [item, {"op": op, "args": args}], "output": [3]}
    with pytest.raises(GraphError, match=r"a known|accumulate = False"):
        parse(json.dumps(graph).encode())


def test_attention_counts_the_batch_that_is_broadcast():
    class Broadcast(student_networks.Base):
        def peculiar(self, x):
            keys = x[:, :, :16, :16]  # (1, 8, 16, 16), and one query for all 8 heads
            return x + F.scaled_dot_product_attention(keys.mean((1, 2), keepdim=True), keys, keys).mean()

    plain = replayed(student_networks.Plain()).run(IMAGE)[1].macs
    assert replayed(Broadcast()).run(IMAGE)[1].macs - plain == 8 * 16 * (16 + 16)


def test_every_name_of_the_list_is_an_operator_of_this_torch_and_writes_no_random_numbers():
    words = ("rand", "bernoulli", "multinomial", "normal", "empty", "as_strided", "set_", "resize_", "from_file")
    for name in NAMES:
        quiet = {argument.name for argument in find(name)._schema.arguments} & set(FIXED)  # train = False, say
        assert torch.Tag.nondeterministic_seeded not in find(name).tags or quiet, name
        assert not any(name.startswith(word) for word in words)


FUZZ = """
import copy, json, random, resource, sys
import numpy as np
import torch
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
import student_networks
from utils.graph.errors import GraphError
from utils.graph.export import export_network
from utils.graph.operators import NAMES
from utils.graph.replay import Replay
from utils.graph.schema import parse
torch.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
seed, number = int(sys.argv[2]), int(sys.argv[3])
rng, names, image = random.Random(seed), sorted(NAMES), torch.randn(1, 3, 256, 512)
sources = [export_network(getattr(student_networks, name)()) for name in
           ("BatchNorm", "SqueezeExcite", "MaxUnpool", "RowLSTM", "Einsum", "GridSample", "MaskAssignment")]
VALUES = [0, 1, -1, 2, 3, 7, 8, 255, 2**31, 2**53, -2**53, 2**63 - 1, 0.5, 1e308, -1e-308, True, False, None, "",
          "same", "zeros", [], [0], [1, 1], [-1], [2**40], [[]], {"ref": [0]}, {"ref": [1]}, {"ref": [5, 1]},
          {"dtype": "int8"}, {"dtype": "bool"}, {"float": "nan"}, {"float": "inf"}, {}]

def places(value, path=()):
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))

def mutate(content):
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        path = rng.choice(list(places(content))[1:])
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        what = rng.random()
        if path[-1] == "op" and what < 0.7:
            holder["op"] = rng.choice(names)
        elif what < 0.1 and isinstance(holder, list):
            holder.insert(path[-1], copy.deepcopy(rng.choice(holder)))
        elif what < 0.2:
            del holder[path[-1]]
        else:
            holder[path[-1]] = copy.deepcopy(rng.choice(VALUES))
    return content

ended = {"refused": 0, "ran": 0}
for _ in range(number):
    data, storages = rng.choice(sources)
    try:
        replay = Replay(parse(json.dumps(mutate(json.loads(data))).encode()), storages)
        replay.run(image)
        ended["ran"] += 1
    except GraphError:
        ended["refused"] += 1
print(json.dumps(ended))
"""


def fuzz(seed, number, timeout):
    done = subprocess.run([sys.executable, "-c", FUZZ, ROOT, str(seed), str(number)], capture_output=True, text=True,
                          cwd=ROOT, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ended = json.loads(done.stdout.splitlines()[-1])
    assert sum(ended.values()) == number and ended["refused"] > number / 4
    return ended


def test_changed_graphs_end_in_a_refusal_or_a_result():
    fuzz(seed=5, number=200, timeout=500)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_changed_graphs(seed):
    print(fuzz(seed=100 + seed, number=1000, timeout=3000))


def test_the_numbers_of_a_view_are_exact():
    view = {"storage": 0, "dtype": "int16", "offset": 1, "shape": [2, 2], "stride": [1, 2]}
    graph = {"schema": 1, "tensors": [view], "nodes": [], "output": [1]}
    storage = torch.from_numpy(np.arange(6, dtype=np.int16).view(np.uint8))
    replay = Replay(parse(json.dumps(graph).encode()), {"0": storage})
    assert replay.tensors[1].tolist() == [[1, 3], [2, 4]] and math.isclose(replay.size_kb, 12 / 1024)
