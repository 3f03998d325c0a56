"""The former name of `python -m frontier.quantize`."""
from utils.terminal import renamed

if __name__ == "__main__":
    renamed("training.quantise", "frontier.quantize")
