"""The former name of `python -m sample`."""
from utils.terminal import renamed

if __name__ == "__main__":
    renamed("dataset.sample", "sample")
