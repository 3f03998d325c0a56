"""Fixed: images and plots."""
