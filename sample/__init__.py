"""Draws the sample's street scenes: canvas and camera at the bottom, then things, then the street, then the scene."""
