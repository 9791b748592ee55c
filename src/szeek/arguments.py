"""What people pass to public functions -> plain arrays and tables: public checks, private computes.

Arrays of ``fits.getdata`` are big-endian, masked arrays and Quantities are arrays whose mask and unit numpy drops
without a word, and tables hold columns of all these. Here they become arrays in the machine's byte order, NaN where
masked, in the unit that the function computes in, or an error that names the argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np
from astropy.table import Column, MaskedColumn, Table
from astropy.units import Quantity, Unit, UnitConversionError, UnrecognizedUnit, dimensionless_unscaled
from numpy.typing import ArrayLike, NDArray

#: Endings of column names, and the units they stand for.
UNITS = {"_1e14msun": "1e14 solMass", "_arcmin2": "arcmin2", "_arcmin": "arcmin", "_deg": "deg", "_mjy": "mJy"}
#: Columns that have no unit.
_BARE = frozenset(("p", "z", "snr", "richness", "purity", "match_z"))

Rows = TypeVar("Rows", bound=Table | None)


def plain_array(values: ArrayLike, what: str, unit: str = "") -> NDArray[Any]:
    """An array of real numbers, native and without mask or unit; float32 and float64 stay as they are, unless masked.

    Parameters
    ----------
    values : array_like
        Array, masked array, Quantity, column, memory map or list.
    what : str
        Name of the argument, for errors.
    unit : str
        In which a Quantity or a column with a unit is returned; '' for none.

    Returns
    -------
    ndarray
        Of float32 or float64, NaN where masked; the same memory where nothing had to be changed.

    Raises
    ------
    ValueError
        If the unit cannot be converted, or these are no real numbers.

    Examples
    --------
    >>> import astropy.units as u
    >>> plain_array([0.5, 1.0] * u.deg, "radius_arcmin", "arcmin").tolist()
    [30.0, 60.0]
    >>> plain_array(np.ma.masked_less(np.array([-1.0, 2.0], ">f4"), 0), "p_map")
    array([nan,  2.], dtype=float32)
    """
    if type(values) is np.ndarray and values.dtype in (np.float32, np.float64):
        return values
    stated = getattr(values, "unit", None)
    mask = _mask_of(values)
    # a Quantity's own conversion would drop what astropy masks; a memory map stays one
    data = np.asarray(getattr(values, "unmasked", values) if isinstance(values, Quantity) else values)
    if data.dtype.kind not in "biuf":
        raise ValueError(f"{what} holds {data.dtype}, expected real numbers; convert it to float")
    if not (data.dtype.kind == "f" and data.dtype.itemsize in (4, 8)):
        data = data.astype(np.float64)
    elif not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    if stated is not None and str(stated):
        scale = _scale(stated, unit, what)
        data = data if scale == 1.0 else data * data.dtype.type(scale)
    return np.where(mask, np.nan, data).astype(data.dtype) if mask is not None else data


def plain_mask(values: ArrayLike, what: str) -> NDArray[np.bool_]:
    """An array of bool; 0 and 1 will do. False where masked: what is not known to count does not.

    Raises
    ------
    ValueError
        If it holds anything but 0 and 1.

    Examples
    --------
    >>> plain_mask(np.ma.array([1, 1, 0], mask=[0, 1, 0]), "footprint").tolist()
    [True, False, False]
    """
    mask = _mask_of(values)
    data = np.asarray(values)
    if data.dtype.kind != "b":
        if data.dtype.kind not in "iuf" or not np.isin(data, (0, 1)).all():
            raise ValueError(
                f"{what} holds {data.dtype} other than 0 and 1, expected bool; pass {what} > 0.5 or the like"
            )
        data = data.astype(np.bool_)
    return data & ~mask if mask is not None else data


def plain_table(table: Rows, what: str) -> Rows:
    """A table of plain columns: native, text as str, in the units of their names, NaN, '' or False where masked.

    Parameters
    ----------
    table : Table, or anything with named columns
        Table, QTable, a FITS record array, a dict of arrays or a pandas DataFrame; None stays None.
    what : str
        Name of the argument, for errors.

    Returns
    -------
    Table
        The table itself where all of its columns are plain.

    Raises
    ------
    ValueError
        If it has no named columns, or a column's unit cannot be converted to that of its name.

    Examples
    --------
    >>> import astropy.units as u
    >>> from astropy.table import QTable
    >>> plain_table(QTable({"lon_deg": [1.0] * u.rad}), "clusters")["lon_deg"].round(3).tolist()
    [57.296]
    """
    if table is None or (type(table) is Table and all(_is_plain(table[name]) for name in table.colnames)):
        return table
    found: Any = table
    if not isinstance(found, Table):
        if isinstance(found, np.ndarray) and found.dtype.names:
            found = Table({name: found[name] for name in found.dtype.names})
        elif isinstance(found, Mapping):
            found = Table(found)
        elif hasattr(found, "to_dict") and hasattr(found, "columns"):
            found = Table({str(name): np.asarray(found[name]) for name in found.columns})
        else:
            raise ValueError(f"{what} is a {type(found).__name__}, expected a Table with columns; make one of it")
    out = Table(meta=dict(found.meta))
    for name in found.colnames:
        out[name] = _plain_column(found[name], name, what)
    return cast(Rows, out)


def _plain_column(column: Any, name: str, what: str) -> Any:
    """A column without mask and unit of its own; what is no array, such as a SkyCoord, stays."""
    if not isinstance(column, Column | Quantity | np.ndarray):
        return column
    data: NDArray[Any] = np.asarray(getattr(column, "unmasked", column))
    ending = next((end for end in UNITS if name.endswith(end)), None)
    label = f"column {name} of {what}"
    if data.dtype.kind in "SU":
        texts = np.char.decode(data, "utf-8") if data.dtype.kind == "S" else data
        mask = _mask_of(column)
        return Column(texts if mask is None else np.where(mask, "", texts))
    if data.dtype.kind == "b":
        return Column(plain_mask(column, label))
    if data.dtype.kind not in "iuf":
        return column
    known = ending is not None or name in _BARE
    unit = UNITS[ending] if ending is not None else ""
    if data.dtype.kind in "iu" and not known and _mask_of(column) is None:
        return Column(data.astype(data.dtype.newbyteorder("=")))
    plain = plain_array(column, label, unit) if known else plain_array(np.ma.asarray(column), label)
    info: Any = column
    return Column(plain, unit=unit or (None if known else getattr(info, "unit", None)))


def _is_plain(column: Any) -> bool:
    if type(column) is not Column or not column.dtype.isnative or column.dtype.kind not in "biufU":
        return False
    return column.unit is None or any(
        column.info.name.endswith(end) and Unit(unit) == column.unit for end, unit in UNITS.items()
    )


def _mask_of(values: Any) -> NDArray[np.bool_] | None:
    """Where values are masked, as numpy or astropy mask; None where nothing is."""
    if isinstance(values, np.ma.MaskedArray | MaskedColumn):
        mask: Any = np.ma.getmaskarray(values)
    else:
        mask = values.mask if hasattr(values, "unmasked") else False
    return np.asarray(mask, bool) if np.any(mask) else None


def _scale(stated: Any, unit: str, what: str) -> float:
    """Factor from a stated unit to that of the function."""
    own = Unit(stated, parse_strict="silent")
    wanted = Unit(unit) if unit else dimensionless_unscaled
    if isinstance(own, UnrecognizedUnit):
        own = Unit(str(stated).replace("Msun", "solMass"), parse_strict="silent")
    try:
        return float(own.to(wanted))
    except (UnitConversionError, TypeError, ValueError):
        raise ValueError(
            f"{what} is in '{stated}', expected {unit or 'a number without unit'}; convert it, or take its .value"
        ) from None
