"""`python -m app.demo [--keep]`; exit code 1 where a step did not come out as it should."""

import argparse
import sys

from app.demo.play import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="app.demo", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running, with lines to try"
    )
    return play(keep=parser.parse_args().keep)


if __name__ == "__main__":
    sys.exit(main())
