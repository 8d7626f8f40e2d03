import uuid
from dataclasses import replace

import pytest

from rheostat.data.errors import BundleError, DatasetError, RegistryError
from rheostat.training.promote import promote, rollback
from rheostat.training.registry import FORCED_TAG, REASON_TAG, VERDICT_TAG, Registry, Training
from tests.training.make import bundle, table


@pytest.fixture
def registry(tracking) -> Registry:
    return Registry(tracking.uri, model=f"router-{uuid.uuid4().hex}")


@pytest.fixture
def register(registry, tmp_path):
    """Logs and registers a bundle with a test table; gives the version's number."""

    def add(*, knows, test=None) -> int:
        folder = tmp_path / uuid.uuid4().hex
        made = bundle(folder / "made", knows=knows).save(folder / "bundle")
        path = folder / "table.npz"
        (test or table()).save(path)
        return registry.register(registry.log_training(Training(bundle_folder=made, evaluation={}, test_table=path))).version

    return add


def champion(registry):
    current = registry.champion()
    return None if current is None else current.version


def test_the_first_version_that_beats_the_best_fixed_action_becomes_champion(registry, register):
    number = register(knows=True)
    verdict = promote(registry, prices={})
    assert (verdict.promoted, verdict.champion, champion(registry)) == (True, number, number)
    assert "first champion" in verdict.reason
    assert registry.version(number).tags[REASON_TAG] == verdict.reason


def test_a_version_without_gain_is_refused_and_the_reason_is_written(registry, register):
    number = register(knows=False)
    verdict = promote(registry, number, prices={})
    assert (verdict.promoted, verdict.champion, champion(registry)) == (False, None, None)
    assert "not shown to be more useful than the best fixed action" in verdict.reason
    assert registry.version(number).tags[VERDICT_TAG] == "refused"
    assert registry.version(number).tags[REASON_TAG] == verdict.reason


def test_an_equal_challenger_does_not_replace_the_champion(registry, register):
    first, second = register(knows=True), register(knows=True)
    promote(registry, first, prices={})
    verdict = promote(registry, second, prices={})
    assert (verdict.promoted, verdict.champion) == (False, first)
    assert "not shown to be more useful than the champion" in verdict.reason


def test_a_better_challenger_replaces_the_champion_and_rollback_brings_it_back(registry, register):
    first, second = register(knows=False), register(knows=True)
    forced = promote(registry, first, prices={}, force=True)
    assert (forced.promoted, forced.forced, registry.version(first).tags[FORCED_TAG]) == (True, True, "true")
    assert promote(registry, prices={}).promoted
    assert champion(registry) == second
    assert rollback(registry).version == first
    assert champion(registry) == first


def test_promoting_the_champion_changes_nothing(registry, register):
    number = register(knows=True)
    promote(registry, prices={})
    verdict = promote(registry, number, prices={})
    assert (verdict.promoted, verdict.reason) == (False, f"Version {number} is the champion already.")


def test_bundles_that_cannot_be_compared_need_force(registry, register):
    promote(registry, register(knows=True), prices={})
    other = register(knows=True, test=replace(table(), actions=("m/direct@16", "m/cot@512")))
    with pytest.raises(DatasetError, match="m/cot@256"):
        promote(registry, other, prices={})
    verdict = promote(registry, other, prices={}, force=True)
    assert verdict.promoted
    assert "could not be compared" in verdict.reason


def test_a_broken_bundle_is_never_promoted_even_by_force(registry, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    table().save(tmp_path / "t.npz")
    training = Training(bundle_folder=tmp_path / "bundle", evaluation={}, test_table=tmp_path / "t.npz")
    registry.register(registry.log_training(training))
    for force in (False, True):
        with pytest.raises(BundleError):
            promote(registry, prices={}, force=force)
    assert champion(registry) is None


@pytest.mark.parametrize(("knows", "promoted"), [(True, True), (False, False)])
def test_a_champion_that_cannot_be_read_any_more_has_no_say(registry, register, tmp_path, knows, promoted):
    old = unreadable(registry, tmp_path)
    verdict = promote(registry, register(knows=knows), prices={})
    assert verdict.promoted is promoted
    assert champion(registry) == (verdict.challenger if promoted else old)
    assert "The champion until now cannot be read" in verdict.reason
    assert ("no say" in verdict.reason) is promoted


def unreadable(registry, tmp_path) -> int:
    """A champion in files that no version reads."""
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    table().save(tmp_path / "old.npz")
    training = Training(bundle_folder=folder, evaluation={}, test_table=tmp_path / "old.npz")
    number = registry.register(registry.log_training(training)).version
    registry.set_champion(number, "of old")
    return number


def test_without_versions_the_error_says_to_train(registry):
    with pytest.raises(RegistryError, match="rheostat train"):
        promote(registry, prices={})


def test_a_version_that_was_rolled_back_is_promoted_again_only_by_name(registry, register):
    first, second = register(knows=False), register(knows=True)
    promote(registry, first, prices={}, force=True)
    promote(registry, prices={})
    rollback(registry, "answers in French")
    with pytest.raises(RegistryError, match=f"version {second}, the newest, was rolled back .answers in French."):
        promote(registry, prices={})
    assert champion(registry) == first
    assert promote(registry, second, prices={}).promoted
    assert registry.version(second).rolled_back is None


def test_a_damaged_test_table_is_a_sentence_and_no_bar_to_force(registry, tmp_path):
    made = bundle(tmp_path / "made", knows=True).save(tmp_path / "bundle")
    table().save(tmp_path / "table.npz")
    whole = (tmp_path / "table.npz").read_bytes()
    (tmp_path / "table.npz").write_bytes(whole[: len(whole) // 2])
    registry.register(registry.log_training(Training(bundle_folder=made, evaluation={}, test_table=tmp_path / "table.npz")))
    with pytest.raises(DatasetError, match="no outcome table"):
        promote(registry, prices={})
    assert promote(registry, prices={}, force=True).promoted
