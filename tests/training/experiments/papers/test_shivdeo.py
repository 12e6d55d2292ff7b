from training.experiment import Experiment
from training.experiments import find


def experiment(name: str) -> Experiment:
    found = find(name)
    assert isinstance(found, Experiment)
    return found


def test_stacks_of_dicom_overlap_as_the_papers_best_do_in_the_window_of_the_header() -> None:
    dicom = experiment("shivdeo-3d-dicom")
    assert dicom.data == ("dicom",)
    assert dicom.preprocess.window_hu == "header"
    assert dicom.stacking == experiment("shivdeo-3d-overlap-0.625").stacking


def test_the_figure_of_3d_stands_beside_the_largest_overlap_alone() -> None:
    published = {f: experiment(f"shivdeo-3d-overlap-{f}").published for f in ("0", "0.375", "0.625")}
    assert [figure.mean for figures in published.values() for figure in figures] == [0.79]
    assert published["0.625"]
