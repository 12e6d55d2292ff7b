from tests.training.experiments.papers.finding import experiment
from training.experiments.papers.saood import SETTINGS
from training.fit.recipe import Recipe


def recipe(name: str) -> Recipe:
    return experiment(name).recipe


def test_five_folds_take_the_settings_that_the_paper_chose() -> None:
    chosen = {
        name: (recipe(name).optimiser.rate, recipe(name).batch_size)
        for name in ("saood-segnet-binary", "saood-unet-binary", "saood-segnet-multi", "saood-unet-multi")
    }
    assert chosen == {
        "saood-segnet-binary": (1e-3, 4),
        "saood-unet-binary": (5e-4, 2),
        "saood-segnet-multi": (3e-3, 4),
        "saood-unet-multi": (5e-4, 2),
    }


def test_there_are_nine_settings_of_each_network() -> None:
    assert SETTINGS["segnet"][3] == (1e-3, 4)
    assert SETTINGS["unet"][8] == (1e-3, 12)
    assert all(
        recipe(f"saood-{net}-{task}-setting-9").epochs == 160 for net in SETTINGS for task in ("binary", "multi")
    )


def test_the_network_of_the_papers_text_trains_as_the_published_one_does() -> None:
    for task in ("binary", "multi"):
        assert recipe(f"saood-segnet-vgg16-{task}") == recipe(f"saood-segnet-{task}")


def test_both_specificities_of_segnet_stand_where_the_paper_contradicts_itself() -> None:
    figures = experiment("saood-segnet-binary-setting-4").published
    specificity = {f.place: f.mean for f in figures if f.measure == "infected_tissue/specificity"}
    assert specificity == {"table 4": 0.9542, 'text, "Binary classification problem"': 0.945}
