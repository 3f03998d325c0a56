"""A part of the images, chosen by a secret: a live board scores on it, and the final ranking on the rest."""
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.files import replacing
from utils.lab import LabError

NAME = "part.json"  # in the board's folder


@dataclass(frozen=True)
class SplitPart:
    """share: of the images, 0 to 1, that are in the part; rest: the others instead."""

    secret: bytes
    share: float
    rest: bool = False

    def choose(self, names: Sequence[str]) -> list[int]:
        """The places of the part's images in `names`, sorted. Raises LabError where either part would be empty."""
        order = sorted(range(len(names)), key=lambda place: hmac.digest(self.secret, names[place].encode(),
                                                                        hashlib.sha256))
        size = round(self.share * len(names))
        if not 0 < size < len(names):
            raise LabError(f"expected images in the public part and in the rest, found {size} of {len(names)} in the "
                           "first: choose another --public-split")
        return sorted(order[size:] if self.rest else order[:size])


def make_part(board: Path, share: float) -> SplitPart:
    """The board's part; its secret is made with the first call. Raises LabError where it was made for another share."""
    path = Path(board) / NAME
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"secret": secrets.token_hex(32), "share": share}), encoding="ascii")
        path.chmod(0o600)
    part = read_part(board)
    if part.share != share:
        raise LabError(f"expected the share that the board began with, {part.share:.0%}, found {share:.0%}: scores on "
                       "different images do not compare")
    return part


def read_part(board: Path, rest: bool = False) -> SplitPart:
    """The part that a board scores on, or the rest. Raises LabError where the folder has none."""
    path = Path(board) / NAME
    try:
        found = json.loads(path.read_text(encoding="ascii"))
        return SplitPart(bytes.fromhex(found["secret"]), float(found["share"]), rest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"expected the secret of a board that scores on a part of the images, found {error} at {path}: "
                       "pass the board's folder") from None
