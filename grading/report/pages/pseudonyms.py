"""Pseudonyms for the public report: a color, a bird and a number for each student.

They follow from the student and from a secret in the report folder. So they stay the same in every report of a class,
and nobody can find them from a list of student numbers.
"""
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

from utils.files import replacing
from utils.lab import LabError

SECRET = ".pseudonyms"  # in the report folder, 64 hexadecimal digits
COLORS = ("amber", "azure", "bronze", "copper", "coral", "crimson", "ebony", "golden", "indigo", "ivory", "jade",
          "olive", "pearl", "russet", "silver", "violet")
BIRDS = ("avocet", "bittern", "crane", "dunlin", "egret", "falcon", "finch", "heron", "ibis", "kestrel", "lapwing",
         "merlin", "osprey", "plover", "swift", "wren")


def pseudonyms(out: Path, students: Iterable[str]) -> dict[str, str]:
    """A pseudonym for each of `students` (their slugs), all different; makes the secret where there is none."""
    secret = _secret(Path(out) / SECRET)
    names: dict[str, str] = {}
    for student in sorted(students):
        attempt = 0
        while (found := _name(secret, f"{student}\0{attempt}")) in names.values():
            attempt += 1
        names[student] = found
    return names


def _name(secret: bytes, text: str) -> str:
    digest = hmac.digest(secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"{COLORS[digest[0] % 16]} {BIRDS[digest[1] % 16]} {int.from_bytes(digest[2:6], 'big') % 900 + 100}"


def _secret(path: Path) -> bytes:
    try:
        found = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        found = secrets.token_hex(32)
        with replacing(path) as temporary:
            temporary.write_text(found + "\n", encoding="ascii")
        path.chmod(0o600)
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"expected the pseudonyms' secret, found {error} at {path}: restore it, or remove it and all "
                       "pseudonyms change") from None
    try:
        secret = bytes.fromhex(found)
    except ValueError:
        secret = b""
    if len(secret) < 32:
        raise LabError(f"expected 64 hexadecimal digits, found something else in {path}: restore it, or remove it and "
                       "all pseudonyms change")
    return secret
