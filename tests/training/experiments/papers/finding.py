from training.experiment import Experiment
from training.experiments import find


def experiment(name: str) -> Experiment:
    """Return the experiment with this name, which is a training."""
    found = find(name)
    assert isinstance(found, Experiment)
    return found
