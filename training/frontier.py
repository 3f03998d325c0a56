"""The former name of `python -m frontier`."""
from utils.terminal import renamed

if __name__ == "__main__":
    renamed("training.frontier", "frontier")
