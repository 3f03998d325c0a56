"""Unpacks a zip that somebody else made: nothing lands outside the folder, and a bomb is refused before it bursts."""
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from utils.lab import LabError

MOST_FILES = 1000
LARGEST = 4 << 30  # bytes unpacked, all files together


def unpack(archive: Path, folder: Path) -> None:
    """Writes the files of `archive` into `folder`, which exists.

    Raises LabError for a file that is no zip or is damaged, encrypted, too large or too many, for links, and for names
    that lead out of the folder.
    """
    name = archive.name
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            size = sum(member.file_size for member in members)
            if len(members) > MOST_FILES or size > LARGEST:
                raise LabError(f"expected a hand-in of seven files, found {len(members):,} files of "
                               f"{size / (1 << 30):.1f} GB in {name}: pack the seven alone")
            for member in members:
                parts = PurePosixPath(member.filename.replace("\\", "/")).parts
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise LabError(f"expected files, found the link {member.filename} in {name}: pack the file itself")
                if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in member.filename:
                    raise LabError(f"expected names within the hand-in, found {member.filename} in {name}: "
                                   "pack it again")
                if member.flag_bits & 1:
                    raise LabError(f"expected a zip that opens for anyone, found a password on {name}: pack it without")
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy)  # stops at the size that the directory claims
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise LabError(f"expected a zip, found a damaged one or another file in {name} ({error}): "
                       "pack it again") from None
    except OSError as error:
        raise LabError(f"expected to unpack {name}, found: {error.strerror}: "
                       "check the file and the free space") from None
