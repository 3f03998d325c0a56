"""Fixed: pictures and plots."""
