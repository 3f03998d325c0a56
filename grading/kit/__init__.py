"""The starter kit: made from the working reference, without its solutions, and proved to be."""
