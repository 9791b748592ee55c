"""Finders beside one another on the same tiles of a sky with known truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from astropy.table import Table, vstack

from szeek.assess.recovery import HaloCuts, completeness_purity


def compare_finders(
    detections: Mapping[str, Table],
    truth: Table,
    planck_z: Table | None = None,
    *,
    tiles: Iterable[int] | None = None,
    purities: Sequence[float] = (0.9, 0.8, 0.5),
    y500_min_arcmin2: float = 3e-4,
    seed: int = 0,
) -> Table:
    """Completeness of every finder at given purities; each ranks its sources by its own ``p``.

    Parameters
    ----------
    detections : mapping of name to Table
        Each ``lon_deg``, ``lat_deg``, ``p``, down to a threshold low enough for the lowest purity.
    truth, planck_z, tiles, purities, seed
        As :func:`szeek.assess.recovery.completeness_purity` has them.
    y500_min_arcmin2 : float
        Least Y500 of the match set.

    Returns
    -------
    Table
        Its rows for every finder, first column ``finder``.

    Raises
    ------
    ValueError
        If no finder is given, or as ``completeness_purity``.

    Examples
    --------
    >>> haloes = Table({"lon_deg": [10.0, 60.0], "lat_deg": [40.0, 50.0], "y500_arcmin2": [1e-3, 2e-3]})
    >>> haloes["m500_1e14msun"], haloes["theta500_arcmin"] = 5.0, 6.0
    >>> sources = Table({"lon_deg": [10.0], "lat_deg": [40.01], "p": [0.9]})
    >>> found = compare_finders({"network": sources}, haloes, purities=(0.5,))  # ten detections tell a purity
    >>> str(found["finder"][0]), str(found["sample"][0]), float(found["p_threshold"][0])
    ('network', 'y500>5e-4', nan)
    """
    if not detections:
        raise ValueError("no detections are given, expected the source table of at least one finder")
    chosen = None if tiles is None else list(tiles)
    tables = []
    for name, sources in detections.items():
        rows = completeness_purity(
            sources,
            truth,
            planck_z,
            tiles=chosen,
            purities=purities,
            thresholds=(),
            cuts=HaloCuts(y500_min_arcmin2),
            seed=seed,
        )
        rows.add_column([name] * len(rows), index=0, name="finder")
        tables.append(rows)
    return vstack(tables, metadata_conflicts="silent")


def comparison_lines(comparison: Table) -> list[str]:
    """The comparison as the lines of a Markdown table: a row per finder and purity, a column per sample."""
    samples = list(dict.fromkeys(comparison["sample"]))
    lines = [
        "| finder | purity | threshold | detections | " + " | ".join(samples) + " | median offset, arcmin |",
        "|---" * (len(samples) + 5) + "|",
    ]
    groups = dict.fromkeys(zip(comparison["finder"], comparison["purity_asked"], strict=True))
    for finder, purity in groups:
        mine = comparison[(comparison["finder"] == finder) & (comparison["purity_asked"] == purity)]
        cells = []
        for sample in samples:
            row = mine[mine["sample"] == sample][0]
            value, low, high = (float(row[f"completeness{end}"]) for end in ("", "_low", "_high"))
            cells.append(f"{value:.2f} -{value - low:.2f} +{high - value:.2f} ({row['n_sample']})")
        first = mine[0]
        lines.append(
            f"| {finder} | {purity:g} | {first['p_threshold']:.3g} | {first['n_detections']} | "
            + " | ".join(cells)
            + f" | {first['median_offset_arcmin']:.2f} |"
        )
    return lines
