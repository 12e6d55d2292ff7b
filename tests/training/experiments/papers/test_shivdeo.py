import pytest

from tests.training.experiments.papers.finding import experiment


def test_stacks_of_dicom_overlap_as_the_papers_best_do_in_the_window_of_the_header() -> None:
    dicom = experiment("shivdeo-3d-dicom")
    assert dicom.data == ("dicom",)
    assert dicom.preprocess.window_hu == "header"
    assert dicom.stacking == experiment("shivdeo-3d-overlap-0.625").stacking


def test_the_figure_of_3d_stands_beside_the_network_of_its_size_alone() -> None:
    names = ("206m", "overlap-0", "overlap-0.375", "overlap-0.625")
    published = {name: [figure.mean for figure in experiment(f"shivdeo-3d-{name}").published] for name in names}
    assert published == {"206m": [0.79], "overlap-0": [], "overlap-0.375": [], "overlap-0.625": []}


@pytest.mark.parametrize("name", ["shivdeo-3d-overlap-0.625", "shivdeo-3d-dicom"])
def test_a_smaller_v_net_than_the_papers_is_told_on_any_data(name: str) -> None:
    assert "V-Net of 45.6 M parameters, the paper's has 206 M" in experiment(name).differs
