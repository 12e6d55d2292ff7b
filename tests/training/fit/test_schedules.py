import pytest
import torch
from torch import nn

from training.fit import schedules
from training.fit.schedules import Optimiser, Polynomial, Step


def rates(optimiser: Optimiser, epochs: int) -> list[float]:
    built = optimiser.build(nn.Linear(1, 1))
    return [optimiser.set_rate(built, epoch / epochs, epoch) for epoch in range(epochs)]


def test_saoods_rate_falls_to_0_95_every_12_epochs() -> None:
    found = rates(schedules.saood(1e-3), 160)
    assert found[11] == 1e-3
    assert found[12] == pytest.approx(0.95e-3)
    assert found[-1] == pytest.approx(1e-3 * 0.95**13)


def test_shivdeos_rate_falls_to_a_third_every_5_epochs() -> None:
    assert rates(schedules.SHIVDEO, 11)[::5] == pytest.approx([1e-3, 1e-3 / 3, 1e-3 / 9])


def test_alalwans_rate_is_halved_every_10_epochs() -> None:
    assert rates(schedules.ALALWAN, 21)[::10] == pytest.approx([0.01, 0.005, 0.0025])


def test_a_polynomial_schedule_ends_at_zero() -> None:
    assert Polynomial().rate(1.0, 0) == 0


def test_the_rate_is_set_on_every_parameter() -> None:
    optimiser = Optimiser("sgd", 1.0, schedule=Step(0.5, 1))
    built = optimiser.build(nn.Linear(1, 1))
    optimiser.set_rate(built, 0.0, 2)
    assert {group["lr"] for group in built.param_groups} == {0.25}


@pytest.mark.parametrize(("of_normalisation", "pulled"), [(False, {"0.weight"}), (True, {"0.weight", "1.weight"})])
def test_l2_pulls_at_weights_not_at_biases_and_at_normalisation_where_asked_for(
    of_normalisation: bool, pulled: set[str]
) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    built = Optimiser("sgd", 1.0, l2=0.1, l2_of_normalisation=of_normalisation).build(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    built.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == pulled  # the normalisation's offset starts at 0, where L2 has no gradient
