"""What independent implementations say of the series that our forecast is tested on: writes reference.json beside it.

    pip install statsmodels==0.14.4 scipy==1.15.3 numpy==2.2.6 pandas==2.2.3
    python3 scheduler/forecast/reference.py && npx prettier --write scheduler/forecast/reference.json

The tests read the committed file alone. Weights and beginnings are given, not fitted, wherever the same arithmetic is compared;
`fitted` is what statsmodels makes of a whole series by itself (maximum likelihood).
"""

import json
import pathlib

import numpy as np
import scipy
import statsmodels
from scipy.stats import nbinom, poisson
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from statsmodels.tsa.holtwinters import SimpleExpSmoothing
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

HERE = pathlib.Path(__file__).parent
DAY, WEEK = 24, 168
DAMPING = 0.98


def main():
    seasonal = hourly("seasonal")
    bursty = hourly("bursty")
    reference = {
        "made by": {"statsmodels": statsmodels.__version__, "scipy": scipy.__version__, "numpy": np.__version__},
        "seasonal": {"counts": seasonal.tolist()},
        "bursty": {"counts": bursty.tolist()},
        "oneSeason": one_season(seasonal[: 14 * DAY]),
        "twoSeasons": two_seasons(seasonal[: 21 * DAY], carry=0),
        "twoSeasonsCarried": two_seasons(seasonal[: 21 * DAY], carry=0.3),
        "intermittent": intermittent(bursty[: 28 * DAY]),
        "quantiles": quantiles(),
        "fitted": [fitted(seasonal, period) for period in (DAY, WEEK)],
    }
    (HERE / "reference.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")


def hourly(name):
    """Orders by the hour, from a trace: three lines about it, then the seconds of each day."""
    days = (HERE / f"../../lab/traces/{name}.trace").read_text().rstrip("\n").split("\n")[3:]
    hours = [np.bincount([int(at) // 3600 for at in day.split()], minlength=DAY) for day in days]
    return np.concatenate(hours).astype(int)


def one_season(counts):
    """ETS(A,Ad,A): statsmodels' exponential smoothing."""
    weights = {"level": 0.1, "trend": 0.05, "daily": 0.2, "weekly": 0, "carry": 0}
    start = {"level": 4.0, "trend": 0.02, "daily": wave(DAY, 2.5), "weekly": []}
    model = ETSModel(
        counts.astype(float),
        error="add",
        trend="add",
        damped_trend=True,
        seasonal="add",
        seasonal_periods=DAY,
        initialization_method="known",
        initial_level=start["level"],
        initial_trend=start["trend"],
        initial_seasonal=start["daily"],
    )
    params = {
        "smoothing_level": weights["level"],
        "smoothing_trend": weights["level"] * weights["trend"],
        "smoothing_seasonal": weights["daily"],
        "damping_trend": DAMPING,
        "initial_level": start["level"],
        "initial_trend": start["trend"],
        **{f"initial_seasonal.{at}": value for at, value in enumerate(start["daily"])},
    }
    result = model.smooth([params[name] for name in model.param_names])
    return {
        "weights": weights,
        "start": start,
        "buckets": len(counts),
        "expected": result.fittedvalues.tolist(),
        "ahead": result.forecast(48).tolist(),
    }


def two_seasons(counts, carry):
    """The whole method as a linear state space with one source of error, through statsmodels' Kalman filter: the state is level,
    trend, last error, seasons from the next bucket's on; the innovation of the bucket itself is a state, too, so that it may
    move all the others. Errors that are carried over move this state space once more when it looks several buckets ahead, as
    Taylor's own formula does not: then the next bucket alone is compared."""
    weights = {"level": 0.08, "trend": 0.1, "daily": 0.15, "weekly": 0.25, "carry": carry}
    start = {"level": 4.5, "trend": -0.03, "daily": wave(DAY, 3.0), "weekly": wave(WEEK, 1.5)}
    level, trend, error, daily, weekly, new = 0, 1, 2, 3, 3 + DAY, 3 + DAY + WEEK
    states = new + 1
    expected = np.zeros(states)
    expected[[level, trend, error, daily, weekly]] = 1, DAMPING, weights["carry"], 1, 1
    gain = np.zeros(states)
    gain[level], gain[trend], gain[error] = weights["level"], weights["level"] * weights["trend"], 1
    gain[daily + DAY - 1], gain[weekly + WEEK - 1] = weights["daily"], weights["weekly"]
    moved = np.zeros((states, states))
    moved[level, [level, trend]] = 1, DAMPING
    moved[trend, trend] = DAMPING
    for first, length in ((daily, DAY), (weekly, WEEK)):
        moved[first + np.arange(length - 1), first + 1 + np.arange(length - 1)] = 1
        moved[first + length - 1, first] = 1
    # The whole error is what the last one carries over and the innovation.
    moved[:, error] += weights["carry"] * gain
    moved[:, new] += gain
    moved[new, :] = 0

    kalman = KalmanFilter(k_endog=1, k_states=states, k_posdef=1)
    design = expected.copy()
    design[new] = 1
    selection = np.zeros((states, 1))
    selection[new] = 1
    kalman["design"], kalman["transition"], kalman["selection"] = design[None, :], moved, selection
    kalman["state_cov"] = np.eye(1)
    first = np.zeros(states)
    first[[level, trend]] = start["level"], start["trend"]
    first[daily : daily + DAY], first[weekly : weekly + WEEK] = start["daily"], start["weekly"]
    uncertain = np.zeros((states, states))
    uncertain[new, new] = 1
    kalman.initialize_known(first, uncertain)
    kalman.bind(counts.astype(float))
    result = kalman.filter()
    return {
        "weights": weights,
        "start": start,
        "buckets": len(counts),
        "expected": result.forecasts[0].tolist(),
        "ahead": result.predict(len(counts), len(counts) + (1 if carry else 2 * WEEK)).forecasts[0].tolist(),
    }


def intermittent(counts):
    """Croston and TSB are simple exponential smoothing of parts of the series: sizes, intervals, occurrences."""
    weights = {"size": 0.15, "frequency": 0.05}
    start = {"size": 3.0, "probability": 0.4}
    demanded = np.flatnonzero(counts)
    sizes = smoothed(counts[demanded], weights["size"], start["size"])
    intervals = smoothed(np.diff(demanded, prepend=-1), weights["frequency"], 1 / start["probability"])
    probability = smoothed(counts > 0, weights["frequency"], start["probability"])
    return {
        "weights": weights,
        "start": start,
        "buckets": len(counts),
        "croston": (1 - weights["frequency"] / 2) * sizes / intervals,
        "tsb": sizes * probability,
    }


def smoothed(values, weight, start):
    model = SimpleExpSmoothing(np.asarray(values, float), initialization_method="known", initial_level=start)
    return float(model.fit(smoothing_level=weight, optimized=False).forecast(1)[0])


def quantiles():
    """Of the negative binomial with this mean, and a variance that is `dispersion` times as much; Poisson where that is 1."""
    table = []
    for mean in (0.01, 0.3, 1, 2.7, 12, 150, 2000):
        for dispersion in (1, 1.05, 2, 14.3, 80):
            p = 1 / dispersion
            known = poisson(mean) if dispersion == 1 else nbinom(mean * p / (1 - p), p)
            for level in (0.05, 0.45, 0.9, 0.99, 0.999, 0.99999):
                table.append([mean, dispersion, level, int(known.ppf(level))])
    return table


def fitted(counts, period, unseen=14 * DAY):
    """Fitted to all but the last two weeks, then asked for each of their hours with all before it known."""
    model = {"error": "add", "trend": "add", "damped_trend": True, "seasonal": "add", "seasonal_periods": period}
    values = counts.astype(float)
    fit = ETSModel(values[:-unseen], initialization_method="heuristic", **model).fit(disp=False, maxiter=200)
    first = {name: getattr(fit, name) for name in ("initial_level", "initial_trend", "initial_seasonal")}
    expected = ETSModel(values, initialization_method="known", **first, **model).smooth(fit.params).fittedvalues[-unseen:]
    return {"period": period, "unseen": unseen, "squared": float(np.mean((values[-unseen:] - expected) ** 2))}


def wave(length, height):
    return [round(height * float(np.sin(2 * np.pi * at / length)), 6) for at in range(length)]


main()
