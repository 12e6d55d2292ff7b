"""The numbers that the papers name, as their texts have them."""

from tests.training.experiments.papers.finding import experiment
from training.fit.schedules import Optimiser, Step
from training.prepare.augment import Augmentation
from training.prepare.examples import Stacking


def test_wus_three_slices_move_by_one_in_a_window_of_1200_to_600() -> None:
    wu = experiment("wu-infection-unet-2.5d")
    assert wu.stacking == Stacking(3, 2 / 3)
    assert (wu.preprocess.window_hu, wu.preprocess.size) == ((-1200, 600), (512, 512))


def test_shivdeos_networks_learn_by_dice_alone_with_adam_from_1e_3() -> None:
    for name in ("shivdeo-2d", "shivdeo-3d-206m"):
        shivdeo = experiment(name)
        assert (shivdeo.recipe.loss, shivdeo.threshold) == ("dice", 0.2)
        assert shivdeo.recipe.optimiser == Optimiser("adam", 1e-3, schedule=Step(1 / 3, 5))
        assert shivdeo.preprocess.size == (512, 512)
    assert experiment("shivdeo-3d-206m").stacking.slices == 32


def test_saoods_networks_learn_for_160_epochs_as_the_published_script_says() -> None:
    for name, rate in (("saood-segnet-binary", 1e-3), ("saood-unet-binary", 5e-4)):
        recipe = experiment(name).recipe
        assert (recipe.epochs, recipe.class_weights) == (160, "median_frequency")
        assert recipe.optimiser == Optimiser("adam", rate, l2=1e-4, l2_of_normalisation=True, schedule=Step(0.95, 12))
        assert recipe.augmentation == Augmentation(flip_rows=0.5, shear_degrees=10)
        assert experiment(name).preprocess.size == (256, 256)


def test_saoods_networks_are_judged_at_their_best_epoch_and_at_the_last_as_the_published_script_does() -> None:
    unet = experiment("saood-unet-binary")
    assert unet.recipe.keep == "best"
    dice = {figure.measure: figure.mean for figure in unet.published if "dice" in figure.measure}
    assert dice == {"infected_tissue/dice_global": 0.643, "last_epoch/infected_tissue/dice_global": 0.643}


def test_alalwans_network_learns_in_two_phases_with_sgd_of_little_momentum() -> None:
    alalwan = experiment("alalwan-separable")
    recipe = alalwan.recipe
    assert recipe.optimiser == Optimiser("sgd", 0.01, momentum=0.5, schedule=Step(0.5, 10))
    assert (recipe.phases, recipe.epochs, recipe.steps_per_epoch) == ((100,), 1000, 10)
    assert (recipe.loss, recipe.class_weights) == ("cross_entropy", (0.2, 1.2, 2.2))
    assert recipe.augmentation == Augmentation(flip_rows=0.5, flip_columns=0.5, scale=(0.8, 1.2))
    assert (alalwan.preprocess.size, alalwan.stacking.slices) == ((224, 224), 12)
