"""Load thousands of damaged and hostile files: models, pictures and indexes.

Whatever is done to a file, it must give an error that names it (ValueError or OSError), or load as
what it says. Nothing may crash, hang, take much memory or raise anything else::

    python tests/benchmarks/fuzz_files.py [models] [pictures] [indexes]
"""

import copy
import faulthandler
import functools
import io
import json
import resource
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from skpair import PairEncoder, PairMatcher, matcher_file
from skpair.known.judge import temperature_of
from skpair.search import MatchIndex, columns, index_file
from skpair.storage import sealed

#: Seconds that one file may take, on a busy machine.
PATIENCE = 30
#: Files that one process loads: a new one starts from little memory.
BATCH = 500
#: Memory in MiB that loading a small file may add.
MOST_MEMORY = 500


# ---- models --------------------------------------------------------------------------------------


@functools.cache
def originals():
    """Small fitted matchers of different kinds, each with rows to name and its file."""
    rng = np.random.default_rng(0)
    y = np.arange(24) % 3
    X = (rng.normal(size=(24, 8)) + 3 * np.eye(8)[y]).astype(np.float32)
    few = {"max_epochs": 1, "embedding_dim": 4, "random_state": 0}
    names = np.array(["ant", "bee", "wasp"])
    plain = PairMatcher(hidden_dims=(8,), early_stopping=True, **few).fit(X, names[y])
    plain.calibrate_probabilities(1.01 * X, names[y])
    plain.calibrate_threshold(1.01 * X, names[y], per_case=True)
    pairwise = PairMatcher(loss="binary_cross_entropy", **few).fit(X, y)
    towers = PairMatcher(PairEncoder(max_epochs=1), training="fine_tune", **few)
    towers.fit(X, names.astype(object)[y])
    pictures = rng.integers(0, 256, size=(24, 2, 8, 8)).astype(np.uint8)
    flat = PairMatcher(PairEncoder("identity", "identity"), unknown_label=-1, **few)
    flat.fit(pictures, y).add_cases(pictures[:2, 1], [7, 7])
    rows = [(plain, X), (pairwise, X), (towers, X), (flat, pictures)]
    return [(matcher, X, dumped(matcher)) for matcher, X in rows]


def dumped(matcher):
    """Give the bytes of a matcher's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "matcher")
        matcher.save(path)
        return path.read_bytes()


def damage(data, rng, others):
    """Change bytes as disks, networks and editors do; `others` are files of the same sort."""
    data = bytearray(data)
    size = len(data)
    a, b, length = rng.integers(size), rng.integers(size), int(2 ** rng.uniform(0, 12))
    kind = rng.integers(7)
    if kind == 0:
        for _ in range(int(2 ** rng.uniform(0, 5))):
            data[rng.integers(size)] ^= 1 << rng.integers(8)
    elif kind == 1:
        del data[a:]
    elif kind == 2:
        data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]
    elif kind == 3:
        other = others[rng.integers(len(others))]
        data[a : a + length] = other[b : b + length]
    elif kind == 4:
        data[a : a + length] = rng.bytes(length)
    elif kind == 5:
        del data[a : a + length]
    else:
        # the header of safetensors, where all sizes are
        data[rng.integers(min(size, 64))] = rng.integers(256)
    return bytes(data)


EXTREMES = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        2**31,
        2**63,
        2**64,
        -(2**63),
        10**30,
        10**400,
        1e308,
        5e-324,
    ),
    *(
        0.5,
        -0.0,
        float("nan"),
        float("inf"),
        -float("inf"),
        "",
        "0",
        "1",
        "auto",
        "nan",
        "..",
        "\0",
    ),
    *("/etc/passwd", "\ud800", "a" * 10_000, "vit_h_14", "regnet_y_128gf", "resnet18", "identity"),
    *("n_pair", "binary_cross_entropy", "joint", "two_stage", "features", "pixels", "files", "dot"),
    *(
        [],
        {},
        [0],
        [[]],
        [None],
        {"tuple": [10**9]},
        {"tuple": [3] * 1000},
        {"path": "x"},
        {"a": 1},
    ),
    *(
        {"tuple": 3},
        {"path": 3},
        [2**40, 2**40],
        "__class__",
        "cuda:7",
        "meta",
        "<U999999999",
        "|O",
    ),
]


def nodes(tree, path=()):
    """Yield the path of every place in JSON."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from nodes(value, (*path, key))


def place(tree, path):
    """Give the container of a place."""
    for key in path[:-1]:
        tree = tree[key]
    return tree


def forge(data, rng):
    """Change what a file says, and seal it again."""
    content, tensors = sealed.unpack(data, "PairMatcher")
    content = copy.deepcopy(content)
    for _ in range(rng.integers(1, 3)):
        if rng.random() < 0.7:
            forge_header(content, rng)
        else:
            forge_tensors(tensors, rng)
    return sealed.pack("PairMatcher", content, tensors)


def forge_header(content, rng, extremes=EXTREMES):
    # every part of the header alike: most places are in the history
    part = list(content)[rng.integers(len(content))]
    inside = [(part,)]
    if isinstance(content[part], dict | list):
        inside += [(part, *path) for path in nodes(content[part])]
    path = inside[rng.integers(len(inside))]
    where, key = place(content, path), path[-1]
    value = where[key]
    kind = rng.integers(7)
    if kind <= 2:
        where[key] = copy.deepcopy(extremes[rng.integers(len(extremes))])
    elif kind == 3:
        del where[key]
    elif kind == 4 and isinstance(value, int | float):
        changes = [str(value), float(value), -value, value + 1, value * 1e6, bool(value), [value]]
        where[key] = changes[rng.integers(len(changes))]
    elif kind == 5 and isinstance(where, dict):
        where[key + "_"] = where.pop(key)
    else:
        others = list(nodes(content))
        path = others[rng.integers(len(others))]
        where[key] = copy.deepcopy(place(content, path)[path[-1]])


def forge_tensors(tensors, rng):
    if not tensors:
        return
    name = sorted(tensors)[rng.integers(len(tensors))]
    tensor = tensors[name]
    kind = rng.integers(9)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name + "_"] = tensors.pop(name)
    elif kind == 2:
        dtypes = [
            torch.float64,
            torch.float16,
            torch.bfloat16,
            torch.int64,
            torch.bool,
            torch.uint8,
        ]
        tensors[name] = tensor.to(dtypes[rng.integers(len(dtypes))])
    elif kind == 3 and tensor.numel():
        worst = [float("nan"), float("inf"), -1, 2**62, 3e38]
        value = worst[rng.integers(len(worst))]
        if tensor.is_floating_point() or value == value and abs(value) < 2**63:
            tensor.view(-1)[rng.integers(tensor.numel())] = value
    elif kind == 4:
        tensors[name] = tensor.reshape(-1).clone()
    elif kind == 5 and tensor.ndim:
        tensors[name] = tensor[: rng.integers(len(tensor) + 1)].clone()
    elif kind == 6 and tensor.ndim:
        tensors[name] = torch.cat([tensor, tensor])
    elif kind == 7 and tensor.ndim == 2:
        tensors[name] = tensor.T.contiguous()
    else:
        tensors[name] = torch.zeros([0, 2**40][: rng.integers(1, 3)])


def try_model(index, path):
    """Load a file of which something was changed; say how that went."""
    rng = np.random.default_rng(index)
    original, X, data = originals()[rng.integers(4)]
    forged = bool(rng.integers(2))
    try:
        if forged:
            changed = forge(data, rng)
        else:
            changed = damage(data, rng, [data for _, _, data in originals()])
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        return f"no file at all ({type(error).__name__})"  # JSON or safetensors refuse to write it
    path.write_bytes(changed)
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            loaded = PairMatcher.load(path)
    except (ValueError, OSError) as error:
        if str(path) not in str(error):
            raise AssertionError("the error does not name the file") from error
        cause = "" if error.__cause__ is None else f" of a {type(error.__cause__).__name__}"
        return f"{type(error).__name__}{cause}, {'forged' if forged else 'damaged'}"
    if not forged:
        assert dumped(loaded) == data, "a damaged file is another matcher"
        assert (loaded.predict_proba(X) == original.predict_proba(X)).all()
        return "loaded as what it was"
    said, tensors = sealed.unpack(changed, "PairMatcher")
    check_that_it_is_what_it_says(loaded, said, tensors)
    use(loaded, X)
    return "loaded as what it says"


def check_that_it_is_what_it_says(loaded, said, tensors):
    """Describe what was loaded again, and compare."""
    content, own_tensors, _ = matcher_file.describe(loaded)
    partial = ("parameters", "fitted_with", "layout")
    if "pair_temperature" not in said:  # as in files of earlier versions
        temperature = temperature_of(loaded.loss_, loaded.learned_with_["temperature"])
        assert content.pop("pair_temperature") == temperature
    if "token" not in said:
        assert content.pop("token") == loaded.gallery_.token
    for name in content.keys() - {"left_out"}:
        if name in partial or name == "encoder" and said[name]:
            continue
        same = json.dumps(content[name], sort_keys=True) == json.dumps(said[name], sort_keys=True)
        assert same, f"{name}: loaded {content[name]}, the file says {said[name]}"
    described = [(content[name], said[name]) for name in partial]
    if said["encoder"]:
        described.append((content["encoder"].pop("parameters"), said["encoder"].pop("parameters")))
        described.append((content["encoder"], said["encoder"]))
        if said["parameters"].get("encoder"):
            described.append(
                (content["parameters"].pop("encoder"), said["parameters"].pop("encoder"))
            )
    for have, want in described:
        for name in want:  # those that a file lacks have their defaults
            same = json.dumps(have[name], sort_keys=True) == json.dumps(want[name], sort_keys=True)
            assert same, f"{name}: loaded {have[name]}, the file says {want[name]}"
    ids = {"gallery.image_ids", "gallery.skeleton_ids"}  # which earlier versions lacked
    assert own_tensors.keys() - ids == tensors.keys() - ids
    for name in ids & tensors.keys():
        have, want = (json.loads(each[name].numpy().tobytes()) for each in (own_tensors, tensors))
        assert have == want, name
    for name in tensors.keys() - ids:
        tensor = tensors[name]
        assert torch.equal(own_tensors[name].nan_to_num(), tensor.nan_to_num()), name


def use(loaded, X):
    """Ask a loaded matcher; it may say that its parameters do not go together."""
    for estimator in (loaded, loaded.encoder_):
        if estimator is not None:
            estimator.set_params(device="cpu")  # this machine may lack what the file says
    with warnings.catch_warnings(action="ignore"):
        try:
            loaded.predict(X)
            loaded.predict_pairs(X)
            loaded.kneighbors(X, 1)
        except ValueError:
            pass


# ---- pictures ------------------------------------------------------------------------------------


@functools.cache
def pictures():
    """PNG and JPEG files of all sorts, as bytes."""
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, size=(40, 30)).astype(np.uint8)).resize((60, 80))
    colour = Image.merge("RGB", [grey, grey.rotate(90, expand=False), grey.rotate(180)])
    deep = Image.fromarray(rng.integers(0, 2**16, size=(20, 20)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    written = [
        (grey, {"format": "PNG"}),
        (colour, {"format": "PNG", "optimize": True}),
        (grey.convert("P"), {"format": "PNG", "transparency": 3}),
        (deep, {"format": "PNG"}),
        (grey.convert("1"), {"format": "PNG", "exif": exif}),
        (colour.convert("RGBA"), {"format": "PNG"}),
        (grey, {"format": "JPEG", "exif": exif}),
        (colour, {"format": "JPEG", "progressive": True, "exif": exif}),
        (colour.convert("CMYK"), {"format": "JPEG", "quality": 95}),
    ]
    files = []
    for image, how in written:
        file = io.BytesIO()
        image.save(file, **how)
        sealed.append(file.getvalue())
    return files


def damage_picture(data, rng):
    data = bytearray(data)
    size = len(data)
    a, length = rng.integers(size), int(2 ** rng.uniform(0, 8))
    kind = rng.integers(6)
    if kind <= 1:
        for _ in range(int(2 ** rng.uniform(0, 5))):
            # headers and tables come first
            data[rng.integers(size if kind else min(size, 200))] ^= 1 << rng.integers(8)
    elif kind == 2:
        del data[a:]
    elif kind == 3:
        data[a : a + length] = rng.bytes(length)
    elif kind == 4:
        other = pictures()[rng.integers(len(pictures()))]
        data[a:] = other[rng.integers(len(other)) :]
    else:
        del data[a : a + length]
    return with_checksums(data) if rng.random() < 0.5 else bytes(data)


def with_checksums(data):
    """Make the checksums of a PNG right again, so that its damage is found later or never."""
    import zlib

    place = 8
    while data.startswith(b"\x89PNG") and place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if place + 12 + length > len(data):
            break
        body = data[place + 4 : place + 8 + length]
        data[place + 8 + length : place + 12 + length] = zlib.crc32(body).to_bytes(4, "big")
        place += 12 + length
    return bytes(data)


def try_picture(index, path):
    """Fit and transform with a damaged picture in the second row; say how that went."""
    rng = np.random.default_rng(index)
    good = path.with_name("good.png")
    good.write_bytes(pictures()[0])
    path.write_bytes(damage_picture(pictures()[rng.integers(len(pictures()))], rng))
    row = [path, good] if rng.integers(2) else [good, path]
    X = np.array([[good, good], row], dtype=object)
    encoder = PairEncoder(frozen=True, image_size=16, random_state=0)
    with warnings.catch_warnings(record=True, action="always") as caught:
        try:
            encoded = encoder.fit(X).transform(X)
        except OSError as error:
            named = f"Row 1: the {'image' if row[0] is path else 'skeleton'} file '{path}'"
            if not str(error).startswith(named):
                raise AssertionError("the error names neither row nor file") from error
            outcome = f"{type(error).__name__} that names row and file"
        else:
            assert encoded.shape == (2, 256) and np.isfinite(encoded).all()
            outcome = "decoded"
    for warning in caught:
        if "The skeleton is blank in" not in str(warning.message):
            outcome += f", Pillow warns ({warning.category.__name__})"
            assert Path(warning.filename).parent.name == "PIL", str(warning)
            break
    return outcome


# ---- indexes -------------------------------------------------------------------------------------


@functools.cache
def indexes():
    """A matcher, rows to search with, and files of indexes with all sorts of ids and columns."""
    matcher, X, _ = originals()[0]
    days = pd.to_datetime(pd.Series(["2020-01-01", None, "1960-05-05"] * 3))
    many = {
        "station": ["A", None, "ß", "", "A\0", "海", "A", None, "b"],
        "day": days,
        "depth": np.arange(9) / 2,
        "seen": np.arange(9) % 2 == 0,
    }
    few = {"case": list("pqr"), "n": np.uint8([0, 255, 7]), "took": days[:3] - days[0]}
    rows = {"images": X[:9], "skeletons": X[:3]}
    full = MatchIndex(matcher).add_images(X[:9], metadata=many)
    full.add_images(X[:2], ids=[-(2**63), 70], metadata={k: v[:2] for k, v in many.items()})
    full.add_skeletons(X[:3], ids=["ä", "ä\0", ""], metadata=few)
    emptied = MatchIndex(matcher).add_images(X[:3], list("abc")).remove(list("abc"))
    emptied.add_skeletons(X[:3], ids=[5, 2**63 - 1, 0], metadata=few)
    plain = MatchIndex(matcher).add_images(X[:5]).add_skeletons(rows["skeletons"])
    return matcher, X, [saved(index) for index in (full, emptied, plain, MatchIndex(matcher))]


def saved(index):
    """Give the bytes of an index's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        index.save(path)
        return path.read_bytes()


def apart(data):
    """Take the file of an index apart, without its checks: header and arrays."""
    length = int.from_bytes(data[:8], "little")
    table, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    header = json.loads(table.pop("__metadata__")["skpair"])
    header.pop("sha256", None)
    types = {short: name for name, short in columns.TYPES.items()}
    arrays = {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], types[entry["dtype"]])
        .reshape(entry["shape"])
        .copy()
        for name, entry in table.items()
    }
    return header, arrays


#: What a column could be called, and of which type, beside what is odd everywhere.
EXTREMES_OF_INDEXES = [
    *EXTREMES,
    *("query", "rank", "id", "score", "case", "depth", "images", "skeletons", "embeddings"),
    *("str", "int64", "uint64", "float64", "float16", "bool", "object", "bfloat16", "complex128"),
    *("datetime64[ns]", "datetime64[D]", "datetime64[25s]", "timedelta64[s]", "<i8", "U3", "V8"),
    *(["id", "int64"], ["id", "str"], ["depth", "float64"], ["depth"], ["a", "b", "c"]),
    *({"n_segments": 0, "columns": []}, {"n_segments": 1, "columns": [["id", "int64"]]}),
]


def forge_index(data, rng):
    """Change what the file of an index says, and seal it again."""
    header, arrays = apart(data)
    renamed = rng.random() < 0.2
    if renamed:  # first, while columns are where they should be
        forge_names(header, rng)
    for _ in range(rng.integers(0 if renamed else 1, 3)):
        which = rng.random()
        if which < 0.4:
            forge_header(header, rng, EXTREMES_OF_INDEXES)
        elif which < 0.6:
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            forge_tensors(tensors, rng)
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        else:
            forge_columns(arrays, rng)
    text = json.dumps({"sha256": index_file._digest(header, arrays), **header})
    return b"".join(index_file._safetensors(arrays, text))


def forge_names(header, rng):
    """Give a column another name or type: an odd one, or that of another column."""
    all_columns = [column for rows in header["rows"].values() for column in rows["columns"]]
    if not all_columns:
        return
    column, other = (all_columns[rng.integers(len(all_columns))] for _ in range(2))
    part = rng.integers(2)
    odd = EXTREMES_OF_INDEXES[len(EXTREMES) :]
    column[part] = odd[rng.integers(len(odd))] if rng.integers(2) else other[part]


def forge_columns(arrays, rng):
    """Change values of ids and metadata."""
    names = sorted(name for name, array in arrays.items() if array.ndim == 1 and array.size)
    if not names:
        return
    name = names[rng.integers(len(names))]
    array, other = arrays[name], names[rng.integers(len(names))]
    a, b = rng.integers(len(array), size=2)
    kind = rng.integers(7)
    if kind == 0:
        array[a] = array[b]
    elif kind == 1:
        array[a], array[b] = array[b], array[a]
    elif kind == 2:
        array.view(np.uint8)[rng.integers(array.nbytes)] = rng.integers(256)
    elif kind == 3:
        array.view(np.uint8)[rng.integers(array.nbytes)] ^= 1 << rng.integers(8)
    elif kind == 4:
        arrays[name], arrays[other] = arrays[other], arrays[name]
    elif kind == 5:
        arrays[f"{name}_"] = array.copy()
    else:
        arrays[name] = arrays[other].copy()


def try_index(number, path):
    """Load the file of an index of which something was changed; say how that went."""
    rng = np.random.default_rng(number)
    matcher, X, files_ = indexes()
    data = files_[rng.integers(len(files_))]
    forged = bool(rng.integers(3))
    try:
        changed = forge_index(data, rng) if forged else damage(data, rng, files_)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        return f"no file at all ({type(error).__name__})"
    path.write_bytes(changed)
    try:
        loaded = MatchIndex.load(path, matcher)
    except (ValueError, OSError) as error:
        if str(path) not in str(error):
            raise AssertionError("the error does not name the file") from error
        return f"{type(error).__name__}, {'forged' if forged else 'damaged'}"
    said = apart(changed)
    assert alike(apart(saved(loaded)), said), "what is saved again is something else"
    if not forged:
        assert alike(without_embeddings(said), without_embeddings(apart(data)))
    told = rows_told(*said)
    check_rows(loaded, told, X, *said)
    change_rows(loaded, told, X, path)
    return f"loaded as what it {'says' if forged else 'was, but for embeddings'}"


def alike(a, b):
    """Compare headers and arrays, bit by bit."""
    (header, arrays), (other_header, others) = a, b

    def bits(arrays):
        return {name: (v.dtype.name, v.shape, v.tobytes()) for name, v in arrays.items()}

    return header == other_header and bits(arrays) == bits(others)


def without_embeddings(said):
    header, arrays = said
    return header, {k: v for k, v in arrays.items() if not k.endswith("/embeddings")}


def rows_told(header, arrays):
    """Read all columns, in plain steps: by kind and name, a type and a list of values."""
    told = {}
    for kind, rows in header["rows"].items():
        told[kind] = {}
        for place, (name, dtype) in enumerate(rows["columns"]):
            assert name not in told[kind], "a name is there twice"
            values = []
            for number in range(rows["n_segments"]):
                part = f"{kind}/{number}/{place}"
                if dtype != "str":
                    values += arrays[f"{part}/values"].tolist()
                    continue
                ends, text = arrays[f"{part}/ends"].tolist(), arrays[f"{part}/text"].tobytes()
                strings = [text[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
                missing = arrays[f"{part}/missing"]
                assert not any(np.array(strings, object)[missing]), "missing, and there is text"
                values += [None if gone else s for s, gone in zip(strings, missing, strict=True)]
            told[kind][name] = dtype, values
    return told


def check_rows(loaded, told, X, header, arrays):
    """Compare what searches find with what the file says."""
    embeddings = [array for name, array in arrays.items() if name.endswith("/embeddings")]
    assert all(array.shape[1] == 4 and array.dtype == np.float32 for array in embeddings)
    usual = all(np.abs(array).max() < 1e9 for array in embeddings)
    for kind, search in (("images", loaded.search_images), ("skeletons", loaded.search_skeletons)):
        _, ids = told[kind].get("id", ("", []))
        assert loaded.store.count(kind) == len(ids) == len(set(ids))
        assert None not in ids and len({*map(type, ids)} - {int, str}) == 0
        if not usual:
            continue  # which is found when they are searched
        found = search(X[:2], k=100)
        names = ["query", "rank", "id", "score", "case"]
        names += [name for name in told[kind] if name not in ("id", "case")]
        assert found.columns.tolist() == names
        assert found["query"].tolist() == [0] * len(ids) + [1] * len(ids)
        for query in range(2):
            part = found[found["query"] == query]
            order = [ids.index(id_) for id_ in part["id"]]
            assert sorted(order) == list(range(len(ids)))
            for name, (dtype, values) in told[kind].items():
                assert same_values(part[name], dtype, [values[row] for row in order]), name


def same_values(series, dtype, values):
    if dtype == "str":
        return [None if pd.isna(value) else value for value in series] == values
    array = series.to_numpy()
    if array.dtype.kind in "mM":
        return array.dtype.name == dtype and array.view(np.int64).tolist() == values
    return array.dtype.name == dtype and np.array_equal(array, np.array(values, dtype))


def change_rows(loaded, told, X, path):
    """Add and remove rows, and save and load what is left."""
    for kind in ("images", "skeletons"):
        dtype, ids = told[kind].get("id", ("int64", []))
        metadata = {
            name: [None if dtype == "str" else np.zeros((), dtype)[()]]
            for name, (dtype, _) in told[kind].items()
            if name != "id"
        }
        new = ["new"] if dtype == "str" else None
        if 2**63 - 1 in ids:
            new = [next(i for i in range(100, 200) if i not in ids)]
        getattr(loaded, f"add_{kind}")(X[:1], new, metadata)
        assert loaded.store.count(kind) == len(ids) + 1
        loaded.remove(ids[1:], kind=kind)
        loaded.save(path)
        loaded = MatchIndex.load(path, loaded.matcher)
        assert len(loaded.store.known(kind, ids)) == len(ids[:1])
        loaded.remove(ids[:1], kind=kind)
        assert loaded.store.count(kind) == 1


# ---- all of them, in processes of their own ------------------------------------------------------


def run_batch(attempt, start, stop):
    """Try some files in this process; print an outcome each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "changed.png" if attempt is try_picture else "changed.skpair")
        for index in range(start, stop):
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                outcome = attempt(index, path)
            except Exception as error:
                outcome = f"FAILED: {index}: {type(error).__name__}: {str(error)[:300]}"
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            if grown > MOST_MEMORY:
                outcome = f"FAILED: {index}: took {grown:.0f} MiB"
            print(json.dumps([index, outcome]), flush=True)
            faulthandler.cancel_dump_traceback_later()


def run(name, n):
    """Try n files of a kind; print a summary, and give the number of failures."""
    outcomes = Counter()
    for start in range(0, n, BATCH):
        stop = min(n, start + BATCH)
        command = [sys.executable, __file__, "--batch", name, str(start), str(stop)]
        while start < stop:
            command[-2] = str(start)
            done = subprocess.run(command, capture_output=True, text=True)
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            outcomes.update(outcome for _, outcome in lines)
            start += len(lines)
            if start < stop:
                why = "hangs" if "Timeout" in done.stderr else f"ends with {done.returncode}"
                outcomes[f"FAILED: {start}: the process {why}: {done.stderr[-500:]}"] += 1
                start += 1
    failures = [outcome for outcome in outcomes if outcome.startswith("FAILED")]
    print(f"{n} {name}, {len(failures)} failures")
    for outcome, count in outcomes.most_common():
        if outcome not in failures[20:]:
            print(f"{count:8d}  {outcome}")
    return len(failures)


ATTEMPTS = {"models": try_model, "pictures": try_picture, "indexes": try_index}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--batch"]:
        name, start, stop = sys.argv[2:]
        run_batch(ATTEMPTS[name], int(start), int(stop))
    else:
        counts = [int(n) for n in sys.argv[1:]] or [10_000, 2_000, 10_000]
        sys.exit(bool(sum(run(name, n) for name, n in zip(ATTEMPTS, counts, strict=False))))
