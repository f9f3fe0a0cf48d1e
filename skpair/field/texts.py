"""Tables as text: their encoding, their delimiter, their numbers."""

import codecs
import csv
import io

import pandas as pd

#: Decimal numbers; of more digits, a column holds ids, whose last ones a float would lose.
_NUMBER = r"[+-]?(?:\d{1,18}(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d{1,3})?"
#: "007" is a name, whatever its digits are.
_LEADING_ZERO = r"[+-]?0\d.*"


def decode(data):
    """Decode the bytes of a table.

    As a byte order mark says, else UTF-8 where the bytes are UTF-8, else latin-1, in which any
    bytes are letters.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    str
        Without the mark.

    Raises
    ------
    ValueError
        If the bytes are not what their mark says.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if data.startswith(codecs.BOM_UTF8):
        return data.decode("utf-8-sig")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def header_of(text, delimiter):
    """Return the names of the columns, stripped; none where no line can be read."""
    rows = csv.reader(io.StringIO(text.lstrip("\r\n"), newline=""), delimiter=delimiter)
    try:
        return [name.strip() for name in next(rows, [])]
    except csv.Error:  # a quote that does not end
        return []


def parse(text, delimiter):
    """Read a table of text.

    Parameters
    ----------
    text : str
        The first line names the columns; the quote is ``"``.
    delimiter : str

    Returns
    -------
    DataFrame of str
        Cells are stripped, and empty ones "". The index counts the lines below the header; empty
        lines are left out.

    Raises
    ------
    ValueError
        If there is no header, a row is longer than it, or two columns have one name.
    """
    if not text.strip():
        raise ValueError("it is empty")
    cells = pd.read_csv(
        io.StringIO(text.lstrip("\r\n")),
        sep=delimiter,
        header=None,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        skip_blank_lines=False,
    )
    return with_header(cells)


def with_header(cells):
    """Take the first row of cells as the names of the columns; leave out what is empty.

    Parameters
    ----------
    cells : DataFrame of str
        With rows and columns numbered from 0.

    Returns
    -------
    DataFrame of str
        As `parse` returns it.

    Raises
    ------
    ValueError
        If there is no cell, or two columns have one name.
    """
    if cells.empty:
        raise ValueError("it is empty")
    cells = cells.fillna("").apply(lambda column: column.astype(str).str.strip())
    names, table = cells.iloc[0].tolist(), cells.iloc[1:].reset_index(drop=True)
    filled = table != ""
    kept = [place for place, name in enumerate(names) if name or filled[place].any()]
    table = table.loc[filled.any(axis=1), kept]
    table.columns = [names[place] or f"unnamed_{place + 1}" for place in kept]
    twice = table.columns[table.columns.duplicated()].unique().tolist()
    if twice:
        raise ValueError(f"these columns are there more than once: {twice}")
    return table


def with_numbers(table, *, decimal_comma, text=()):
    """Turn columns of numbers into numbers, and empty cells into missing ones.

    Parameters
    ----------
    table : DataFrame of str
    decimal_comma : bool
        Whether 1,5 is a number, as 1.5 is; in one column, all have a comma or none.
    text : collection of str
        Columns that are text, whatever is in them.

    Returns
    -------
    DataFrame
        Numbers such as 007 stay text: they are names.
    """
    columns = {}
    for name, column in table.items():
        column = column.mask(column == "")
        numeric = name not in text and _holds_numbers(column.dropna(), decimal_comma)
        columns[name] = as_numbers(column) if numeric else column
    return pd.DataFrame(columns, index=table.index)


def as_numbers(column):
    """Turn a column of text into numbers, with a decimal point or comma; NaN where it is none."""
    return pd.to_numeric(column.str.replace(",", "."), errors="coerce")


def _holds_numbers(values, decimal_comma):
    """Whether all of some strings are numbers."""
    values = values[~values.str.casefold().isin(["nan", "na"])]
    commas, points = values.str.contains(",").any(), values.str.contains(".", regex=False).any()
    if commas and (points or not decimal_comma):
        return False
    numbers = values.str.fullmatch(_NUMBER) & ~values.str.fullmatch(_LEADING_ZERO)
    return len(values) > 0 and bool(numbers.all())
