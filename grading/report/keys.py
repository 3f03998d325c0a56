"""The course's Ed25519 key that signs receipts (RFC 8032), and its public half, which anybody may have.

The key lies in the user's config folder, or where --key says; it is made on first use, and only its owner may read it.
"""
import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from utils.files import full_path
from utils.lab import LabError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NAME = "receipts_key.pem"
MOST = 1 << 16  # bytes of a file that may be a key


def default_key() -> Path:
    """Where a user's key lies."""
    variable, usual = ("APPDATA", "~/AppData/Roaming") if os.name == "nt" else ("XDG_CONFIG_HOME", "~/.config")
    return Path(os.environ.get(variable) or usual).expanduser() / "segmentation-lab" / NAME


def signing_key(path: Path | None = None, make: bool = True) -> "Ed25519PrivateKey":
    """The key in the file `path`, by default the user's; with `make` a new one where there is none.

    Raises LabError for a file that others may read, that holds no such key, or that cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = Path(path or default_key())
    if make and not path.exists():
        _make(path)
    content = _read(path, "the key that signs receipts", "pass --key FILE, or --public-key FILE to verify")
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name != "nt" and mode & 0o077:
        raise LabError(f"expected a key that its owner alone may read (mode 600), found mode {mode:o} at {path}: chmod "
                       "600 it; if others could read it, move it away and a new one is made")
    with contextlib.suppress(ValueError, TypeError):
        key = load_pem_private_key(content, None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise LabError(f"expected an Ed25519 key as PEM without a password, found something else in {path}: restore it, or "
                   "move it away and a new one is made")


def public_key(path: Path) -> "Ed25519PublicKey":
    """The public key in the PEM file `path`. Raises LabError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(path, "the public key of receipts", "it is REPORT/receipts/public_key.pem")
    with contextlib.suppress(ValueError, TypeError):
        key = load_pem_public_key(content)
        if isinstance(key, Ed25519PublicKey):
            return key
    raise LabError(f"expected an Ed25519 public key as PEM, found something else in {path}: it is "
                   "REPORT/receipts/public_key.pem")


def public_pem(key: "Ed25519PublicKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _make(path: Path) -> None:
    """Writes a new key; of several processes that begin together one's key stays."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:  # mode 600
            file.write(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    except OSError as error:
        raise LabError(f"expected to write the key that signs receipts, found {error.strerror} at {path}: pass --key "
                       "FILE for another place") from None


def _read(path: Path, what: str, advice: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(MOST)
    except OSError as error:
        raise LabError(f"expected {what}, found {error.strerror} at {full_path(path)}: {advice}") from None
