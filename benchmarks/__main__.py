"""`python -m benchmarks NAME`: run one measurement."""

import argparse

from benchmarks import editing, encoding, pretrained, routing, sampling, serving, swap


def main() -> None:
    """Run the measurement that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(metavar="NAME", required=True)
    editing.add_parser(commands)
    encoding.add_parser(commands)
    pretrained.add_parser(commands)
    routing.add_parser(commands)
    sampling.add_parser(commands)
    serving.add_parser(commands)
    swap.add_parser(commands)
    options = parser.parse_args()
    options.func(options)


if __name__ == "__main__":
    main()
