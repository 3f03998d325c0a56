"""Weights as a file: what it holds is read from the zip's directory and the pickle's opcodes; nothing is loaded.

torch.save writes a zip whose member data.pkl is a pickle program that rebuilds the tensors. The program is disassembled
here (pickletools) and never run, so this is safe for a file of unknown origin.
"""
import pickletools
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from handin.findings import DoubtError
from handin.unpack import DAMAGED, open_zip
from utils.files import replacing
from utils.lab import LabError

ADVICE = "save the weights alone, on the CPU: training.runs.save_weights(network, PATH)"
LARGEST = 2 << 30  # bytes unpacked
PACKING = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # that torch reads; others take memory as the file demands
LARGEST_PICKLE = 4 << 20
LONGEST, MOST_STRINGS = 200, 50_000  # characters kept of a string, and strings and names of one pickle
# What the programs of tensors of all types and layouts call; anything else is another object, or an attack.
HARMLESS = re.compile(r"collections (OrderedDict|Counter)|torch\._(utils|tensor) _rebuild_\w+|"
                      r"torch(\.storage)? \w+(Storage|Tensor)|torch (Size|Tensor|device|bool|[a-z]+\d\w*|per_\w+)|"
                      r"torch\.nn\.parameter Parameter|torch\.serialization _get_layout")


@dataclass
class Contents:
    """What a weights file says of itself: the names that its pickle calls, its strings, and its bytes unpacked.

    stored: the bytes of its tensors' storages, unpacked, and `storages` their number. beside: the bytes of all else in
    the file, of other members unpacked and of what is in no member.
    """

    names: list[str] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)
    unpacked: int = 0
    stored: int = 0
    storages: int = 0
    beside: int = 0

    @property
    def objects(self) -> list[str]:
        """Names that no state_dict needs, as module.name."""
        return [name.replace(" ", ".") for name in self.names if not HARMLESS.fullmatch(name)]

    @property
    def devices(self) -> list[str]:
        """The devices, other than the CPU, that tensors were saved on."""
        return sorted({text for text in self.strings if re.fullmatch(r"(cuda|mps|xpu)(:\d+)?", text)})


def read_contents(path: Path) -> Contents:
    """Disassembles the file in `path`. Raises LabError if it is not what torch.save writes."""
    name = path.name
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if not head:
            raise LabError(f"expected weights, found an empty file in {name}: {ADVICE}")
        if not zipfile.is_zipfile(path):
            raise LabError(f"expected weights, found {_kind(head)} in {name}: {ADVICE}")
        with open_zip(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > LARGEST:
                raise LabError(f"expected at most {LARGEST >> 30} GB of weights, found {unpacked / (1 << 30):.1f} GB "
                               f"unpacked in {name}: {ADVICE}")
            programs = [member for member in members if member.filename.endswith("data.pkl")]
            if len(programs) != 1 or programs[0].file_size > LARGEST_PICKLE:
                raise LabError(f"expected weights, found another zip in {name}: {ADVICE}")
            packing = {member.compress_type for member in members}
            if programs[0].compress_type != zipfile.ZIP_STORED or packing - PACKING or archive.testzip():
                raise LabError(f"expected weights as torch.save writes them, found a packed or damaged zip in {name}: "
                               f"copy the file again, or {ADVICE}")
            with archive.open(programs[0]) as member:
                program = member.read(LARGEST_PICKLE)  # whole, and no more where it claims to be packed from more
            folder = programs[0].filename.removesuffix("data.pkl") + "data/"
            storages = [member.file_size for member in members if member.filename.startswith(folder)]
            # A member may claim more bytes than its content needs, in which anything fits.
            in_members = sum(min(member.compress_size, member.file_size) for member in members)
            outside = max(0, path.stat().st_size - in_members)
    except OSError as error:
        raise LabError(f"expected weights that can be read, found {error.strerror} at {name}") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise LabError(f"expected weights, found a damaged zip in {name} ({error}): copy the file again") from None
    contents = _disassemble(program, name)
    contents.unpacked, contents.stored, contents.storages = unpacked, sum(storages), len(storages)
    contents.beside = unpacked - contents.stored + outside
    return contents


def _disassemble(program: bytes, name: str) -> Contents:
    """The names and strings of a pickle, each cut short: opcodes of one byte could repeat a long one without end."""
    contents = Contents()
    try:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name in ("GLOBAL", "INST"):
                contents.names.append(argument[:LONGEST])
            elif opcode.name == "STACK_GLOBAL":
                contents.names.append(" ".join(contents.strings[-2:]))
            elif isinstance(argument, str):
                contents.strings.append(argument[:LONGEST])
            if len(contents.names) + len(contents.strings) > MOST_STRINGS:
                raise LabError(f"expected weights, found a pickle of more than {MOST_STRINGS:,} strings in {name}: "
                               f"{ADVICE}")
    except (ValueError, IndexError, KeyError, UnicodeDecodeError):
        raise LabError(f"expected weights, found a damaged pickle in {name}: copy the file again") from None
    return contents


def _kind(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file"
    if head.startswith((b"<!DOCTYPE", b"<html", b"<HTML")):
        return "a web page"
    if head.startswith(b"\x80"):
        return "a bare pickle, or the format of torch before 1.6,"
    return "no torch file, or part of one,"


def check_weights_file(path: Path, load: bool = False) -> str:
    """A line about the weights in `path`. Raises LabError unless they hold tensors alone, as torch.save writes them.

    load: whether torch loads them afterwards (weights_only=True) and so judges what else is in them.
    The device they were saved on is a doubt only: with map_location="cpu", as the hand-out's load_model has it, they
    load everywhere.
    """
    contents, name = read_contents(path), path.name
    if contents.objects and not load:
        raise LabError(f"expected a state_dict, found a pickled object ({contents.objects[0]}) in {name}, as "
                       f"torch.save(network, PATH) writes it: {ADVICE}")
    if contents.devices:
        raise DoubtError(f"expected weights saved from the CPU, found {contents.devices[0]} in {name}, which load "
                         f"only where load_model has map_location=\"cpu\": {ADVICE}")
    return f"{name}: {contents.storages} tensors, {contents.unpacked / 1024:,.1f} KB"


def is_weights(path: Path) -> bool:
    """Whether a zip, or a folder that a browser made of one, holds what torch.save writes."""
    if path.is_dir():
        return any((folder / "data.pkl").is_file() and (folder / "version").is_file() for folder in _inner(path))
    try:
        with open_zip(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, *DAMAGED):
        return False


def repack(folder: Path, path: Path) -> None:
    """Writes the weights that lie unpacked in `folder` to `path`, as the file that they were: always the same bytes."""
    root = next(inner for inner in _inner(folder) if (inner / "data.pkl").is_file())
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file in sorted(root.rglob("*"), key=lambda file: (file.name != "data.pkl", file)):
            if file.is_file() and not file.is_symlink():
                # A time of its own would give every unpacking another checksum.
                info = zipfile.ZipInfo(f"archive/{file.relative_to(root).as_posix()}")
                with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as member:
                    shutil.copyfileobj(source, member)


def _inner(folder: Path) -> list[Path]:
    """The folder, and those in it: an unpacked zip has its own folder within, or that alone is left."""
    return [folder, *(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())]
