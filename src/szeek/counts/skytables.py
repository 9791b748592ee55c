"""Catalogues as Parquet, in one file or cut by sky as HATS has it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import healpy
import numpy as np
from astropy.table import Table

from szeek._version import __version__

_INDEX_ORDER = 29
#: A catalogue of candidates is small: the twelve base pixels and their children are fine enough.
_ORDER = 1


def import_extra(name: str) -> ModuleType:
    """A library of the extra 'export'.

    Raises
    ------
    ImportError
        Names it and how it is installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ImportError("it comes with pip install 'szeek[export]'", name=name) from None


def to_arrow(table: Table) -> Any:
    """An astropy table as one of Arrow, units and descriptions in the metadata of its columns."""
    arrow = import_extra("pyarrow")
    fields, arrays = [], []
    for name in table.colnames:
        column = table[name]
        values = np.asarray(np.ma.filled(column, np.nan) if column.dtype.kind == "f" else column)
        # text as Python's, numbers in the byte order of this machine
        values = values.astype(object if values.dtype.kind in "SU" else values.dtype.newbyteorder("="))
        array = arrow.array(values.ravel())
        if values.ndim == 2:
            array = arrow.FixedSizeListArray.from_arrays(array, values.shape[1])
        notes = {"unit": str(column.unit or ""), "description": str(column.description or "")}
        fields.append(arrow.field(name, array.type, metadata={key: text for key, text in notes.items() if text}))
        arrays.append(array)
    return arrow.Table.from_arrays(arrays, schema=arrow.schema(fields))


def write_parquet(table: Table, path: Path) -> None:
    """Write a table as one Parquet file; columns of arrays become lists of that length."""
    import_extra("pyarrow.parquet").write_table(to_arrow(table), path)


def write_hats(table: Table, folder: Path) -> None:
    """Write a catalogue as HATS: Parquet files by HEALPix pixel (NESTED, ICRS), properties beside them.

    Source: HATS, IVOA note 1.0 (2025); read by the packages hats and lsdb.

    Parameters
    ----------
    table : Table
        ``RA``, ``DEC`` in degrees.
    folder : path
        Created.
    """
    parquet = import_extra("pyarrow.parquet")
    arrow = import_extra("pyarrow")
    ra, dec = (np.asarray(table[name], float) for name in ("RA", "DEC"))
    index = healpy.ang2pix(2**_INDEX_ORDER, ra, dec, nest=True, lonlat=True).astype(np.int64)
    order = np.argsort(index, kind="stable")
    whole = to_arrow(table[order]).add_column(0, f"_healpix_{_INDEX_ORDER}", arrow.array(index[order]))
    pixel = index[order] >> 2 * (_INDEX_ORDER - _ORDER)
    dataset = folder / "dataset"
    collected: list[Any] = []
    rows = ["Norder,Npix"]
    for number in np.unique(pixel):
        name = f"Norder={_ORDER}/Dir=0/Npix={number}.parquet"
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        first, last = np.searchsorted(pixel, [number, number + 1])
        parquet.write_table(whole.slice(first, last - first), dataset / name, metadata_collector=collected)
        collected[-1].set_file_path(name)
        rows.append(f"{_ORDER},{number}")
    parquet.write_metadata(whole.schema, dataset / "_common_metadata")
    parquet.write_metadata(whole.schema, dataset / "_metadata", metadata_collector=collected)
    (folder / "partition_info.csv").write_text("\n".join(rows) + "\n")
    properties = {
        "obs_collection": "szeek",
        "dataproduct_type": "object",
        "hats_nrows": len(table),
        "hats_col_ra": "RA",
        "hats_col_dec": "DEC",
        "hats_col_healpix": f"_healpix_{_INDEX_ORDER}",
        "hats_col_healpix_order": _INDEX_ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_order": _ORDER,
        "hats_max_rows": int(np.bincount(pixel).max()),
        "hats_builder": f"szeek {__version__}",
        "hats_version": "1.0",
    }
    text = "".join(f"{key}={value}\n" for key, value in properties.items())
    for name in ("hats.properties", "properties"):
        (folder / name).write_text("#HATS catalog\n" + text)
