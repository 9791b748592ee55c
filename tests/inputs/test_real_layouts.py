"""The real catalogues, rewritten into the layouts that VizieR and HEASARC serve: the same clusters."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.votable import from_table, writeto
from astropy.io.votable.tree import CooSys
from astropy.table import Table

from szeek.inputs.catalogues import read_catalogue, select_clusters

pytestmark = [pytest.mark.realdata, pytest.mark.filterwarnings("ignore")]
PSZ2 = "HFI_PCCS_SZ-union_R2.08.fits"


def text(column):
    return [str(value.decode() if isinstance(value, bytes) else value).strip().replace("--", "") for value in column]


def numbers(column, missing):
    values = np.ma.filled(np.ma.asarray(column, float), np.nan)
    return np.ma.masked_invalid(np.where(values > missing, values, np.nan))


def as_vizier_psz2(path):
    held = Table.read(path)
    out = Table(
        {
            "PSZ2": [name[5:] for name in text(held["NAME"])],
            "GLON": held["GLON"],
            "GLAT": held["GLAT"],
            "RAdeg": held["RA"],
            "DEdeg": held["DEC"],
            "S/N": held["SNR"],
            "Y5R500": held["Y5R500"],
        }
    )
    out["z"], out["MSZ"] = numbers(held["REDSHIFT"], 0.0), numbers(held["MSZ"], 0.0)
    out["MCXC"], out["RM"] = text(held["MCXC"]), text(held["REDMAPPER"])
    for name, unit in (("GLON", "deg"), ("GLAT", "deg"), ("RAdeg", "deg"), ("DEdeg", "deg"), ("Y5R500", None)):
        out[name].unit = unit
    return out


def as_heasarc_psz2(path):
    out = as_vizier_psz2(path)
    out["PSZ2"] = [f"PSZ2 {name}" for name in out["PSZ2"]]
    old = ["PSZ2", "GLON", "GLAT", "RAdeg", "DEdeg", "S/N", "Y5R500", "z", "MSZ", "MCXC", "RM"]
    new = ["name", "lii", "bii", "ra", "dec", "snr", "y5r500", "redshift", "mass_sz", "mcxc_id", "redmapper_id"]
    out.rename_columns(old, new)
    return out


def as_vizier_mcxc(path):
    held = Table.read(path)
    out = Table({"MCXC": text(held["MCXC"]), "OName": text(held["OName"]), "AName": text(held["AName"])})
    out["RAJ2000"] = [
        f"{h:02d} {m:02d} {s:04.1f}" for h, m, s in zip(held["RAh"], held["RAm"], held["RAs"], strict=True)
    ]
    out["DEJ2000"] = [
        f"{sign} {d:02d} {m:02d} {s:02d}".replace(" ", "", 1)
        for sign, d, m, s in zip(
            ["-" if d < 0 else "+" for d in held["DEdeg"]], held["DEd"], held["DEm"], held["DEs"], strict=True
        )
    ]
    out["RAJ2000"].unit, out["DEJ2000"].unit = '"h:m:s"', '"d:m:s"'
    for name in ("z", "Scale", "L500", "M500", "R500"):
        out[name] = held[name]
    return out


def as_heasarc_mcxc(path):
    held = Table.read(path)
    sky = SkyCoord(held["RAdeg"], held["DEdeg"], unit="deg")
    out = Table({"name": [f"MCXC {name}" for name in text(held["MCXC"])], "ra": sky.ra.deg, "dec": sky.dec.deg})
    out["lii"], out["bii"], out["redshift"] = sky.galactic.l.deg, sky.galactic.b.deg, held["z"]
    out["alt_name"], out["angular_scale"] = text(held["AName"]), held["Scale"]
    out["mass_500"], out["radius_500"] = np.asarray(held["M500"]) * 1e14, held["R500"]
    for name, unit in (("mass_500", "solMass"), ("radius_500", "Mpc"), ("angular_scale", "kpc / arcsec")):
        out[name].unit = unit
    return out


def write(table, path, kind):
    """As FITS, VOTable with COOSYS, ECSV, or VizieR's TSV with rows of units and dashes."""
    if kind == "fits":
        table.write(path)
    elif kind == "ecsv":
        table.write(path, format="ascii.ecsv")
    elif kind == "vot":
        out = table.copy()
        for name in out.colnames:
            if str(out[name].unit) == '"h:m:s"' or str(out[name].unit) == '"d:m:s"':
                out[name].unit = None
        tree = from_table(out)
        tree.resources[0].coordinate_systems.append(CooSys(ID="J2000", system="eq_FK5", equinox="J2000"))
        for field in tree.get_first_table().fields:
            if field.name.lower().startswith(("ra", "de")) and not field.name.startswith("radius"):
                field.ref = "J2000"
        writeto(tree, str(path))
    else:
        names = table.colnames
        lines = ["#", "#   VizieR Astronomical Server vizier.cds.unistra.fr", "#Title: a catalogue", "\t".join(names)]
        units = {"10+14Msun": "10+14Msun"}
        lines.append(
            "\t".join(str(table[n].unit or " ") if str(table[n].unit) not in units else "10+14Msun" for n in names)
        )
        lines.append("\t".join("-" * 8 for _ in names))
        lines += ["\t".join("" if np.ma.is_masked(row[n]) else str(row[n]) for n in names) for row in table]
        path.write_text("\n".join(lines) + "\n")


def compare(found, held, theta=True):
    """Values of a rewritten file against those of the file as it is held."""
    assert list(found["name"]) == list(held["name"])
    assert set(found["survey"]) == set(held["survey"])
    apart = SkyCoord(found["ra_deg"], found["dec_deg"], unit="deg").separation(
        SkyCoord(held["ra_deg"], held["dec_deg"], unit="deg")
    )
    # degrees of MCXC's file have three decimals, its hours and degrees whole seconds: 1.8, 0.75 and 0.5 arcsec
    assert apart.arcsec.max() < 4.0
    for name in ("z", "m500_1e14msun", "y500_arcmin2", "snr", "theta500_arcmin"):
        np.testing.assert_allclose(found[name], held[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["fits", "vot", "ecsv", "tsv"])
@pytest.mark.parametrize("layout", ["vizier", "heasarc"])
def test_mcxc_and_psz2(real_data, tmp_path, layout, kind):
    folder = real_data / "catalogues"
    makers = {"vizier": (as_vizier_psz2, as_vizier_mcxc), "heasarc": (as_heasarc_psz2, as_heasarc_mcxc)}[layout]
    for name, make in zip((PSZ2, "mcxc.fits"), makers, strict=True):
        write(make(folder / name), tmp_path / f"{name}.{kind}", kind)
    psz2, mcxc = (read_catalogue(tmp_path / f"{name}.{kind}") for name in (PSZ2, "mcxc.fits"))
    compare(psz2, read_catalogue(folder / PSZ2))
    compare(mcxc, read_catalogue(folder / "mcxc.fits"))
    counts = {s: len(select_clusters([psz2, mcxc], s)) for s in ("planck_z", "planck_no-z", "mcxcwp")}
    assert counts == {"planck_z": 1094, "planck_no-z": 559, "mcxcwp": 1193}
    assert np.isfinite(mcxc["m500_1e14msun"]).sum() == 1743 and np.isfinite(psz2["m500_1e14msun"]).sum() == 1094


def test_mcxc_from_hours_minutes_and_seconds(real_data, tmp_path):
    """CDS's own file without its degrees: the position is in seven columns."""
    held = Table.read(real_data / "catalogues" / "mcxc.fits")
    held.remove_columns(["RAdeg", "DEdeg", "GLON", "GLAT"])
    held.write(tmp_path / "a.fits")
    compare(read_catalogue(tmp_path / "a.fits"), read_catalogue(real_data / "catalogues" / "mcxc.fits"))


@pytest.mark.parametrize(
    ("name", "survey", "redshift", "mass"),
    [
        ("act_dr5_mcmf.csv", "ACT_DR5_MCMF", "z1C", "M500-1C"),
        ("spt_sz_pol_2024.fits", "SPT", "REDSHIFT", None),
        ("redmapper_sdss_dr8_v5.10.csv.gz", "REDMAPPER", "redshift", None),
    ],
)
def test_other_lists_against_their_own_columns(real_data, name, survey, redshift, mass):
    path = real_data / "catalogues" / name
    table, held = read_catalogue(path), Table.read(path, format="fits" if name.endswith("fits") else "ascii.csv")
    assert len(table) == len(held) and set(table["survey"]) == {survey}
    z = np.asarray(held[redshift], float)
    np.testing.assert_allclose(table["z"], np.where(z > 0, z, np.nan))
    if mass is None:
        assert np.isnan(table["m500_1e14msun"]).all()
    else:
        np.testing.assert_allclose(table["m500_1e14msun"], np.asarray(held[mass], float) / 1e14)


def test_a_list_without_a_header_is_refused(real_data):
    with pytest.raises(
        OSError, match=r"first row, '.*', is data and no comment above names 5 columns; put a line of"
    ):
        read_catalogue(real_data / "catalogues" / "camira_sdss_dr8_v2.dat.gz")
