"""The report: whether it is a PDF, whole and readable, by its first and last bytes."""
from pathlib import Path

from handin.findings import DoubtError
from utils.lab import LabError

# The first bytes of files that were renamed instead of exported.
OTHERS = {b"PK\x03\x04": "a Word or OpenDocument file (or another zip)", b"\xd0\xcf\x11\xe0": "an old Word file",
          b"{\\rtf": "an RTF file", b"<!DO": "a web page", b"<htm": "a web page", b"\x89PNG": "a PNG image",
          b"\xff\xd8\xff": "a JPEG image"}
LARGE = 20 << 20  # bytes


def check_report(path: Path) -> str:
    """A line about the PDF in `path`. Raises LabError unless its first and last bytes are those of a PDF."""
    name = path.name
    try:
        with path.open("rb") as file:
            head = file.read(1024)
            size = file.seek(0, 2)
            file.seek(max(0, size - 2048))
            tail = file.read()
    except OSError as error:
        raise LabError(f"expected a PDF that can be read, found {error.strerror} at {name}") from None
    if b"%PDF-" not in head:
        found = "an empty file" if not size else "something else"
        found = next((what for start, what in OTHERS.items() if head.startswith(start)), found)
        raise LabError(f"expected a PDF, found {found} in {name}: export it as PDF, renaming is not enough")
    if b"%%EOF" not in tail:
        raise LabError(f"expected a whole PDF, found no end in {name} ({size:,} bytes): copy or export it again")
    if b"/Encrypt" in tail:
        raise DoubtError(f"expected a PDF that opens for anyone, found an encrypted one in {name}: "
                         "export it without a password")
    if size > LARGE:
        raise DoubtError(f"expected a PDF of at most {LARGE >> 20} MB, found {size / (1 << 20):.0f} MB in {name}: "
                         "shrink its images")
    return f"{name}: a PDF of {size / 1024:,.0f} KB"
