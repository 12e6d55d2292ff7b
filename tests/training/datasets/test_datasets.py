from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from training import datasets


def test_an_unknown_data_set_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no data set 'imagenet'"):
        datasets.read("imagenet", tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        datasets.read("medseg100", tmp_path / "nowhere")
