from tests.benchmarks.curves import draw_curves


def test_a_curve_goes_from_the_least_to_the_greatest():
    values = {"1200": 3.0, "150": 2.0, "50": 1.0}
    contenders = {name: {"values": [value], "median": value} for name, value in values.items()}
    comparison = {"title": "time", "unit": "s", "along": "slices", "contenders": contenders}
    (curve,) = draw_curves([comparison]).axes[0].lines
    assert list(curve.get_xdata()) == [50, 150, 1200]
    assert list(curve.get_ydata()) == [1.0, 2.0, 3.0]
