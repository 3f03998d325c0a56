"""Unpacks a zip that somebody else made: nothing is written outside the folder, and too large ones are refused."""
import errno
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from utils.lab import LabError

MOST_FILES = 1000
DEEPEST = 20  # folders
LARGEST = 4 << 30  # bytes unpacked, all files together
LARGEST_DIRECTORY = 1 << 20  # bytes of a zip's list of its members: some ten thousand
UTF8_NAME = 0x800  # the flag of a member whose name is UTF-8; without it the maker's own code page was used
# A member's name that is too long, or that is a file's where another member makes it a folder.
NAME_TROUBLES = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
# What reading a damaged or hand-made zip raises, besides OSError.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError, OverflowError, IndexError)


def member_name(member: zipfile.ZipInfo) -> str:
    """A member's name as its maker meant it, with `/` between folders.

    Where the zip does not name the encoding, it is UTF-8 (macOS) if that fits, else that of a Western Windows if it
    gives letters, else Chinese (GB 2312, Big5, GBK). That is a guess, which only the name depends on.
    """
    name = member.orig_filename
    if not (name.isascii() or member.flag_bits & UTF8_NAME):
        raw = name.encode("cp437")  # zipfile took it for that
        western = all(char.isascii() or (char.isalpha() and char < "\u0370") for char in name)
        for encoding in ("utf-8", *(["cp437"] if western else []), "gb2312", "big5", "gbk", "cp437"):
            try:
                name = raw.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
    return name.replace("\\", "/")


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens a zip whose list of members is short: a list of 14 MB takes 80 MB of memory, and may be packed to 40 KB.

    Raises zipfile.BadZipFile for a longer list, and otherwise what zipfile raises.
    """
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # the very record by which ZipFile goes, whose count of members it ignores
    if end and end[zipfile._ECD_SIZE] > LARGEST_DIRECTORY:
        raise zipfile.BadZipFile("more members than can be listed")
    return zipfile.ZipFile(path)


def unpack(archive: Path, folder: Path, within: str = "", largest: int = LARGEST) -> list[str]:
    """Writes the files of `archive` into `folder`, which exists; returns a line for each file that was left out.

    Of two members with one name the last counts, as an appended zip means it. A name that this machine cannot write
    costs that member alone.

    within: write only what is below this name in the archive (or the file of this name), with paths from there. Such
    an archive is a whole class's, so its list of members may have any length.
    largest: bytes that may be unpacked.

    Raises LabError for a file that is no zip or is damaged or encrypted, for too much in it, for links, and for names
    that lead out of the folder.
    """
    name, above = archive.name, PurePosixPath(within).parts
    notes = []
    try:
        with zipfile.ZipFile(archive) if within else open_zip(archive) as file:
            members = {member: parts for member in file.infolist() if not member_name(member).endswith("/")
                       and (parts := PurePosixPath(member_name(member)).parts)[:len(above)] == above}
            size = sum(member.file_size for member in members)
            if len(members) > MOST_FILES or size > largest:
                raise LabError(f"expected a hand-in of seven files, found {len(members):,} files of "
                               f"{size / (1 << 30):.1f} GB in {name}: pack the seven alone")
            last = {parts: member for member, parts in members.items()}
            for member, parts in members.items():
                if last[parts] is not member:
                    notes.append(f"expected each name once, found {member_name(member)} again in {name}: the last one "
                                 "counts")
                    continue
                parts = parts[len(above):] or parts[-1:]
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise LabError(f"expected files, found the link {member.filename} in {name}: pack the file itself")
                if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in member.orig_filename:
                    raise LabError(f"expected names within the hand-in, found {member.filename} in {name}: "
                                   "pack it again")
                if len(parts) > DEEPEST:
                    raise LabError(f"expected the seven files, found folders {len(parts)} deep in {name}: pack them "
                                   "alone")
                if member.flag_bits & 1:
                    raise LabError(f"expected a zip that opens for anyone, found a password on {name}: pack it without")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise LabError(f"expected an ordinary zip, found {member.filename} packed in another way in "
                                   f"{name}: pack it again, or with another program")
                target = folder.joinpath(*parts)
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    copy = target.open("xb")
                except (UnicodeEncodeError, OSError) as error:
                    if isinstance(error, OSError) and error.errno not in NAME_TROUBLES:
                        raise
                    notes.append(f"expected names that can be written, found {_cut(member_name(member))} in {name} "
                                 f"({getattr(error, 'strerror', None) or 'no such letters here'}): left out")
                    continue
                with file.open(member) as source, copy:
                    shutil.copyfileobj(source, copy)  # stops at the size that the directory claims
    except DAMAGED as error:
        raise LabError(f"expected a zip, found a damaged one or another file in {name} ({error}): "
                       "pack it again") from None
    except OSError as error:
        raise LabError(f"expected to unpack {name}, found: {error.strerror or error}: "
                       "check the file and the free space") from None
    return notes


def _cut(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:77]}..."
