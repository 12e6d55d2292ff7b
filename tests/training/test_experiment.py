from training import experiments
from training.datasets.infection_slices import ESTIMATED_HU
from training.experiment import Experiment


def test_a_short_form_has_as_many_phases_as_the_full_one() -> None:
    entries = [entry for entry in experiments.REGISTRY.values() if isinstance(entry, Experiment)]
    phases = {entry.name: (entry.recipe.phases, entry.shortened().recipe.phases) for entry in entries}
    assert phases["alalwan-separable"][0]
    assert all(len(full) == len(short) for full, short in phases.values())


def test_an_experiment_on_other_data_does_not_say_how_its_own_differ() -> None:
    wu = experiments.find("wu-infection-unet")
    assert isinstance(wu, Experiment)
    assert wu.differences.endswith("the paper names none; 9 patients, three-fold; " + ESTIMATED_HU)
    assert wu.on(("labels",)).differences.endswith("the paper names none; other data")
    assert wu.on(wu.data) == wu
