from tests.training.results import RESULT
from training.summary import describe, plus_minus, rows, summarise


def test_both_figures_of_a_paper_that_contradicts_itself_stand_beside_ours() -> None:
    assert next(rows(RESULT)) == ("lung/dice_per_case", "0.951", "0.921 (text); 0.941 (table 1)")


def test_what_was_not_measured_is_a_dash_or_left_out_where_the_paper_has_none() -> None:
    assert list(rows(RESULT))[1:] == [("never measured", "-", "0.500 ± 0.1 (table 2)")]


def test_large_figures_are_whole_numbers() -> None:
    assert plus_minus(36_270_875, None) == "36,270,875"


def test_the_mark_of_a_changed_tree_stays_on_a_commit_that_is_cut() -> None:
    changed = RESULT | {"source": "0123456789abcdef0123456789abcdef01234567-dirty, 0.1.0"}
    assert "source 0123456789ab-dirty, 0.1.0, seed 0" in describe(changed)


def test_the_page_says_how_far_the_loss_fell() -> None:
    losses = [{"loss_first": 0.5, "loss_last": 0.2}, {"loss_first": 0.4, "loss_last": 0.1}, {}]
    splits = [{"training_seconds": 60.0, **loss} for loss in losses]
    assert "1.0 min of training a split; loss 0.45 to 0.15; " in describe(RESULT | {"splits": splits})


def test_the_page_says_on_which_grid_a_network_was_judged() -> None:
    assert "; judged as a worker reads; 372,486" in describe(RESULT | {"judged": "judged as a worker reads"})
    assert "judged" not in describe(RESULT)


def test_the_page_says_when_pretraining_had_seen_the_patients() -> None:
    assert "; NO MEASURE OF NEW PATIENTS: pretraining had seen those of a, b; " in describe(
        RESULT | {"seen_before": ["a", "b"]}
    )
    assert "NO MEASURE" not in describe(RESULT | {"seen_before": []})


def test_the_page_says_how_many_were_tested() -> None:
    splits = [{"training_seconds": 60.0, "tested": names} for names in (["a", "b"], ["c"])]
    assert "by patient; tested patients: 3; " in describe(RESULT | {"splits": splits, "split_by": "patient"})


def test_scans_that_the_test_left_out_are_not_counted_as_tested() -> None:
    splits = [
        {"training_seconds": 60.0, "tested": ["a", "b"], "measures": {"patients": 1.0}},
        {"training_seconds": 60.0, "tested": ["c"], "measures": {"patients": 1.0}},
    ]
    assert "by patient; tested patients: 2; " in describe(RESULT | {"splits": splits, "split_by": "patient"})


def test_nothing_is_said_of_a_loss_that_nobody_wrote_down() -> None:
    assert "loss" not in describe(RESULT)


def test_a_summary_leaves_out_what_was_undefined_and_says_how_the_rest_came_about() -> None:
    summary = summarise(RESULT)
    assert summary["measures"] == {"lung/dice_per_case": {"mean": 0.9512, "standard_deviation": None}}
    assert summary["description"] == describe(RESULT)
    assert list(rows(summary)) == list(rows(RESULT))


def test_a_single_split_is_told_in_words() -> None:
    assert "; one split, by slice; " in describe(RESULT | {"splits_all": 1})
