"""The model's engine and training beside `transformers`, with the same weights, in one run.

    bench/model.py --data corpus
    bench/model.py --what decode prefill --threads 2

Both sides compute in float32 (training: bfloat16 products on both). Times are medians of alternating repeats.
"""

import argparse
from pathlib import Path

WHAT = ("decode", "prefill", "mtp", "couplings", "kv", "turns", "training", "needles")
MINIATURE = Path(__file__).parents[1] / "tests" / "data" / "miniature_corpus"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled", help="a checkpoint's folder, or bundled")
    parser.add_argument("--data", type=Path, default=MINIATURE, help="a corpus, for its held-out files")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 for torch's own choice")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu for a busy machine, one thread")
    options = parser.parse_args()
    from measuring.model_rows import open_bench  # torch takes seconds to import: not for --help

    bench = open_bench(options.model, options.data, options.repeats, options.threads, options.clock)
    for what in options.what:
        for line in getattr(bench, what)():
            print(line, flush=True)


if __name__ == "__main__":
    main()
