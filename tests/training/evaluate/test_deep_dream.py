from argparse import Namespace
from pathlib import Path

import pytest
import torch
from PIL import Image

from dicom_node.errors import SettingsError
from training.evaluate import deep_dream
from training.evaluate.deep_dream import dream, dream_of
from worker.networks.card import Card
from worker.networks.checkpoint import save
from worker.networks.registry import build


def weights(folder: Path, name: str = "unet") -> Path:
    torch.manual_seed(0)
    arguments = {"classes": 2, "width": 2, "depth": 1}
    card = Card(
        network=name,
        arguments=arguments,
        classes=("background", "infection"),
        window_hu=None,
        spacing_mm=(None, None, None),
        image_size=None,
        stack_slices=1,
        threshold=0.5,
        training_data="none",
        commit="none",
        licence="Apache-2.0",
        metrics={},
    )
    save(folder / "weights.safetensors", build(name, arguments), card)
    return folder / "weights.safetensors"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_dream, "SIZES", (16, 24))


def test_a_dream_answers_its_class_more_than_noise_does() -> None:
    torch.manual_seed(0)
    network = build("unet", {"classes": 2, "width": 2, "depth": 1}).eval()
    for channel in (0, 1):
        dreamed = torch.from_numpy(dream_of(network, channel)).float()[None, None] / 255
        noise = torch.rand(8, 1, 24, 24, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            assert network(dreamed)[:, channel].mean() > network(noise)[:, channel].mean()


def test_a_class_is_dreamt_of_though_a_relu_at_the_end_silences_it() -> None:
    torch.manual_seed(0)
    network = build("segnet", {"classes": 2}).eval()
    *_, normalisation, _ = network.decoder[-1]
    torch.nn.init.constant_(normalisation.bias, -1e3)
    images = [dream_of(network, channel) for channel in (0, 1)]
    assert (images[0] != images[1]).mean() > 0.5


def test_the_picture_has_an_image_for_every_class(tmp_path: Path) -> None:
    out = tmp_path / "dream.png"
    assert dream(Namespace(weights=weights(tmp_path), out=out)) == 0
    with Image.open(out) as picture:
        assert picture.size == (48, 24)


def test_a_network_that_is_not_2d_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="need a 2D segmentation network"):
        dream(Namespace(weights=weights(tmp_path, "unet-2.5d"), out=tmp_path / "dream.png"))


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^WEIGHTS: .*none\.json: No such file"):
        dream(Namespace(weights=tmp_path / "none.safetensors", out=tmp_path / "dream.png"))


def test_a_picture_that_cannot_be_written_is_refused_before_the_dream(tmp_path: Path) -> None:
    for out, reason in ((tmp_path, "is a folder"), (tmp_path / "missing" / "dream.png", "there is no folder")):
        with pytest.raises(SettingsError, match=reason):
            dream(Namespace(weights=tmp_path / "none.safetensors", out=out))


def test_a_picture_is_a_png_whatever_it_is_called(tmp_path: Path) -> None:
    dream(Namespace(weights=weights(tmp_path), out=tmp_path / "dream"))
    with Image.open(tmp_path / "dream") as picture:
        assert picture.format == "PNG"
