"""A survey and its catalogue in the formats of likelihood codes: cosmocnc, nemo and SOLikeT, FITS, HDF5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from szeek.counts.masses import MassRelation
from szeek.counts.skytables import import_extra, write_hats, write_parquet
from szeek.counts.survey import PIVOT_ARCMIN, Survey
from szeek.files import whole_folder, write_json
from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.gas import pressure_profile
from szeek.physics.scaling import Y_SLOPE, theta500_from_mass, y500_from_mass

Floats = NDArray[np.float64]

#: Columns that a catalogue needs to be exported.
NEEDED = ("NAME", "RA", "DEC", "GLON", "GLAT", "SNR", "Z", "PATCH")
#: Of S/N as it is written, compressed above 40: 2,200.
_SNR_MAX = 200.0
_MASK_STEP_DEG = 0.5
_REFERENCE_ARCMIN = 5.0
_NEMO_PIVOT_MSUN = 3e14


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
        snr=np.asarray(catalogue["SNR"], float),
        z=np.asarray(catalogue["Z"], float),
        patch=np.asarray(catalogue["PATCH"], np.int64),
        validated=_is_validated(catalogue),
    )


def write_nemo(survey: Survey, catalogue: Table, relation: MassRelation, folder: Path) -> None:
    """The catalogue and a selFn/ folder as nemo leaves them: RMSTab, QFit, areaMask, config.yml.

    Tiles are the patches. nemo has one filter, of a reference size, and says with Q how much of another size's signal
    passes it; here every size has its filter, so that Q is what gives that S/N: the noise of y0 at the reference size
    over that at the size. y0 is the central Compton y of the universal profile of a Y500 and theta500.
    """
    selfn = folder / "selFn"
    selfn.mkdir()
    tiles = [f"PATCH{k}" for k in range(survey.n_patches)]
    sizes, noise = survey.theta500_arcmin, survey.patch_noise_arcmin2
    y0_noise = noise * _central_y_per_y500() / sizes**2 / survey.detection.snr_factor
    reference = np.exp([np.interp(np.log(_REFERENCE_ARCMIN), np.log(sizes), np.log(row)) for row in y0_noise])
    area = survey.sky_fraction * 4 * np.pi * np.degrees(1.0) ** 2
    Table({"areaDeg2": area, "y0RMS": reference, "tileName": tiles}).write(selfn / "RMSTab.fits")
    fine = np.geomspace(sizes[0], sizes[-1], 50)
    fits_of_q, masks = [fits.PrimaryHDU()], [fits.PrimaryHDU()]
    wcs, patch_map = _draw_patches(survey)
    for number, tile in enumerate(tiles):
        of_size = np.exp(np.interp(np.log(fine), np.log(sizes), np.log(y0_noise[number])))
        columns = {"theta500Arcmin": fine, "Q": reference[number] / of_size, "z": np.zeros(fine.size)}
        table = Table(columns, meta={"ZDEPQ": 0})  # of every redshift
        hdu = fits.table_to_hdu(table)
        hdu.name = tile
        fits_of_q.append(hdu)
        mask = fits.CompImageHDU((patch_map == number).astype(np.uint8), wcs.to_header(), name=tile)
        masks.append(mask)
    fits.HDUList(fits_of_q).writeto(selfn / "QFit.fits")
    fits.HDUList(masks).writeto(selfn / "areaMask.fits")
    Table({"tileName": tiles, "150.0": np.ones(len(tiles))}).write(selfn / "fRelWeights.fits")
    np.savetxt(selfn / "tileAreas.txt", np.array([tiles, [f"{a:.6f}" for a in area]]).T, fmt="%s")
    amplitude = _y0_of_pivot(relation)
    cosmology = survey.cosmology
    lines = [
        "photFilter: 'SZeek'",
        "massOptions:",
        f"  H0: {100 * cosmology.h:.4f}",
        f"  Om0: {cosmology.omega_m:.5f}",
        f"  Ob0: {cosmology.omega_b:.5f}",
        f"  sigma8: {cosmology.sigma8:.5f}",
        f"  ns: {cosmology.spectral_index:.5f}",
        "  scalingRelations:",
        "    - label: 'SZeek'",
        f"      tenToA0: {amplitude:.6e}",
        f"      B0: {Y_SLOPE - 5 / 3:.6f}",
        f"      Mpivot: {_NEMO_PIVOT_MSUN:.1e}",
        f"      sigma_int: {np.hypot(relation.scatter_ln, survey.detection.snr_scatter_ln):.6f}",
        "tileDefinitions:",
        *(f"  - tileName: '{tile}'" for tile in tiles),
    ]
    (selfn / "config.yml").write_text("\n".join(lines) + "\n")
    patch = np.asarray(catalogue["PATCH"], int)
    snr = np.asarray(catalogue["SNR"], float)
    listed = {
        "name": np.asarray(catalogue["NAME"], str),
        "RADeg": np.asarray(catalogue["RA"], float),
        "decDeg": np.asarray(catalogue["DEC"], float),
        "SNR": snr,
        "fixed_SNR": snr,
        "fixed_y_c": snr * reference[patch] * 1e4,  # nemo's unit
        "fixed_err_y_c": reference[patch] * 1e4,
        "redshift": np.asarray(catalogue["Z"], float),
        "redshiftErr": np.zeros(len(catalogue)),
        "tileName": np.array(tiles)[patch],
    }
    Table(listed).write(folder / "catalogue.fits")


def _central_y_per_y500() -> float:
    """y0 of the universal profile, for Y500 of 1 arcmin^2 and theta500 of 1 arcmin."""
    x = 5.0 * ((np.arange(200_000) + 0.5) / 200_000) ** 3  # dense towards the cusp
    dx = np.gradient(x)
    p = pressure_profile(x)
    inside = x < 1
    return float(2 * (p * dx).sum() / (4 * np.pi * (x**2 * p * dx)[inside].sum()))


def _y0_of_pivot(relation: MassRelation) -> float:
    """y0 of the true mass 3e14 Msun at E(z) = 1: Planck's relation has y0 ~ E^2 M^(alpha - 2/3)."""
    one, z = np.array([_NEMO_PIVOT_MSUN / 1e14]), np.array([0.1])
    flux = y500_from_mass(one, z, relation.mass_bias)
    size = theta500_from_mass(one, z, relation.mass_bias)
    return float((flux / size**2)[0] * _central_y_per_y500() / COSMOLOGY.efunc(0.1) ** 2)


def _draw_patches(survey: Survey) -> tuple[WCS, NDArray[np.int64]]:
    """Patch of each pixel of a plate carree map of the whole sky, in RA and Dec."""
    n_x, n_y = int(360 / _MASK_STEP_DEG), int(180 / _MASK_STEP_DEG)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---CAR", "DEC--CAR"]
    wcs.wcs.cdelt = [-_MASK_STEP_DEG, _MASK_STEP_DEG]
    wcs.wcs.crval = [180.0, 0.0]
    wcs.wcs.crpix = [n_x / 2 + 0.5, n_y / 2 + 0.5]
    x, y = np.meshgrid(np.arange(n_x), np.arange(n_y))
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    galactic = SkyCoord(ra, dec, unit="deg").galactic
    return wcs, survey.patch[healpy.ang2pix(survey.nside, galactic.l.deg, galactic.b.deg, lonlat=True)]


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
    >>> catalogue = Table({**one, "SNR": [6.0], "Z": [0.3], "PATCH": [0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     exported = export_survey("fits", survey, catalogue, MassRelation(), Path(folder) / "out")
    ...     Survey.read(exported / "survey.fits").detection == law
    True
    """
    if kind not in FORMATS:
        raise ValueError(f"format '{kind}' is unknown, expected one of {', '.join(FORMATS)}")
    if missing := [name for name in NEEDED if name not in catalogue.colnames]:
        raise ValueError(f"the catalogue lacks {', '.join(missing)}, expected {', '.join(NEEDED)}")
    outside = (np.asarray(catalogue["PATCH"], int) < 0) | (np.asarray(catalogue["SNR"], float) < survey.snr_min)
    if outside.any():
        raise ValueError(f"{outside.sum()} clusters lie outside the survey or below its S/N of {survey.snr_min:g}")
    with whole_folder(folder) as staging:
        FORMATS[kind](survey, catalogue, relation, staging)
    return folder
