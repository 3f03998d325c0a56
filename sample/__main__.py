"""Draws the sample: python -m sample [OUT]."""
from sample.draw import main
from utils.terminal import run_main

if __name__ == "__main__":
    run_main(main)
