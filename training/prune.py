"""The former name of `python -m frontier.prune`."""
from utils.terminal import renamed

if __name__ == "__main__":
    renamed("training.prune", "frontier.prune")
