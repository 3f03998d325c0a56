"""What a graph can do wrong."""
from utils.lab import LabError


class GraphError(LabError):
    """The network cannot be exported, or its graph is not one that may be replayed: its cost is unverified."""
