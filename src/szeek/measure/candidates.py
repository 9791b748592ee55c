"""The candidate catalogue: one table of column definitions, and every format that is generated from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any, NamedTuple
from xmlrpc.client import Error as XmlRpcError
from xmlrpc.client import ServerProxy

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.io.votable.tree import CooSys
from astropy.table import MaskedColumn, Table
from numpy.typing import ArrayLike, NDArray

from szeek.arguments import plain_array, plain_table
from szeek.files import whole_files
from szeek.measure.flags import FLAG_MEANINGS, FLAGS, set_flags

_BITS = ", ".join(f"{bit} {name}" for name, bit in FLAGS.items())


class ColumnDefinition(NamedTuple):
    """A column of the catalogue, and the column of a source table that it is filled from."""

    name: str
    source: str
    dtype: str  #: numpy; 'str' for text
    unit: str  #: '' for none
    ucd: str  #: IVOA Unified Content Descriptor, UCD1+
    description: str


#: The catalogue. Numbers that are not known are NaN (-1 for whole numbers; 0 for FLAGS and
#: CHECKED), unknown text is empty.
COLUMNS = tuple(
    ColumnDefinition(*row)
    for row in (
        ("NAME", "name", "str", "", "meta.id;meta.main", "IAU-style name: Galactic position, truncated"),
        ("RA", "ra_deg", "f8", "deg", "pos.eq.ra;meta.main", "Right ascension, ICRS"),
        ("DEC", "dec_deg", "f8", "deg", "pos.eq.dec;meta.main", "Declination, ICRS"),
        ("GLON", "lon_deg", "f8", "deg", "pos.galactic.lon", "Galactic longitude of the barycentre of the area"),
        ("GLAT", "lat_deg", "f8", "deg", "pos.galactic.lat", "Galactic latitude of the barycentre of the area"),
        ("POS_ERR", "pos_err_arcmin", "f4", "arcmin", "stat.error;pos.eq", "Radius that holds the cluster in 68 %"),
        ("POS_ERR95", "pos_err95_arcmin", "f4", "arcmin", "stat.error;pos.eq",
         "Radius that holds the cluster in 95 %"),
        ("P", "p", "f4", "", "stat.value", "Highest value of the network's map in the area; a score, see PURITY"),
        ("PURITY", "purity", "f4", "", "stat.probability", "Probability of a cluster, of the calibration's Y500"),
        ("PURITY_ERR", "purity_err", "f4", "", "stat.error;stat.probability", "Its error (68 %)"),
        ("AREA", "area_arcmin2", "f4", "arcmin2", "phys.angArea", "Area above the threshold"),
        ("NPIX", "n_pix", "i4", "", "meta.number", "Number of pixels above the threshold"),
        ("GLON_PEAK", "peak_lon_deg", "f8", "deg", "pos.galactic.lon", "Galactic longitude of the highest pixel"),
        ("GLAT_PEAK", "peak_lat_deg", "f8", "deg", "pos.galactic.lat", "Galactic latitude of the highest pixel"),
        ("TILE", "tile", "i4", "", "meta.id.part", "Sky tile (HEALPix nside 2, RING, Galactic)"),
        ("FOLD", "fold", "i4", "", "meta.id.part",
         "Network that saw the sky here only in prediction; -1: one for all"),
        ("SNR", "snr", "f4", "", "stat.snr", "Signal-to-noise ratio of the multi-frequency matched filter"),
        ("THETA500", "theta500_arcmin", "f4", "arcmin", "phys.angSize;src", "Size theta500 of the highest S/N"),
        ("Y5R500", "y5r500_arcmin2", "f4", "arcmin2", "phys.angArea", "Compton y within 5 R500, mean over all sizes"),
        ("Y5R500_ERR", "y5r500_err_arcmin2", "f4", "arcmin2", "stat.error;phys.angArea", "Its error (68 %)"),
        ("Y5R500_COR", "corrected_y5r500_arcmin2", "f4", "arcmin2", "phys.angArea",
         "Compton y within 5 R500 if it is a cluster: haloes as prior, relativistic, bias taken out"),
        ("Y5R500_COR_ERR", "corrected_y5r500_err_arcmin2", "f4", "arcmin2", "stat.error;phys.angArea",
         "Its error (68 %)"),
        ("SNR_CONSTR", "constrained_snr", "f4", "", "stat.snr",
         "Signal-to-noise ratio of tSZ fitted with dust of any amplitude and index"),
        ("Y5R500_CONSTR", "corrected_constrained_y5r500_arcmin2", "f4", "arcmin2", "phys.angArea",
         "As Y5R500_COR, fitted with dust of any amplitude and index"),
        ("Y5R500_CONSTR_ERR", "corrected_constrained_y5r500_err_arcmin2", "f4", "arcmin2", "stat.error;phys.angArea",
         "Its error (68 %)"),
        ("THETA500_FIXED", "fixed_theta500_arcmin", "f4", "arcmin", "phys.angSize;src",
         "Size theta500 that was given or that belongs to M500"),
        ("SNR_FIXED", "fixed_snr", "f4", "", "stat.snr", "Signal-to-noise ratio at that size"),
        ("Y5R500_FIXED", "fixed_y5r500_arcmin2", "f4", "arcmin2", "phys.angArea",
         "Compton y within 5 R500, that size"),
        ("Y5R500_FIXED_ERR", "fixed_y5r500_err_arcmin2", "f4", "arcmin2", "stat.error;phys.angArea",
         "Its error (68 %)"),
        ("M500", "m500_1e14msun", "f4", "1e14 Msun", "phys.mass", "Mass from flux and MATCH_Z, X-ray calibrated"),
        ("M500_ERR", "m500_err_1e14msun", "f4", "1e14 Msun", "stat.error;phys.mass",
         "Its error (68 %) from the flux"),
        ("Y_APERTURE", "y_aperture_arcmin2", "f4", "arcmin2", "phys.angArea",
         "Compton y in 10 arcmin less a ring of 15 to 25"),
        ("Y_APERTURE_ERR", "y_aperture_err_arcmin2", "f4", "arcmin2", "stat.error;phys.angArea", "Its error (68 %)"),
        ("TSZ_SNR", "tsz_snr", "f4", "", "stat.snr", "S/N of tSZ fitted with radio and dust to the band fluxes"),
        ("RADIO_SNR", "radio_snr", "f4", "", "stat.snr", "S/N of radio in that fit"),
        ("DUST_SNR", "dust_snr", "f4", "", "stat.snr", "S/N of dust in that fit"),
        ("CHI2", "chi2", "f4", "", "stat.fit.chi2",
         "Chi-square of that fit, number of bands less 3 degrees of freedom"),
        ("DUST", "dust", "f4", "mag", "phys.absorption.gal", "Galactic reddening E(B-V) there"),
        ("KIND", "kind", "str", "", "src.class",
         "What its spectrum looks like: cluster, radio, dusty, cold clump, artefact"),
        ("P_RADIO", "p_radio", "f4", "", "stat.probability",
         "Probability of a radio source within 5 arcmin, by a network that tells classes apart"),
        ("P_DUSTY", "p_dusty", "f4", "", "stat.probability", "Likewise of a dusty galaxy"),
        ("P_CLUMP", "p_clump", "f4", "", "stat.probability", "Likewise of a Galactic cold clump"),
        ("P_CO", "p_co", "f4", "", "stat.probability", "Likewise of bright CO emission"),
        ("CLASS", "class", "str", "", "src.class",
         "The likeliest of these and, with PURITY, of a cluster: cluster, radio, dusty, clump, co"),
        ("FLAGS", "flags", "i4", "", "meta.code.qual", f"What else lies there, a sum of bits: {_BITS}"),
        ("CHECKED", "checked", "i4", "", "meta.code", "Bits of FLAGS that were checked; the others are not known"),
        ("PS_BAND", "ps_band", "str", "", "instr.bandpass",
         "Band of the compact source behind the flag point_source"),
        ("PS_SNR", "ps_snr", "f4", "", "stat.snr", "Signal-to-noise ratio of that source in that band"),
        ("MATCH_NAME", "match_name", "str", "", "meta.id.cross", "Nearest known cluster within the search radius"),
        ("MATCH_SURVEY", "match_survey", "str", "", "meta.ref", "Catalogue of that cluster"),
        ("MATCH_SEP", "match_sep_arcmin", "f4", "arcmin", "pos.angDistance", "Separation from it"),
        ("MATCH_PCHANCE", "match_p_chance", "f4", "", "stat.probability", "Probability of such a match by chance"),
        ("MATCH_Z", "match_z", "f4", "", "src.redshift", "Redshift of that cluster"),
        ("MATCH_M500", "match_m500_1e14msun", "f4", "1e14 Msun", "phys.mass", "Mass M500 of that cluster"),
    )
)  # fmt: skip

_HOW_TO_READ = (
    "A bit of FLAGS is set where something was found. It is clear only where the same bit of CHECKED is set and that "
    "of FLAGS is not; what is in neither was not looked for."
)

#: Endings of the files that a catalogue is written to.
CATALOGUE_ENDINGS = (".fits", ".vot", ".csv", ".reg", ".md")
_MISSING: dict[str, Any] = {"f": np.nan, "i": -1, "U": ""}
_NEEDED = ("NAME", "RA", "DEC", "GLON", "GLAT", "P")


def name_candidates(lon_deg: ArrayLike, lat_deg: ArrayLike) -> list[str]:
    """IAU-style names from Galactic positions, truncated (not rounded) to 0.01 deg, as PSZ2 does.

    Source: IAU recommendations for nomenclature (Dickel et al. 1987, A&AS 68, 75): digits are cut off, so
    that a name says which cell of the sky the source is in.

    Parameters
    ----------
    lon_deg, lat_deg : (n,) float
        Galactic; latitude within [-90, 90].

    Examples
    --------
    >>> name_candidates([57.809, 0.0], [88.0, -0.009])
    ['SZeek G057.80+88.00', 'SZeek G000.00-00.00']
    """
    names = []
    lons, lats = plain_array(lon_deg, "lon_deg", "deg") % 360, plain_array(lat_deg, "lat_deg", "deg")
    for lon, lat in np.broadcast(lons, lats):
        if not abs(lat) <= 90 or not np.isfinite(lon):
            raise ValueError(f"Galactic position ({lon}, {lat}) deg, expected a finite one with |latitude| <= 90")
        # repr is the shortest decimal that means this float: 57.8 is cut to 57.80, not to 57.79
        l_cut, b_cut = (Decimal(repr(abs(float(x)))).quantize(Decimal("0.01"), ROUND_DOWN) for x in (lon, lat))
        names.append(f"SZeek G{l_cut:06.2f}{'-' if lat < 0 else '+'}{b_cut:05.2f}")
    return names


def make_candidates(sources: Table) -> Table:
    """A source table with everything that is known about each source, as the candidate catalogue.

    Parameters
    ----------
    sources : Table
        At least ``lon_deg``, ``lat_deg`` (Galactic) and ``p``; besides, any ``source`` column of
        :data:`COLUMNS`. Without ``checked``, those flags are set that need nothing but the sources
        (:func:`szeek.measure.flags.set_flags`).

    Returns
    -------
    Table
        The columns of :data:`COLUMNS`, all of them, with units and descriptions, in the order of the sources.

    Raises
    ------
    ValueError
        If a position or p is missing.

    Examples
    --------
    >>> candidates = make_candidates(Table({"lon_deg": [57.8], "lat_deg": [88.0], "p": [0.9]}))
    >>> str(candidates["NAME"][0]), round(float(candidates["DEC"][0]), 1), str(candidates["DEC"].unit)
    ('SZeek G057.80+88.00', 28.0, 'deg')
    """
    sources = plain_table(sources, "sources")
    if missing := [name for name in ("lon_deg", "lat_deg", "p") if name not in sources.colnames]:
        raise ValueError(f"the sources have columns {sources.colnames}, expected also {', '.join(missing)}")
    lon_deg, lat_deg = np.asarray(sources["lon_deg"], float) % 360, np.asarray(sources["lat_deg"], float)
    icrs = SkyCoord(lon_deg, lat_deg, frame="galactic", unit="deg").icrs
    flagged = sources if "checked" in sources.colnames else set_flags(sources)
    filled: dict[str, Any] = {name: flagged[name] for name in flagged.colnames}
    filled |= {"lon_deg": lon_deg, "ra_deg": icrs.ra.deg, "dec_deg": icrs.dec.deg}
    filled["name"] = name_candidates(lon_deg, lat_deg)
    return _typed({c.name: filled[c.source] for c in COLUMNS if c.source in filled}, len(sources))


def list_sources(candidates: Table) -> Table:
    """A candidate catalogue as a source table: the names that matching, recovery and stacking read."""
    out = candidates.copy()
    for column in COLUMNS:
        if column.name in out.colnames:
            out.rename_column(column.name, column.source)
    return out


def write_candidates(candidates: Table, path: str | os.PathLike[str]) -> list[Path]:
    """Write the catalogue as FITS and beside it as .vot, .csv, .reg (DS9) and .md (the columns explained).

    Parameters
    ----------
    candidates : Table
        From :func:`make_candidates`.
    path : path
        The FITS file; its folder is created if missing. All files are written, or none.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        If columns of the catalogue are missing.

    Examples
    --------
    >>> import tempfile
    >>> candidates = make_candidates(Table({"lon_deg": [57.8], "lat_deg": [88.0], "p": [0.9]}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.suffix for file in write_candidates(candidates, f"{folder}/candidates.fits")]
    ['.fits', '.vot', '.csv', '.reg', '.md']
    """
    if missing := [c.name for c in COLUMNS if c.name not in candidates.colnames]:
        raise ValueError(f"the table lacks {', '.join(missing)}; make it with make_candidates(sources)")
    target = Path(path)
    table = _typed({c.name: candidates[c.name] for c in COLUMNS}, len(candidates))
    files = [target.with_suffix(ending) for ending in CATALOGUE_ENDINGS]
    with whole_files(target.parent) as room:
        rooms = [room / file.name for file in files]
        _fits_table(table).writeto(rooms[0])
        _votable(table).to_xml(str(rooms[1]))
        table.write(rooms[2], format="ascii.csv")
        rooms[3].write_text(_regions(table))
        rooms[4].write_text(explain_columns())
    return files


def read_candidates(path: str | os.PathLike[str]) -> Table:
    """Read a candidate catalogue back: .fits, .vot or .csv.

    Returns
    -------
    Table
        As :func:`make_candidates` made it; no masks. Columns that an older version did not write are unknown.

    Raises
    ------
    ValueError
        If the format is unknown or name, position or p are missing.

    Examples
    --------
    >>> import tempfile
    >>> candidates = make_candidates(Table({"lon_deg": [57.8], "lat_deg": [88.0], "p": [0.9]}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_candidates(candidates, f"{folder}/candidates.fits")
    ...     len(read_candidates(f"{folder}/candidates.vot"))
    1
    """
    file = Path(path)
    formats = {".fits": "fits", ".vot": "votable", ".csv": "ascii.csv"}
    if file.suffix not in formats:
        raise ValueError(f"'{file.name}' has no known ending, expected one of {', '.join(formats)}")
    if file.suffix == ".fits":
        with fits.open(file) as hdus:  # Table.read would warn of nothing, but masks NaN
            data = hdus[1].data
            found: dict[str, Any] = {name: np.array(data[name]) for name in data.names}
    else:
        table = Table.read(file, format=formats[file.suffix])
        found = {name: table[name] for name in table.colnames}
    if missing := [name for name in _NEEDED if name not in found]:
        raise ValueError(f"'{file.name}' has no column {', '.join(missing)}; it is not an SZeek candidate catalogue")
    return _typed({c.name: found[c.name] for c in COLUMNS if c.name in found}, len(found["NAME"]))


def explain_columns() -> str:
    """The catalogue's columns and flags as a Markdown page.

    Examples
    --------
    >>> explain_columns().splitlines()[2]
    '| column | type | unit | UCD | meaning |'
    """
    lines = ["# candidates: the columns", "", "| column | type | unit | UCD | meaning |", "|---|---|---|---|---|"]
    words = {"str": "text", "f8": "float64", "f4": "float32", "i4": "int32"}
    lines += [f"| {c.name} | {words[c.dtype]} | {c.unit} | {c.ucd} | {c.description} |" for c in COLUMNS]
    lines += [
        "",
        "Unknown numbers are NaN (-1 for whole ones), unknown text is empty.",
        "",
        "## FLAGS",
        "",
        _HOW_TO_READ,
    ]
    lines += ["", "| bit | value | meaning |", "|---|---|---|"]
    lines += [f"| {name} | {value} | {FLAG_MEANINGS[name]} |" for name, value in FLAGS.items()]
    return "\n".join(lines) + "\n"


def send_to_samp(path: str | os.PathLike[str], lockfile: str | os.PathLike[str] | None = None) -> None:
    """Show a candidate catalogue (.vot) in the running TOPCAT, Aladin or DS9, through SAMP.

    Source: IVOA recommendation SAMP 1.3 (2012), Sect. 4, the Standard Profile: XML-RPC to the hub named in
    the lockfile.

    Parameters
    ----------
    path : path
        A VOTable.
    lockfile : path, optional
        Of the hub. Default: ``$SAMP_HUB`` if it is a 'std-lockurl:file://...', else ``~/.samp``.

    Raises
    ------
    ValueError
        If the file is no VOTable.
    ConnectionError
        If no hub runs.

    Examples
    --------
    >>> send_to_samp("candidates.fits")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ValueError: it is not a VOTable file
    """
    file = Path(path).resolve()
    if file.suffix != ".vot" or not file.is_file():
        raise ValueError(f"'{file}' is not a VOTable file (.vot)")
    named = os.environ.get("SAMP_HUB", "").removeprefix("std-lockurl:file://")
    lock = Path(lockfile or named or Path.home() / ".samp")
    start = "start TOPCAT, Aladin or DS9 first, with SAMP switched on"
    if not lock.is_file():
        raise ConnectionError(f"no SAMP hub: '{lock}' not found; {start}")
    pairs = (line.split("=", 1) for line in lock.read_text().splitlines() if "=" in line and line[0] != "#")
    settings = {key.strip(): value.strip() for key, value in pairs}
    try:
        hub = ServerProxy(settings["samp.hub.xmlrpc.url"]).samp.hub
        registration: Any = hub.register(settings["samp.secret"])
        key = registration["samp.private-key"]
        try:
            hub.declareMetadata(key, {"samp.name": "SZeek"})
            parameters = {"url": file.as_uri(), "table-id": str(file), "name": file.stem}
            hub.notifyAll(key, {"samp.mtype": "table.load.votable", "samp.params": parameters})
        finally:
            hub.unregister(key)
    except (KeyError, OSError, XmlRpcError) as error:
        raise ConnectionError(f"the SAMP hub of '{lock}' does not answer ({error}); {start}") from error


def _typed(columns: Mapping[str, Any], n_row: int) -> Table:
    """All columns of the catalogue with their types, units and descriptions; what is missing is filled."""
    table = Table()
    for definition in COLUMNS:
        dtype = np.dtype("U1" if definition.dtype == "str" else definition.dtype)
        missing = 0 if definition.name in ("FLAGS", "CHECKED") else _MISSING[dtype.kind]
        if definition.name not in columns:
            values = np.full(n_row, missing, dtype)
        else:
            given = columns[definition.name]
            if isinstance(given, MaskedColumn | np.ma.MaskedArray):
                given = np.where(np.ma.getmaskarray(given), missing, given.data)
            values = _as_text(given) if dtype.kind == "U" else np.asarray(given).astype(dtype)
        table[definition.name] = values
        table[definition.name].description = definition.description
        if definition.unit:
            table[definition.name].unit = definition.unit
    return table


def _as_text(values: Sequence[Any]) -> NDArray[np.str_]:
    text = [value.decode() if isinstance(value, bytes) else str(value) for value in np.asarray(values).tolist()]
    return np.char.strip(np.array(text, dtype=str)) if text else np.empty(0, "U1")


def _ascii(table: Table) -> Table:
    """Text columns as bytes of at least one character, which both FITS and VOTable's 'char' want."""
    out = table.copy()
    for name in out.colnames:
        if out[name].dtype.kind == "U":
            width = max(1, out[name].dtype.itemsize // 4)
            out[name] = np.char.encode(np.asarray(out[name]), "ascii", "replace").astype(f"S{width}")
    return out


def _fits_table(table: Table) -> fits.HDUList:
    hdu = fits.table_to_hdu(_ascii(table))
    hdu.name = "CANDIDATES"
    for k, definition in enumerate(COLUMNS, 1):
        hdu.header[f"TUCD{k}"] = definition.ucd
        hdu.header[f"TCOMM{k}"] = definition.description
    hdu.header["RADESYS"] = "ICRS"
    hdu.header["COMMENT"] = _HOW_TO_READ
    for name, value in FLAGS.items():
        hdu.header["COMMENT"] = f"FLAGS {value} ({name}): {FLAG_MEANINGS[name]}"
    return fits.HDUList([fits.PrimaryHDU(), hdu])


def _votable(table: Table) -> Any:
    out = _ascii(table)
    for definition in COLUMNS:
        out[definition.name].meta["ucd"] = definition.ucd
        out[definition.name].description = definition.description
        if definition.unit:
            out[definition.name].unit = definition.unit
    votable = from_table(out, table_id="candidates")
    resource = votable.resources[0]
    for name, system in (("icrs", "ICRS"), ("galactic", "galactic")):
        resource.coordinate_systems.append(CooSys(ID=name, system=system, equinox=None, epoch=None))
    meanings = [f"FLAGS {value} ({name}): {FLAG_MEANINGS[name]}." for name, value in FLAGS.items()]
    resource.description = " ".join([_HOW_TO_READ, *meanings])
    references = dict.fromkeys(("GLON", "GLAT", "GLON_PEAK", "GLAT_PEAK"), "galactic")
    references |= {"RA": "icrs", "DEC": "icrs"}
    for field in votable.get_first_table().fields:
        if field.name in references:
            field.ref = references[field.name]
    return votable


def _regions(table: Table) -> str:
    """DS9 regions: circles of the area's size, at least 5 arcmin, in ICRS."""
    radius_arcmin = np.fmax(5.0, np.sqrt(np.asarray(table["AREA"], float) / np.pi))
    lines = ["# Region file format: DS9 version 4.1", "global color=green", "icrs"]
    lines += [
        f"circle({row['RA']:.5f},{row['DEC']:.5f},{radius:.2f}') # text={{{row['NAME']} p={row['P']:.2f}}}"
        for row, radius in zip(table, radius_arcmin, strict=True)
    ]
    return "\n".join(lines) + "\n"
