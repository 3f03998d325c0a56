"""The report's tables and pages, made from records alone."""
