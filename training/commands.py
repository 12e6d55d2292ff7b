"""The sub-commands of training; heavy modules are imported only when a command is called."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from dicom_node.cli import Command

TRAIN = """\
After a kill or a power cut, the same command continues from the last saved step (one is saved about every minute), and
ends with the same weights.

  hilum train saood-segnet-binary --data DATA --out RUNS/saood-segnet-binary
  hilum train wu-infection-unet --data DATA --out RUNS/try --short --splits 0
  hilum train chest-own --data PATIENTS --out RUNS/own           # fine-tunes the shipped network
  hilum train wu-infection-unet --data PATIENTS --sets labels --out RUNS/own-wu
  torchrun --nproc-per-node 4 -m dicom_node train shivdeo-2d --data DATA --out RUNS/shivdeo-2d

DATA holds each data set in a folder with its name; docs/training.md describes their layouts. RUN gets result.json, and
for each split weights.safetensors and tensorboard/.
"""
EVALUATE = """\
  hilum evaluate RUNS/saood-segnet-binary --data DATA
"""
LABEL = """\
  hilum label PATIENTS                                    # writes PATIENTS/*/labels/
  hilum train chest-own --data PATIENTS --out RUNS/own    # once they are corrected
"""
DREAM = """\
  hilum dream RUNS/saood-segnet-binary/split-0/weights.safetensors --out dream.png

Saood & Hatem 2021, figure 5.
"""
EXPERIMENTS = """\
  hilum experiments
  hilum experiments --runs RUNS
  hilum experiments --runs RUNS --write docs/experiments.md
"""


def _number_from(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``least`` on; argparse's error about other values names the option."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise ArgumentTypeError(f"expected {least} or more, got {value}")
        return value

    return number


def _train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", help="its name; `hilum experiments` lists them")
    _data_argument(parser)
    parser.add_argument(
        "--out", metavar="RUN", type=Path, required=True, help="folder of the run; continues a run begun there"
    )
    parser.add_argument(
        "--sets",
        metavar="NAME",
        nargs="+",
        help="read these data sets of DIR, such as your own (`dicom`, `labels`), instead of the experiment's",
    )
    parser.add_argument("--short", action="store_true", help="fewer epochs or steps, mostly smaller images; says SHORT")
    parser.add_argument(
        "--seed", metavar="N", type=_number_from(0), help="seed of splits, weights and order (default: 0)"
    )
    _splits_argument(parser)
    _threads_argument(parser)


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    _data_argument(parser)
    _splits_argument(parser)
    _threads_argument(parser)


def _data_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="folder that holds the data sets")


def _splits_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--splits", metavar="N", type=int, nargs="+", help="only these splits, counted from 0")


def _threads_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--threads", metavar="N", type=_number_from(1), help="CPU threads (default: all)")


def _experiments_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--runs", metavar="RUNS", type=Path, help="folder of runs whose figures to show")
    parser.add_argument(
        "--write", metavar="FILE", type=Path, help="write them as Markdown instead, and as JSON beside it"
    )


def _label_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", type=Path, help="folder with a folder of DICOM for each patient")
    parser.add_argument(
        "--method",
        choices=("thresholds", "network"),
        default="thresholds",
        help="HU thresholds (default), or the network in `worker.weights`, else the shipped one",
    )


def _dream_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("weights", metavar="WEIGHTS", type=Path, help="safetensors file of a 2D network")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="PNG of all classes, side by side")


COMMANDS = (
    Command(
        "train",
        "train and test an experiment, or continue it",
        "training.run:train",
        _train_arguments,
        "training",
        TRAIN,
    ),
    Command(
        "evaluate",
        "measure the weights of a run again",
        "training.run:evaluate",
        _evaluate_arguments,
        "training",
        EVALUATE,
    ),
    Command(
        "label",
        "write first labels, as DICOM SEG and NIfTI, for annotators to correct",
        "training.label:label",
        _label_arguments,
        "training",
        LABEL,
    ),
    Command(
        "dream",
        "picture what a trained network looks for in each class",
        "training.evaluate.deep_dream:dream",
        _dream_arguments,
        "training",
        DREAM,
    ),
    Command(
        "experiments",
        "list the papers' experiments, or show the figures of runs",
        "training.run:list_experiments",
        _experiments_arguments,
        "training",
        EXPERIMENTS,
    ),
)
