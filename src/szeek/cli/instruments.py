"""`szeek instruments`: the experiments that ship, and any file of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from szeek.physics.instrument import Instrument


def instruments(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", help="print this one's file, or what is computed from yours"),
    ] = None,
) -> None:
    """List the experiments that ship, with bands, beams, tSZ and noise; or print one's file, to start from."""
    from szeek.inputs.instrument import list_instruments, read_instrument, read_shipped

    if source is None:
        typer.echo("\n\n".join(_describe(read_instrument(name)) for name in list_instruments()))
        typer.echo(
            "\nFWHM in arcmin; noise in uK arcmin, of maps in MJy/sr in kJy/sr arcmin; knee: l below which 1/f noise "
            "exceeds white noise"
        )
    elif source in list_instruments():
        typer.echo(read_shipped(source), nl=False)
    else:
        typer.echo(_describe(read_instrument(source)))


def _describe(instrument: Instrument) -> str:
    lines = [f"{instrument.name}\n  {'band':8}{'GHz':>8}{'FWHM':>8}{'K_CMB/y':>9}{'noise':>8}  {'knee':>6}  unit"]
    rows = zip(instrument.bands, instrument.details, instrument.tsz_kcmb, 60 * instrument.noise_uk_deg, strict=True)
    for band, detail, tsz, noise in rows:
        ghz, fwhm = band.freq_ghz, band.fwhm_arcmin
        knee = f"{detail.knee_ell:.0f}" if detail.knee_ell else "-"
        lines.append(f"  {band.name:8}{ghz:8.1f}{fwhm:8.2f}{tsz:9.3f}{noise:8.1f}  {knee:>6}  {band.unit}")
    return "\n".join(lines)
