import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import ndtri

from speakerguard.errors import UsageError
from speakerguard.evaluation import plots
from speakerguard.evaluation.metrics import det_curve, error_rates


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures saved during a test, still whole."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, path: str | Path, **options: object) -> None:
        figures.append(figure)
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def legend_of(axes: Axes) -> str:
    return "\n".join(axes.get_legend_handles_labels()[1])


def points(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.column_stack(line.get_data())]


def test_det_lies_where_the_rates_say(tmp_path: Path, drawn: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    curve = det_curve(rng.normal(2, 1, 500), rng.normal(0, 1, 500))
    plots.plot_det({"guard": curve}, tmp_path / "det.png")
    assert is_png(tmp_path / "det.png")
    (axes,) = drawn[0].axes
    diagonal, line, dot = axes.get_lines()
    inside = (curve.p_fa > 0) & (curve.p_miss > 0)
    assert np.allclose(line.get_xdata(), ndtri(curve.p_fa[inside]))
    assert np.allclose(line.get_ydata(), ndtri(curve.p_miss[inside]))
    assert np.isfinite(points(diagonal)).all()
    eer = curve.eer()
    assert points(dot) == [(ndtri(eer.p_fa), ndtri(eer.p_miss))]
    assert f"guard, EER {100 * eer.rate:.2f} %" in legend_of(axes)
    assert "(%)" in axes.get_xlabel()
    assert "(%)" in axes.get_ylabel()
    assert [label.get_text() for label in axes.get_xticklabels()][:3] == ["0.1", "0.2", "0.5"]


def test_det_shows_an_eer_however_low_and_survives_perfection(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    targets, nontargets = np.arange(10_000), np.arange(-10_000, 0)
    low = det_curve(np.append(targets, -0.5), np.append(nontargets, 0.5))
    plots.plot_det({"low": low, "perfect": det_curve([1], [0])}, tmp_path / "det.png")
    (axes,) = drawn[0].axes
    assert axes.get_xlim()[0] < ndtri(low.eer().rate)
    assert "perfect, EER 0.00 %" in legend_of(axes)


def test_histogram_says_what_a_threshold_costs(tmp_path: Path, drawn: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    targets, nontargets = rng.normal(0.7, 0.1, 1000), rng.normal(0.2, 0.1, 3000)
    plots.plot_scores(targets, nontargets, tmp_path / "scores.png", {"fa-1%": 0.43})
    assert is_png(tmp_path / "scores.png")
    (axes,) = drawn[0].axes
    p_miss, p_fa = error_rates(targets, nontargets, 0.43)
    legend = legend_of(axes)
    assert "fa-1%: 0.430" in legend
    assert f"misses {100 * p_miss:.2f} %, false accepts {100 * p_fa:.2f} %" in legend
    assert "3,000 trials" in legend
    (mark,) = axes.get_lines()
    assert [x for x, _ in points(mark)] == [0.43, 0.43]


def test_history_has_a_panel_for_each_number(tmp_path: Path, drawn: list[Figure]) -> None:
    records: list[dict[str, object]] = [
        {"step": 0, "loss": 5.0, "lr": 1e-3},
        {"step": 10, "loss": 3.0, "lr": 1e-4, "eer": 0.25},
        {"step": 20, "loss": float("nan"), "lr": 1e-5, "eer": None},
    ]
    plots.plot_history(records, tmp_path / "history.png")
    assert is_png(tmp_path / "history.png")
    loss, lr, eer = drawn[0].axes
    assert [axes.get_ylabel() for axes in (loss, lr, eer)] == ["loss", "learning rate", "EER (%)"]
    assert points(loss.get_lines()[0]) == [(0, 5), (10, 3)]
    assert points(eer.get_lines()[0]) == [(10, 25)]
    assert lr.get_yscale() == "log"
    assert eer.get_xlabel() == "Step"


def test_all_error_rates_of_a_run_have_one_unit(tmp_path: Path, drawn: list[Figure]) -> None:
    figures = {"eer": 0.035, "eer_mean": 0.0242, "eer_2s": 0.05, "eer_2s_mean": 0.04}
    plots.plot_history([{"step": 1, **figures}], tmp_path / "history.png", figures)
    names = ["EER (%)", "EER mean (%)", "EER 2 s (%)", "EER 2 s mean (%)"]
    assert [axes.get_ylabel() for axes in drawn[0].axes] == names
    shown = [points(axes.get_lines()[0])[0][1] for axes in drawn[0].axes]
    assert shown == pytest.approx([3.5, 2.42, 5, 4])


def test_nothing_to_draw_and_nowhere_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no curve"):
        plots.plot_det({}, tmp_path / "x.png")
    with pytest.raises(UsageError, match="no record"):
        plots.plot_history([{"step": 1, "loss": None}], tmp_path / "x.png")
    with pytest.raises(UsageError, match="no target scores"):
        plots.plot_scores([], [0.1], tmp_path / "x.png")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.png", tmp_path / "x.mp3"):
        with pytest.raises(UsageError, match="cannot be written"):
            plots.plot_scores([0.9], [0.1], path)


def test_matplotlib_loads_only_to_draw_and_never_pyplot(tmp_path: Path) -> None:
    code = f"""
import sys
from speakerguard.evaluation.plots import plot_history
assert "matplotlib" not in sys.modules
plot_history([{{"step": 1, "loss": 2.0}}], {str(tmp_path / "x.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
