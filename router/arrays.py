"""A predictor as plain arrays, booster texts and a small layout, and back: what makes a bundle free of pickle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from rheostat.router.calibration import Calibrator, ErrorBand, Isotonic, Platt
from rheostat.router.lookup import Clusters, Segments
from rheostat.router.networks import Networks
from rheostat.router.predictor import Boosted, CostHead, Learner, Linear, Predictor

Arrays = dict[str, npt.NDArray[Any]]
BOOSTED = "boosted"
LEARNERS: dict[str, type[Any]] = {"linear": Linear, "clusters": Clusters, "segments": Segments, "networks": Networks}
CALIBRATORS: dict[str, type[Platt] | type[Isotonic]] = {"platt": Platt, "isotonic": Isotonic}


def predictor_arrays(predictor: Predictor) -> tuple[Arrays, dict[str, str], dict[str, Any]]:
    """Arrays by name, booster texts by file name, and the layout that says how they fit together."""
    arrays: Arrays = {}
    texts: dict[str, str] = {}
    kinds = []
    for index, learner in enumerate(predictor.learners):
        if isinstance(learner, Boosted):
            kinds.append(BOOSTED)
            texts[f"booster-{index}.txt"] = learner.text
            arrays |= {f"learner{index}.projection": learner.projection, f"learner{index}.action_features": learner.action_features}
        else:
            kinds.append(next(kind for kind, record in LEARNERS.items() if isinstance(learner, record)))
            arrays |= _fields(f"learner{index}", learner)
    arrays["weights"] = np.asarray(predictor.weights, dtype=np.float64)
    calibrator = "platt" if isinstance(predictor.calibrator, Platt) else "isotonic"
    costs = predictor.costs
    arrays |= _fields("calibrator", predictor.calibrator) | _fields("band", predictor.band)
    arrays |= _fields("log_tokens", costs.log_tokens) | _fields("log_latency", costs.log_latency)
    for name in _COST_VECTORS:
        arrays[f"costs.{name}"] = np.asarray(getattr(costs, name))
    return arrays, texts, {"learners": kinds, "calibrator": calibrator}


def predictor_from(arrays: Arrays, layout: dict[str, Any], read_text: Callable[[str], str]) -> Predictor:
    """The predictor that `predictor_arrays` took apart.

    Raises:
        KeyError: an array is missing or the layout names an unknown kind.
    """
    learners = tuple(_learner(index, kind, arrays, read_text) for index, kind in enumerate(layout["learners"]))
    calibrator: Calibrator = _from_fields(CALIBRATORS[layout["calibrator"]], "calibrator", arrays)
    costs = CostHead(
        log_tokens=_from_fields(Linear, "log_tokens", arrays),
        log_latency=_from_fields(Linear, "log_latency", arrays),
        tokens_factor=arrays["costs.tokens_factor"],
        latency_factor=arrays["costs.latency_factor"],
        latency_p95=arrays["costs.latency_p95"],
        prompt_base=float(arrays["costs.prompt_base"]),
        prompt_per_character=float(arrays["costs.prompt_per_character"]),
    )
    band = _from_fields(ErrorBand, "band", arrays)
    return Predictor(learners, arrays["weights"], calibrator, band, costs)


_COST_VECTORS = ("tokens_factor", "latency_factor", "latency_p95", "prompt_base", "prompt_per_character")


def _learner(index: int, kind: str, arrays: Arrays, read_text: Callable[[str], str]) -> Learner:
    if kind == BOOSTED:
        text = read_text(f"booster-{index}.txt")
        return Boosted(text, arrays[f"learner{index}.projection"], arrays[f"learner{index}.action_features"])
    learner: Learner = _from_fields(LEARNERS[kind], f"learner{index}", arrays)
    return learner


def _fields(prefix: str, record: Any) -> Arrays:
    return {f"{prefix}.{field.name}": getattr(record, field.name) for field in fields(record)}


def _from_fields(kind: Any, prefix: str, arrays: Arrays) -> Any:
    return kind(**{field.name: arrays[f"{prefix}.{field.name}"] for field in fields(kind)})
