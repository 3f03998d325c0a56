"""Hand-ins that are alike: in their code, or in their weights."""
