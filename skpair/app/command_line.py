"""What the command line takes, and how it ends.

Nothing that is slow to import is imported here: ``skpair --help`` answers at once.
"""

import argparse
import contextlib
import os
import sys
import warnings
from pathlib import Path

from .. import __version__

#: How a command ends; argparse itself exits with 2 where a call is wrong.
DONE, FAULTY, INTERRUPTED = 0, 1, 130

_EPILOG = """\
exit codes: 0 done; 1 something in the data, and what is whole is done; 2 wrong call; 130 Ctrl-C.
Files are written as a whole or not at all.
"""


def main(argv=None):
    """Run a command.

    Parameters
    ----------
    argv : list of str or None, default=None
        What follows `skpair`; None: what this process was called with.

    Returns
    -------
    int
        The exit code: 0 done; 1 something in the data or in a file; 130 Ctrl-C.

    Raises
    ------
    SystemExit
        With the code 2 where the call is wrong, with 0 after ``--help``.
    """
    arguments = _parse(argv)
    try:
        with _warnings_of_one_line():
            from . import commands  # which takes seconds: torch

            return FAULTY if getattr(commands, arguments.command)(arguments) else DONE
    except KeyboardInterrupt:
        print("skpair: interrupted; no file is half written.", file=sys.stderr)
        return INTERRUPTED
    except (OSError, ValueError, ImportError) as error:
        print(f"skpair: {error}", file=sys.stderr)
        return FAULTY


@contextlib.contextmanager
def _warnings_of_one_line():
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(
            f"skpair: warning: {message}", file=sys.stderr
        )
        yield


# ---- what it takes -------------------------------------------------------------------------------


def _parse(argv):
    parser = argparse.ArgumentParser(
        "skpair",
        description="Match images of specimens with hand-drawn skeletons.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"skpair {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_fit, _add_name, _add_find, _add_clean, _add_review):
        add(commands)
    arguments = parser.parse_args(argv)
    try:
        _check_call(arguments)
    except ValueError as error:
        commands.choices[arguments.command].error(str(error))
    return arguments


def _add(commands, name, description, example):
    """Add a command, whose help ends with an example."""
    return commands.add_parser(
        name,
        help=description.partition(".")[0].partition(":")[0],
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_fit(commands):
    parser = _add(
        commands,
        "fit",
        "Learn from labelled images and drawings, and save a model.\n"
        "What was read is reported, and how good the names are is estimated on held-out images.",
        "skpair fit photographs/ --drawings drawings/ -o copepods.skpair\n"
        "  skpair fit labels.csv --images file --case stage --groups haul \\\n"
        "      --folder photographs/ --drawings drawings/ -o copepods.skpair",
    )
    _add_data(parser)
    parser.add_argument(
        "--drawings", required=True, type=_folder, metavar="FOLDER",
        help="folder of drawings, a subfolder a case",
    )  # fmt: skip
    parser.add_argument(
        "--drawing-names", metavar="COLUMN",
        help="column of the drawings' file names, if the table has one; subfolders count no more",
    )  # fmt: skip
    parser.add_argument(
        "--groups", metavar="COLUMN",
        help='column of the specimen or sample, or, of folders, "subfolder": where images of one '
        "group are never both learned from and held out",
    )  # fmt: skip
    parser.add_argument(
        "--no-score", action="store_true", help="leave the estimate out, which trains 2 to 5 models"
    )
    parser.add_argument(
        "--epochs", type=_positive, metavar="N",
        help="passes over the pictures in each stage of a training, instead of 35 and 50",
    )  # fmt: skip
    _add_output(parser, "MODEL", "file of the model")


def _add_name(commands):
    parser = _add(
        commands,
        "name",
        "Name the case of each image: a table of path, case, probability and novelty.",
        'skpair name copepods.skpair cruise7/ -o names.csv --ecotaxa import/ --unknown "other"',
    )
    _add_model(parser)
    _add_images(parser)
    _add_output(parser, "CSV", "table to write")
    parser.add_argument(
        "--ecotaxa", metavar="FOLDER",
        help="also write a folder that EcoTaxa imports: images, names and scores",
    )  # fmt: skip
    parser.add_argument(
        "--unknown", metavar="LABEL", help="what to say of images that are like no known case"
    )


def _add_find(commands):
    parser = _add(
        commands,
        "find",
        "Find the images that fit a drawing best: a page to look at.\n"
        "A scan or photograph of a drawing is brought to its ink by `skpair clean` first.",
        "skpair find copepods.skpair sketch.png cruise7/ -k 20 -o hits.html",
    )
    _add_model(parser)
    parser.add_argument("drawing", type=_file, metavar="DRAWING", help="file of a drawing")
    _add_images(parser)
    parser.add_argument(
        "-k", type=_positive, default=20, metavar="N", help="how many images (default: 20)"
    )
    _add_output(parser, "HTML", "page to write; it holds the pictures, and needs no other file")


def _add_clean(commands):
    parser = _add(
        commands,
        "clean",
        "Bring scans of drawings to their ink: a PNG a scan, in the same subfolders.",
        "skpair clean scans/ -o drawings/",
    )
    parser.add_argument(
        "scans", nargs="+", metavar="SCAN", help="scans or photographs, or folders of them"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER",
        help="where to; it is made if it is missing, and no scan is ever overwritten",
    )  # fmt: skip


def _add_review(commands):
    parser = _add(
        commands,
        "review",
        "Queue labelled images for a person to look at: likely wrong labels first.\n"
        "A model partly remembers what it has learned, wrong labels too: it judges others best.",
        "skpair review copepods.skpair labels.csv --images file --case stage -o queue.csv",
    )
    parser.set_defaults(drawings=None, drawing_names=None, groups=None)  # which only fit asks for
    _add_model(parser)
    _add_data(parser)
    _add_output(parser, "CSV", "table to write")


def _add_model(parser):
    parser.add_argument("model", type=_file, metavar="MODEL", help="what `skpair fit` has saved")


def _add_images(parser):
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="images, or folders that are searched for them"
    )


def _add_data(parser):
    parser.add_argument(
        "data", type=_present, metavar="TABLE|FOLDER",
        help="table of image files and cases, or folder with a subfolder a case",
    )  # fmt: skip
    parser.add_argument("--images", metavar="COLUMN", help="of a table: the images' file names")
    parser.add_argument("--case", metavar="COLUMN", help="of a table: the cases")
    parser.add_argument(
        "--folder", type=_folder, help="where the images of a table are (default: beside it)"
    )


def _add_output(parser, what, description):
    parser.add_argument(
        "-o", "--output", required=True, type=_new_file, metavar=what, help=description
    )


# ---- what is wrong with a call -------------------------------------------------------------------


def _present(path):
    if not os.path.exists(path):
        raise argparse.ArgumentTypeError(f"{path!r} does not exist")
    return path


def _file(path):
    if os.path.isdir(_present(path)):
        raise argparse.ArgumentTypeError(f"{path!r} is a folder, but a file is expected")
    return path


def _folder(path):
    if not os.path.isdir(_present(path)):
        raise argparse.ArgumentTypeError(f"{path!r} is a file, but a folder is expected")
    return path


def _new_file(path):
    """Refuse what cannot be written, before hours of work."""
    if os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"{path!r} is a folder, but a file is to be written")
    _folder(os.path.dirname(path) or ".")
    return path


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of 1 or more is expected, not {text!r}")
    return int(text)


def _check_call(arguments):
    """Raise ValueError where arguments do not go together."""
    if "data" in arguments:
        _check_columns(arguments)
    given = []
    for name in ("data", "model", "drawing", "images", "scans"):
        value = getattr(arguments, name, None) or []
        given += value if isinstance(value, list) else [value]
    output = Path(arguments.output).resolve()
    for path in map(Path, given):
        if path.resolve() == output:
            raise ValueError(f"-o {arguments.output!r} would overwrite what is read")
        if arguments.command == "clean" and path.is_dir() and path.resolve() in output.parents:
            raise ValueError(
                f"-o {arguments.output!r} lies in {os.fspath(path)!r}, where the next call would "
                "take what is clean for scans: give a folder elsewhere"
            )


def _check_columns(arguments):
    if os.path.isdir(arguments.data):
        of_tables = ("images", "case", "folder", "drawing_names")
        wrong = [name for name in of_tables if getattr(arguments, name)]
        if wrong:
            option = wrong[0].replace("_", "-")
            raise ValueError(f"--{option} belongs to a table, but a folder is given")
        if arguments.groups not in (None, "subfolder"):
            raise ValueError("of a folder, groups are the folders below a case: --groups subfolder")
    elif not (arguments.images and arguments.case):
        raise ValueError("a table needs --images COLUMN and --case COLUMN")
