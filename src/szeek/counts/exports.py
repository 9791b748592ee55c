"""A survey and its catalogue in the formats of likelihood codes: cosmocnc, nemo, FITS, HDF5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.counts.masses import MassRelation
from szeek.counts.nemo import write_nemo
from szeek.counts.skytables import import_extra, write_hats, write_parquet
from szeek.counts.survey import PIVOT_ARCMIN, Survey
from szeek.files import whole_folder, write_json
from szeek.physics.scaling import Y_SLOPE

Floats = NDArray[np.float64]

#: Columns that a catalogue needs to be exported.
NEEDED = ("NAME", "RA", "DEC", "GLON", "GLAT", "SNR", "FIXED_SNR", "Z", "PATCH")
#: Of S/N as it is written, compressed above 40: 2,200.
_SNR_MAX = 200.0


def write_cosmocnc(survey: Survey, catalogue: Table, relation: MassRelation, folder: Path) -> None:
    """A survey that cosmocnc 1.2 loads: two modules and the files that they read; cnc_params.json names them.

    thetas.txt, noise.txt and skyfracs.txt have the form of Planck's counts (SZ_thetas, SZ_ylims, SZ_skyfracs).
    """
    for module in ("survey_cat_szeek.py", "survey_sr_szeek.py"):
        source = resources.files("szeek.counts") / "cosmocnc" / module
        (folder / module).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    np.savetxt(folder / "thetas.txt", survey.theta500_arcmin, fmt="%.6f")
    np.savetxt(folder / "noise.txt", survey.patch_noise_arcmin2.T.ravel(), fmt="%.6e")
    np.savetxt(folder / "skyfracs.txt", survey.sky_fraction, fmt="%.8e")
    np.savetxt(folder / "dust.txt", survey.patch_log_dust, fmt="%.6f")
    np.save(folder / "false.npy", np.stack(survey.false_density))
    write_json(
        {"detection": asdict(survey.detection), "pivot_arcmin": PIVOT_ARCMIN},
        folder / "survey.json",
    )
    save_cosmocnc_catalogue(catalogue, folder / "catalogue.npz")
    share = min(survey.n_false / max(len(catalogue), 1), 0.99)
    cosmology = survey.cosmology
    parameters = {
        "cnc_params": {
            "obs_select": "q_szeek", "observables": [["q_szeek"]], "cluster_catalogue": "catalogue.npz",
            "obs_select_min": survey.snr_min, "obs_select_max": _SNR_MAX, "z_min": 0.01, "z_max": 1.5, "n_z": 100,
            "M_min": 7e13, "M_max": 4e15, "mass_definition": "500c", "hmf_type": "Tinker08",
            "data_lik_from_abundance": True, "scalrel_type_deriv": "analytical", "pad_abundance": True,
            "f_true_validated": _validated_share(survey, catalogue),
        },
        "scal_rel_params": {
            "alpha": Y_SLOPE, "beta": 2 / 3, "log10_Y_star": -0.19, "bias_sz": relation.mass_bias,
            "sigma_lnq": relation.scatter_ln, "f_false_detection": share,
        },
        "cosmo_params": {
            "Om0": cosmology.omega_m, "Ob0": cosmology.omega_b, "h": cosmology.h, "n_s": cosmology.spectral_index,
            "sigma_8": cosmology.sigma8, "m_nu": 0.0, "N_eff": 3.046,
        },
    }  # fmt: skip
    write_json(parameters, folder / "params.json")


def _validated_share(survey: Survey, catalogue: Table) -> float:
    """Share of the true clusters that are known ones, which cosmocnc asks for beside VALIDATED."""
    n_known = int(_is_validated(catalogue).sum())
    return min(n_known / max(len(catalogue) - survey.n_false, n_known, 1), 0.99)


def _is_validated(catalogue: Table) -> NDArray[np.bool_]:
    """Whether a cluster is known; where the catalogue does not say, whether it has a redshift."""
    if "VALIDATED" in catalogue.colnames:
        return np.asarray(catalogue["VALIDATED"], bool)
    return np.asarray(np.isfinite(np.asarray(catalogue["Z"], float)))


def save_cosmocnc_catalogue(catalogue: Table, path: Path) -> None:
    """Write a catalogue as survey_cat_szeek.py reads it."""
    np.savez(
        path,
        name=np.asarray(catalogue["NAME"], str),
        snr=np.asarray(catalogue["FIXED_SNR"], float),
        z=np.asarray(catalogue["Z"], float),
        patch=np.asarray(catalogue["PATCH"], np.int64),
        validated=_is_validated(catalogue),
    )


def write_fits(survey: Survey, catalogue: Table, relation: MassRelation, folder: Path) -> None:
    """survey.fits (:meth:`szeek.counts.survey.Survey.write`) and catalogue.fits."""
    survey.write(folder / "survey.fits")
    catalogue.write(folder / "catalogue.fits")


def write_hdf5(survey: Survey, catalogue: Table, relation: MassRelation, folder: Path) -> None:
    """survey.h5: a group per table and a dataset per column, attributes beside them; CATALOGUE is one of them."""
    h5py = import_extra("h5py")
    with h5py.File(folder / "survey.h5", "w") as file:
        for name, table in {**survey.tables(), "CATALOGUE": catalogue}.items():
            group = file.create_group(name)
            for column in table.colnames:
                values = np.asarray(table[column])
                group[column] = values.astype("S") if values.dtype.kind == "U" else values
                if table[column].unit is not None:
                    group[column].attrs["unit"] = str(table[column].unit)
            group.attrs.update(table.meta)


def write_parquet_folder(survey: Survey, catalogue: Table, relation: MassRelation, folder: Path) -> None:
    """catalogue.parquet, and survey.fits beside it."""
    survey.write(folder / "survey.fits")
    write_parquet(catalogue, folder / "catalogue.parquet")


def write_hats_folder(survey: Survey, catalogue: Table, relation: MassRelation, folder: Path) -> None:
    """catalogue/, a HATS catalogue, and survey.fits beside it."""
    survey.write(folder / "survey.fits")
    write_hats(catalogue, folder / "catalogue")


#: Formats by their name.
FORMATS: dict[str, Callable[[Survey, Table, MassRelation, Path], None]] = {
    "cosmocnc": write_cosmocnc,
    "nemo": write_nemo,
    "fits": write_fits,
    "hdf5": write_hdf5,
    "parquet": write_parquet_folder,
    "hats": write_hats_folder,
}


def export_survey(kind: str, survey: Survey, catalogue: Table, relation: MassRelation, folder: Path) -> Path:
    """Write a survey and its catalogue in one of :data:`FORMATS`; what was in the folder before goes.

    Parameters
    ----------
    kind : str
        One of :data:`FORMATS`.
    survey : Survey
    catalogue : Table
        The columns of :data:`NEEDED`, and any others, which tables keep.
    relation : MassRelation
    folder : path

    Raises
    ------
    ValueError
        If the format is unknown, a column is missing, or a cluster lies outside the survey or below its S/N.
    ImportError
        If the format needs a library of the extra 'export'.

    Examples
    --------
    >>> import tempfile
    >>> from szeek.counts.survey import DetectionModel
    >>> noise, everywhere, none_false = np.full((768, 2), 3e-4), np.ones(768), np.zeros(80)
    >>> law = DetectionModel(snr50=4.0, width=0.5)
    >>> survey = Survey(np.array([2.0, 20.0]), noise, everywhere, np.zeros(768, int), law, 4.5, none_false)
    >>> one = {"NAME": ["A"], "RA": [10.0], "DEC": [40.0], "GLON": [120.7], "GLAT": [-22.8]}
    >>> catalogue = Table({**one, "SNR": [6.2], "FIXED_SNR": [6.0], "Z": [0.3], "PATCH": [0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     exported = export_survey("fits", survey, catalogue, MassRelation(), Path(folder) / "out")
    ...     Survey.read(exported / "survey.fits").detection == law
    True
    """
    if kind not in FORMATS:
        raise ValueError(f"format '{kind}' is unknown, expected one of {', '.join(FORMATS)}")
    if missing := [name for name in NEEDED if name not in catalogue.colnames]:
        raise ValueError(f"the catalogue lacks {', '.join(missing)}, expected {', '.join(NEEDED)}")
    low = np.asarray(catalogue["FIXED_SNR"], float) < survey.snr_min
    outside = (np.asarray(catalogue["PATCH"], int) < 0) | low
    if outside.any():
        raise ValueError(f"{outside.sum()} clusters lie outside the survey or below its S/N of {survey.snr_min:g}")
    with whole_folder(folder) as staging:
        FORMATS[kind](survey, catalogue, relation, staging)
    return folder
