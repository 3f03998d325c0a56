"""Receipts: whatever is changed in one is named; only the course's key signs; keys that others may read are refused.

The oracle for hashes and signature is written out here, with `cryptography` itself.
"""
import copy
import hashlib
import json
import signal
import threading

import pytest
from conftest import assert_one_line_error
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key
from made_records import write_class

from grading.__main__ import main
from grading.report.build import report
from grading.report.keys import default_key, signing_key

STUDENT = "31350000"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """REPORT with a graph and tensors of one student's task 2, and its receipt."""
    out = tmp_path_factory.mktemp("receipts")
    write_class(out)
    path, folder = out / "records" / f"{STUDENT}.json", out / "networks" / STUDENT
    folder.mkdir(parents=True)
    record = json.loads(path.read_text(encoding="utf-8"))
    record["tasks"]["2"] |= {"masks": "0" * 64, "proof": {"unproved": ""}}
    for part, name in (("graph", "task2.json"), ("tensors", "task2.safetensors")):
        (folder / name).write_bytes(part.encode())
        record["tasks"]["2"]["proof"][part] = hashlib.sha256(part.encode()).hexdigest()
    path.write_text(json.dumps(record | {"data": "1" * 64, "split": "val"}), encoding="utf-8")
    report(out)
    return out


@pytest.fixture
def verify(here, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return lambda *arguments: here(main, "verify", *arguments)


@pytest.fixture
def receipt(made):
    return json.loads((made / "receipts" / f"{STUDENT}.json").read_text(encoding="utf-8"))


def dumped(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def entries(value, path=()):
    """(path, value) of all that is no table, and of empty tables."""
    if not isinstance(value, dict) or not value:
        return [(list(path), value)]
    return [found for key, part in value.items() for found in entries(part, (*path, key))]


def test_the_signature_is_of_all_that_the_receipt_says(made, receipt):
    expected = {" / ".join(path): hashlib.sha256(dumped([path, value])).hexdigest()
                for path, value in entries(receipt["content"])}
    assert receipt["hashes"] == expected and len(expected) > 80
    public = load_pem_public_key((made / "receipts" / "public_key.pem").read_bytes())
    public.verify(bytes.fromhex(receipt["signature"]), dumped({"hashes": expected, "receipt": 1}))
    assert receipt["key"] == public.public_bytes_raw().hex()
    content, record = receipt["content"], json.loads((made / "records" / f"{STUDENT}.json").read_text())
    assert content["tasks"]["2"]["confusion"] == record["tasks"]["2"]["confusion"]
    assert content["networks"]["2"]["tensors"] == hashlib.sha256(b"tensors").hexdigest()
    assert content["files"] == record["files"] and content["data"] == {"sha256": "1" * 64, "split": "val"}
    assert content["points"]["task 1 mIoU"]["reason"].startswith("OK, mIoU 0.")
    assert content["total"] == sum(item["points"] or 0 for item in content["points"].values())


def test_a_receipt_is_genuine_and_is_left_as_it_is(made, verify):
    path = made / "receipts" / f"{STUDENT}.json"
    done = verify(path, "--public-key", made / "receipts" / "public_key.pem")
    assert done.status == 0 and done.stdout.startswith(f"genuine: {STUDENT}, graded 2026-11-21"), done.stderr
    before = path.read_bytes(), path.stat().st_mtime_ns
    report(made)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert verify(path).status == 0  # by the key in the config folder
    assert default_key().stat().st_mode & 0o777 == 0o600


def test_each_field_that_is_changed_added_or_removed_is_named(made, receipt, verify, tmp_path):
    from grading.report.receipts import verify as changed

    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(receipt["key"]))
    assert changed(receipt, public) == []
    for path, value in entries(receipt["content"]):
        name = " / ".join(path)
        for new in ("changed", value + 1e-12 if isinstance(value, float) else not value):
            if new == value and type(new) is type(value):
                continue
            other = copy.deepcopy(receipt)
            parent = other["content"]
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = new
            (line,) = changed(other, public)
            assert line.startswith(f"{name} was changed: it says {json.dumps(new)[:20]}")
        del parent[path[-1]]
        assert f"{name} was removed" in changed(other, public)
    other = copy.deepcopy(receipt)
    other["content"]["points"]["bonus"] = 5
    other["content"]["total"] = 99
    copied = tmp_path / "copy.json"
    copied.write_text(json.dumps(other))
    done = verify(copied)
    assert done.status == 2
    assert done.stdout.splitlines() == ["total was changed: it says 99 now", "points / bonus was added"]
    # The same, with the list of hashes made to fit, and then also signed by somebody else.
    other["hashes"] = {" / ".join(path): hashlib.sha256(dumped([path, value])).hexdigest()
                       for path, value in entries(other["content"])}
    assert changed(other, public) == ["the signature does not fit: it, or the list of hashes, was changed"]
    stranger = Ed25519PrivateKey.generate()
    other["signature"] = stranger.sign(dumped({"hashes": other["hashes"], "receipt": 1})).hex()
    other["key"] = stranger.public_key().public_bytes_raw().hex()
    (line,) = changed(other, public)
    assert line.startswith("the signature is of another key")
    receipt["key"] = other["key"]
    assert changed(receipt, public) == ["key was changed: another key than this signed the receipt"]


def test_what_is_kept_beside_a_receipt_is_looked_at(made, verify):
    path, folder = made / "receipts" / f"{STUDENT}.json", made / "networks" / STUDENT
    tensors, graph = folder / "task2.safetensors", folder / "task2.json"
    tensors.write_bytes(b"tensorz")
    graph.unlink()
    done = verify(path)
    assert done.status == 2 and done.stdout.splitlines() == [f"{graph} is gone", f"{tensors} was changed"]
    tensors.write_bytes(b"tensors")
    graph.write_bytes(b"graph")
    assert verify(path).status == 0
    other = made / "receipts" / "31350001.json"
    mine = other.read_bytes()
    other.write_bytes(path.read_bytes())
    assert "is the receipt of another student, 31350000" in verify(other).stdout
    other.write_bytes(mine)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"content": 1}', b"\xff", b"[" * 100_000, b"NaN",
                                     b'{"content": {"total": 1, "total": 2}}'])
def test_what_is_no_receipt_is_one_line(tmp_path, verify, content):
    path = tmp_path / "receipt.json"
    assert_one_line_error(verify(path), "expected a receipt", "No such file")
    path.write_bytes(content)
    assert_one_line_error(verify(path), "expected a receipt of schema 1")


def test_a_receipt_with_more_or_other_entries_is_refused(made, receipt, verify, tmp_path):
    for change in ({"note": "paid"}, {"receipt": 2}, {"hashes": []}, {"content": []}, {"key": 5}):
        (tmp_path / "receipt.json").write_text(json.dumps(receipt | change))
        assert_one_line_error(verify(tmp_path / "receipt.json"), "expected a receipt of schema 1")


def test_keys_are_private_whole_and_there(made, verify, here, tmp_path):
    path, key = made / "receipts" / f"{STUDENT}.json", tmp_path / "folder" / "key.pem"
    assert_one_line_error(verify(path, "--key", key), "No such file")
    assert not key.exists()  # to verify makes none
    signing_key(key)
    assert key.stat().st_mode & 0o777 == 0o600 and len(list(key.parent.iterdir())) == 1
    done = verify(path, "--key", key)
    assert done.status == 2 and done.stdout.startswith("the signature is of another key")
    key.chmod(0o640)
    assert_one_line_error(verify(path, "--key", key), "mode 640", "chmod 600")
    assert_one_line_error(here(main, "report", made, "--key", key), "mode 640")
    key.chmod(0o600)
    assert_one_line_error(verify(path, "--public-key", key), "expected an Ed25519 public key")
    key.write_text("no key")
    assert_one_line_error(verify(path, "--key", key), "expected an Ed25519 key")
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert_one_line_error(verify(path, "--key", key), "expected an Ed25519 key")
    (tmp_path / "file").write_text("")
    assert_one_line_error(here(main, "report", made, "--key", tmp_path / "file" / "key.pem"), "--key")


def test_processes_that_begin_together_share_one_key(tmp_path):
    path, found, together = tmp_path / "key.pem", [], threading.Barrier(8)

    def make():
        together.wait(30)
        found.append(signing_key(path).public_key().public_bytes_raw())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
