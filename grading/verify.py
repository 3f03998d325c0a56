"""Says whether a receipt is as it was signed, and if not, what was changed.

    python -m grading verify RECEIPT
"""
import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds the command `verify`."""
    parser = commands.add_parser("verify", help="say whether a receipt was changed",
                                 description="Says what of a receipt was changed since it was signed, a line each; "
                                             "of one in a report also whether the kept networks were. Status 2 then.")
    parser.add_argument("receipt", type=Path, metavar="RECEIPT",
                        help="REPORT/receipts/STUDENT.json, a copy of it, or a board's")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--public-key", type=Path, metavar="FILE", help="the course's public key")
    whose.add_argument("--key", type=Path, metavar="FILE", help="the key that signs (default: in your config folder)")
    parser.set_defaults(run=run_verify)


def run_verify(args: argparse.Namespace) -> int:
    """The command."""
    from grading.report.keys import public_key, signing_key
    from grading.report.receipts import read_receipt, verify, verify_kept
    from grading.trial.claims import clean_text

    receipt = read_receipt(args.receipt)
    key = public_key(args.public_key) if args.public_key else signing_key(args.key, make=False).public_key()
    content = receipt["content"]
    found = verify(receipt, key) + verify_kept(args.receipt, content)
    for line in found:
        print(clean_text(line, 300))
    if not found:
        outcome = f"total {content['total']}" if "total" in content else f"mIoU {content.get('miou')}"  # a board's
        print(clean_text(f"genuine: {content.get('student')}, graded {content.get('graded')}, {outcome}", 300))
    return 2 if found else 0
