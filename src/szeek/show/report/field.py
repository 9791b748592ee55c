"""A small field kept with a run: p beside a Compton-y map of the same sky.

fields/NAME/ holds prediction.fits and candidates.fits of the field, clusters.fits (what is known there), y.fits (the
y map on the field's own tangent plane) and field.json (title, centre, width, note).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from szeek.assess.match import match
from szeek.inputs.image_files import read_pixels
from szeek.inputs.stackmaps import read_stack_map
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.figures.cutouts import plot_field
from szeek.show.report.known import drawn_clusters
from szeek.show.report.parts import Block, Cell, Column, Figures, Section, number, table_block
from szeek.sky.healpix import lonlat_deg
from szeek.sky.projection import field_directions, interpolate

#: Pixels on a side of a field's picture.
FIELD_PIXELS = 420
#: Side of the field of the best candidates.
_BEST_DEG = 10.0


def sample_image(
    file: str | os.PathLike[str], lon_deg: float, lat_deg: float, width_deg: float, n: int = FIELD_PIXELS
) -> NDArray[np.float64]:
    """A FITS image with a celestial WCS, or a HEALPix map, bilinearly on the tangent plane of a Galactic field.

    Returns
    -------
    (n, n) float64
        In the image's unit; NaN outside the image.

    Raises
    ------
    ValueError
        If the file holds neither; if a HEALPix map's header lacks frame or ordering.
    """
    directions = field_directions(lon_deg, lat_deg, 0.0, n, n, 60 * width_deg / n)
    found = read_pixels(file)
    if found is None:
        sky = read_stack_map("y", file, unit="y", fwhm_arcmin=0.0)
        return np.asarray(interpolate(sky.values, directions, sky.footprint)[..., 0], float)
    image, wcs = found[1].reshape(found[1].shape[-2:]), WCS(found[2])
    if not wcs.has_celestial:
        raise ValueError(f"'{file}' has no celestial WCS; expected CTYPE1 and CTYPE2 of a sky projection")
    sky = SkyCoord(*lonlat_deg(directions), unit="deg", frame="galactic")
    column, row = wcs.celestial.world_to_pixel(sky)
    return np.asarray(map_coordinates(image, [row, column], order=1, mode="constant", cval=np.nan))


@dataclass(frozen=True)
class FieldPicture:
    """What the report's picture of a field shows.

    Parameters
    ----------
    title : str
    lon_deg, lat_deg, width_deg : float
        Centre (Galactic) and side.
    y_files : sequence of paths
        Compton y as FITS images (TAN or another projection) or HEALPix; their mean is shown.
    y_title : str
    p_max : float
        Threshold that the candidates were detected with.
    note : str
        A sentence for the reader.

    Examples
    --------
    >>> FieldPicture("Coma", 57.8, 88.0, 12.0).p_max
    0.1
    """

    title: str
    lon_deg: float
    lat_deg: float
    width_deg: float
    y_files: Sequence[str | os.PathLike[str]] = ()
    y_title: str = "y map"
    p_max: float = 0.1
    note: str = ""


def keep_field(
    run_folder: str | os.PathLike[str],
    name: str,
    prediction_folder: str | os.PathLike[str],
    clusters: Table,
    picture: FieldPicture,
) -> Path:
    """Put a field's prediction beside a run, for the report to show.

    Parameters
    ----------
    run_folder : path
        The run whose report is to show the field.
    name : str
        Folder name of the field.
    prediction_folder : path
        Where ``prediction.fits`` and ``candidates.fits`` of the field are.
    clusters : Table
        Known clusters in the common catalogue columns; an optional ``remark`` column is shown with them.
    picture : FieldPicture

    Examples
    --------
    >>> import tempfile
    >>> from szeek.measure.candidates import make_candidates, write_candidates
    >>> import healpy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     p, coma = np.full(12 * 64**2, 0.2, np.float32), {"lon_deg": [57.8], "lat_deg": [88.0]}
    ...     healpy.write_map(f"{folder}/prediction.fits", p, nest=True, coord="G", dtype=np.float32)
    ...     _ = write_candidates(make_candidates(Table({**coma, "p": [0.9]})), f"{folder}/candidates.fits")
    ...     clusters = Table({"name": ["Coma"], **coma})
    ...     kept = keep_field(f"{folder}/my-run", "coma", folder, clusters, FieldPicture("Coma", 57.8, 88.0, 12.0))
    ...     sorted(path.name for path in kept.iterdir())
    ['candidates.fits', 'clusters.fits', 'field.json', 'prediction.fits']
    """
    source, target = Path(prediction_folder), Path(run_folder) / "fields" / name
    missing = [product for product in (products.PREDICTION, products.CANDIDATES) if not (source / product).is_file()]
    if missing:
        raise FileNotFoundError(
            f"'{source}' holds no {' and no '.join(missing)}; run `szeek predict` and `szeek detect`"
        )
    target.mkdir(parents=True, exist_ok=True)
    for product in (products.PREDICTION, products.CANDIDATES):
        shutil.copyfile(source / product, target / product)
    clusters.write(target / products.CLUSTERS, overwrite=True)
    if picture.y_files:
        where = picture.lon_deg, picture.lat_deg, picture.width_deg
        mean = np.mean([sample_image(file, *where) for file in picture.y_files], axis=0)
        fits.PrimaryHDU(mean.astype(np.float32)).writeto(target / "y.fits", overwrite=True)
    facts = asdict(picture)
    del facts["y_files"]  # they are in y.fits
    (target / products.FIELD_RECORD).write_text(json.dumps(facts, indent=1))
    return target


def section_fields(run: RunFolder, made: Figures) -> Section:
    """Every field kept with the run: its picture, and the clusters known there with the source of each."""
    part = Section("fields", "Fields on the real sky")
    if not run.fields:
        part.missing("a field beside a y map (fields/)", "`szeek predict` on cut-outs such as Coma's makes one.")
    for field in run.fields:
        facts = field.json(products.FIELD_RECORD)
        p_ring, sources, clusters = field.p_ring, field.candidates, field.clusters
        if p_ring is None or sources is None or clusters is None:
            part.missing(
                f"prediction, candidates or clusters of the field '{field.path.name}'", "Keep the field again."
            )
            continue
        p_max = float(facts.get("p_max", run.p_max))
        y_file = field.path / "y.fits"
        y_picture = np.asarray(fits.getdata(y_file), float) if y_file.is_file() else None
        picture = plot_field(
            p_ring,
            y_picture,
            sources,
            clusters,
            lon_deg=float(facts["lon_deg"]),
            lat_deg=float(facts["lat_deg"]),
            width_deg=float(facts["width_deg"]),
            p_max=p_max,
            y_title=str(facts.get("y_title", "y map")),
        )
        part.add(
            made.block(
                f"field_{field.path.name}",
                picture,
                f"{facts['title']}: p with the sources above {p_max:g} (circles) and the known clusters (squares), "
                f"beside {facts.get('y_title', 'a y map')}. Galactic north up, longitude grows to the left.",
                f"p and Compton y in the field {facts['title']}",
                vector=False,
                wide=True,
            )
        )
        part.add(_cluster_table(sources, clusters, facts["title"]))
        part.add(Block("text", text=_other_sources(p_ring, sources, clusters)))
        if facts.get("note"):
            part.add(Block("text", text=str(facts["note"])))
    return part


def block_of_best_field(run: RunFolder, made: Figures) -> Block:
    """The field where most clusters are expected, beside Compton y where the run has it."""
    assert run.p_ring is not None and run.candidates is not None
    above = run.candidates[np.asarray(run.candidates["p"]) >= run.p_max]
    lon_deg, lat_deg = find_best_place(above if len(above) else run.candidates)
    y_picture = None
    if run.y_ring is not None:
        n, pixel_arcmin = FIELD_PIXELS, 60 * _BEST_DEG / FIELD_PIXELS
        directions = field_directions(lon_deg, lat_deg, 0.0, n, n, pixel_arcmin)
        y_picture = np.asarray(interpolate(run.y_ring[:, None], directions)[..., 0], float)
    picture = plot_field(
        run.p_ring,
        y_picture,
        above,
        drawn_clusters(run),
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        width_deg=_BEST_DEG,
        p_max=run.p_max,
    )
    return made.block(
        "best_field",
        picture,
        f"The field with the best candidates, {_BEST_DEG:g}° wide around l = {lon_deg:.1f}°, b = {lat_deg:+.1f}°: p "
        f"with the sources above {run.p_max:g} (circles) and the known clusters (squares)"
        f"{'' if y_picture is None else ', beside Compton y'}. Galactic north up, longitude grows to the left.",
        "p around the best candidates",
        vector=False,
        wide=True,
    )


def find_best_place(sources: Table) -> tuple[float, float]:
    """Galactic longitude and latitude of the field where most clusters are expected, by PURITY or else by p.

    It is the mean place of those sources, weighted likewise, in the 7 degree pixel that holds most.

    Examples
    --------
    >>> sources = Table({"lon_deg": [9.0, 40.0, 40.4], "lat_deg": [0.0, 0.0, 0.0], "p": [0.9, 0.6, 0.6]})
    >>> lon_deg, lat_deg = find_best_place(sources)
    >>> round(lon_deg, 1), round(lat_deg, 1)
    (40.2, 0.0)
    """
    lon_deg, lat_deg = (np.asarray(sources[name], float) for name in ("lon_deg", "lat_deg"))
    expected = np.asarray(sources["p"], float)
    if "purity" in sources.colnames:
        purity = np.asarray(sources["purity"], float)
        expected = np.where(np.isfinite(purity), purity, expected)
    cell = healpy.ang2pix(8, lon_deg, lat_deg, lonlat=True)
    weight = np.where(cell == np.argmax(np.bincount(cell, expected)), expected, 0.0)
    (lon,), (lat,) = healpy.vec2ang(weight @ healpy.ang2vec(lon_deg, lat_deg, lonlat=True), lonlat=True)
    return float(lon), float(lat)


def _cluster_table(sources: Table, clusters: Table, title: str) -> Block:
    pairs = match(sources, clusters, 5.0)
    row_of = {int(c): k for k, c in enumerate(pairs["cluster"])}
    remarks = "remark" in clusters.colnames
    columns = [Column("cluster"), Column("z", "", True), Column("S/N", "", True), Column("p of its source", "", True)]
    columns += [Column("separation", "arcmin", True)] + ([Column("remark")] if remarks else [])
    rows: list[list[Cell | str]] = []
    for index, cluster in enumerate(clusters):
        pair = pairs[row_of[index]] if index in row_of else None
        cells: list[Cell | str] = [
            str(cluster["name"]),
            number(cluster["z"], decimals=3),
            number(cluster["snr"], decimals=1),
            number(pair["p"], decimals=2) if pair is not None else Cell("none", ""),
            number(pair["separation_arcmin"] if pair is not None else None, decimals=1),
        ]
        rows.append(cells + ([str(cluster["remark"])] if remarks else []))
    return table_block(f"{title}: the clusters known there, and the source within 5 arcmin of each", columns, rows)


def _other_sources(p_ring: NDArray[np.float32], sources: Table, clusters: Table) -> str:
    """How many sources of the footprint belong to no known cluster, per square degree."""
    area_deg2 = np.isfinite(p_ring).mean() * 4 * np.pi * np.degrees(1) ** 2
    other = len(sources) - len(match(sources, clusters, 5.0))
    return (
        f"{other} further sources in {area_deg2:.1f} deg², {other / max(area_deg2, 1e-9):.2f} per deg², lie more "
        "than 5 arcmin from every cluster listed."
    )
