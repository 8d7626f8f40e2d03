"""How `rheostat train` and `report` tell of a training."""

from __future__ import annotations

import msgspec

from rheostat.commands.train import _tell_unpriced, show_evaluation
from rheostat.data.ledger import Price
from rheostat.data.schema import Action
from tests.training.fitting import fitted


def test_targets_that_are_met_in_the_same_way_are_one_row(capsys):
    evaluation = fitted().evaluation
    one = evaluation.targets[0]
    alike = [msgspec.structs.replace(one, target=target, feasible=True) for target in (0.3, 0.35, 0.4)]
    other = msgspec.structs.replace(one, target=0.45, feasible=True, cost_usd=2 * one.cost_usd, multiplier_usd=1.0)

    show_evaluation(msgspec.structs.replace(evaluation, targets=[*alike, other]))

    shown = capsys.readouterr().out
    assert "router, targets 0.30 to 0.40" in shown
    assert "router, target 0.45" in shown
    assert "target 0.35" not in shown


def test_the_verdict_is_said_once_and_the_best_fixed_action_is_marked_with_where_it_was_chosen(capsys):
    evaluation = fitted().evaluation

    show_evaluation(evaluation)

    shown = " ".join(capsys.readouterr().out.split())
    assert shown.lower().count(f"{evaluation.verdict}:") == 1
    assert f"{evaluation.best_fixed} (best fixed)" in shown
    assert f"chosen on {evaluation.n_calibration} other queries" in shown


def test_models_without_a_price_are_told(capsys, tmp_path):
    evaluation = fitted().evaluation
    models = sorted({Action.parse(action).model for action in evaluation.actions})
    _tell_unpriced(evaluation, {models[0]: Price()}, tmp_path)
    assert f"has {', '.join(models[1:])}: taken at 1 USD per million" in capsys.readouterr().err
    _tell_unpriced(evaluation, dict.fromkeys(models, Price()), tmp_path)
    assert capsys.readouterr().err == ""
