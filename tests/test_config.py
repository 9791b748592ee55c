import math
from importlib import resources

import pytest

from szeek.config import Config, config_toml, list_presets, load_config, named_file


def test_the_paper_s_own_numbers():
    """Bonjean (2020), Sects. 2 and 3, as listed in the method's description."""
    config = load_config("bonjean2020")
    assert (config.patches.n_training, config.patches.n_validation) == (90_000, 10_000)
    assert config.patches.size * config.patches.pixel_arcmin / 60 == pytest.approx(1.83, abs=0.005)
    assert (config.train.batch, config.train.patience, config.train.learning_rate) == (20, 12, 1e-4)
    assert config.train.schedule == "constant"
    assert config.network.filters == (8, 16, 32, 64, 128) and config.network.dropout == 0.2
    assert not config.network.batch_norm
    assert config.split.test_tiles == (6,) and config.split.validation_tiles == (9, 38, 41)
    assert config.input.kind == "left-gaussian"
    assert config.detect.p_max == 0.1 and config.assess.radius_arcmin == 5.0
    # a disc of 5 arcmin: about 7 pixels, 0.17 % of a patch
    disc_pixels = math.pi * (config.labels.disc_arcmin / 2 / config.patches.pixel_arcmin) ** 2
    assert disc_pixels == pytest.approx(6.7, abs=0.1)
    assert disc_pixels / config.patches.size**2 == pytest.approx(0.0017, abs=1e-4)


def test_the_four_models_differ_in_their_labels_only():
    models = {name: load_config(f"bonjean2020-{name}") for name in ("planckz", "mcxc", "rm50", "rm30")}
    assert models["planckz"].labels.selections == ("planck_z",)
    assert models["rm30"].labels.selections == ("planck_z", "mcxcwp", "rm30")
    base = load_config("bonjean2020")
    for config in models.values():
        assert config.model_copy(update={"labels": base.labels, "preset": base.preset}) == base


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_survives_a_round_trip_through_toml(name, tmp_path):
    config = load_config(name)
    path = tmp_path / "config.toml"
    path.write_text(config_toml(config))
    assert load_config(path) == config


def test_paths_are_relative_to_the_file(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text('[sky]\nmaps = {"100" = "a.fits"}\ncatalogues = ["b.fits"]\n')
    sky = load_config(path).sky
    assert sky.maps["100"] == tmp_path / "a.fits" and sky.catalogues == (tmp_path / "b.fits",)
    path.write_text('[sky]\ncatalogues = ["PSZ2=b.csv"]\nunit = {"545" = "MJy/sr"}\n')
    sky = load_config(path).sky
    assert named_file(sky.catalogues[0]) == ("PSZ2", tmp_path / "b.csv") and sky.unit == {"545": "MJy/sr"}


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "my.toml").write_bytes("# größer\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"my.toml' is no valid TOML: 'utf-8' codec"):
        load_config(tmp_path / "my.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nbacth = 20\n", r"train.bacth: unknown key, did you mean 'batch'\? \(found 20\)"),
        ("[patches]\nsize = 50\n", "patches.size: Input should be a multiple of 16"),
        ("[split]\ntest_tiles = [9]\n", r"tiles \[9\] are in both"),
        ("[split]\ntest_tiles = [48]\n", r"tiles \[48\] do not exist, expected 0 to 47"),
        ('preset = "bonjaen2020"\n', "preset 'bonjaen2020' is unknown, expected one of bonjean2020"),
        ("seed = 3\n[sky]\nfurther_seeds = [4, 3]\n", r"further_seeds \[4, 3\] and seed 3 name one sky twice"),
        ('[sky]\nsimulate = true\ncatalogues = ["a.fits"]\n', "sky: simulate is true and maps or catalogues"),
        ("[train\n", "no valid TOML"),
        ("[trian]\nbatch = 20\n", r"trian: unknown key, did you mean 'train'\?"),
        ("seed = -1\n", r"seed: Input should be greater than or equal to 0 \(found -1\)"),
    ],
)
def test_bad_files_are_refused_by_key(text, message, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(path)


@pytest.mark.parametrize("name", list_presets())
def test_a_preset_copied_to_a_file_of_one_s_own_means_the_same(name, tmp_path):
    copy = tmp_path / "mine.toml"
    copy.write_text((resources.files("szeek") / "presets" / f"{name}.toml").read_text())
    assert load_config(copy).model_dump(exclude={"preset"}) == load_config(name).model_dump(exclude={"preset"})


def test_maps_of_one_s_own_on_a_preset_that_simulates_are_not_passed_over(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "demo"\n[sky.maps]\n100 = "a.fits"\n')
    sky = load_config(path).sky
    assert (sky.simulate, sky.maps) == (False, {"100": tmp_path / "a.fits"})
    path.write_text('preset = "demo"\n[sky]\nnside = 256\n')
    assert load_config(path).sky.simulate


def test_a_table_for_each_map(tmp_path):
    path = tmp_path / "act.toml"
    text = (
        '[sky]\nunit = "K_CMB"\ncatalogues = ["c.fits"]\n[sky.maps]\nf220 = "c.fits"\n'
        '[sky.maps.f090]\nfile = "a.fits"\nivar = "a_ivar.fits"\nunit = "uK_CMB"\n[sky.maps.f150]\nfile = "b.fits"\n'
    )
    path.write_text(text)
    sky = load_config(path).sky
    assert sky.maps == {"f220": tmp_path / "c.fits", "f090": tmp_path / "a.fits", "f150": tmp_path / "b.fits"}
    assert sky.ivar == {"f090": tmp_path / "a_ivar.fits"}
    assert sky.unit == {"f220": "K_CMB", "f090": "uK_CMB", "f150": "K_CMB"}
    (tmp_path / "again.toml").write_text(config_toml(load_config(path)))
    assert load_config(tmp_path / "again.toml").sky == sky
    path.write_text(
        text.replace('unit = "uK_CMB"', 'beam = "b.txt"').replace("[sky]", '[sky]\ninstrument = "act-dr6"')
    )
    assert load_config(path).sky.instrument == f"act-dr6+f090={tmp_path / 'b.txt'}"
    path.write_text(text.replace("ivar =", "ivr ="))
    with pytest.raises(ValueError, match=r"maps.f090 has the unknown key 'ivr', .* did you mean 'ivar'"):
        load_config(path)
    path.write_text(text.replace('file = "b.fits"', 'ivar = "b.fits"'))
    with pytest.raises(ValueError, match=r"maps.f150 names no file"):
        load_config(path)
    path.write_text('[sky]\ncatalogues = ["c.fits"]\n[sky.maps]\nf090 = "a.fits"\n[sky.ivar]\nf150 = "b.fits"\n')
    with pytest.raises(ValueError, match="ivar names the band f150, of which no map is given"):
        load_config(path)


def test_missing_file_lists_the_presets():
    with pytest.raises(FileNotFoundError, match="neither a file nor a preset; presets are bonjean2020"):
        load_config("nothing.toml")


def test_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 2


def test_targets_go_with_the_selections_that_they_were_given_with(tmp_path):
    """Else the truth alone would be learnt as a half, because the preset has it beside Planck's clusters."""
    preset = load_config("szeek-1").labels
    assert preset.targets == {"truth": 0.5} and set(preset.targets) < set(preset.selections)
    path = tmp_path / "own.toml"
    path.write_text('preset = "szeek-1"\n[labels]\nselections = ["truth"]\n')
    for labels in (load_config(path).labels, load_config("szeek-1", labels={"selections": ["truth"]}).labels):
        assert labels.targets == {} and labels.disc_theta500 == preset.disc_theta500
    assert load_config("szeek-1", labels={"disc_arcmin": 8.0}).labels.targets == preset.targets
    own = load_config(path, labels={"targets": {"truth": 0.8}}).labels
    assert own.targets == {"truth": 0.8}


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"trut": 0.5}, "labels: targets names 'trut', expected one of selections: planck_z, truth"),
        ({"truth": 0.0}, "labels.targets.truth: Input should be greater than 0"),
        ({"truth": 1.5}, "labels.targets.truth: Input should be less than or equal to 1"),
    ],
)
def test_targets_that_mean_nothing_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        load_config("bonjean2020", labels={"selections": ["planck_z", "truth"], "targets": targets})
