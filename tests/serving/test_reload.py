import asyncio
import shutil
from dataclasses import replace
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest

from rheostat.data.errors import BundleError, RegistryError
from rheostat.data.schema import Query
from rheostat.router.ask import Ask
from rheostat.router.bundle import Bundle, NotCheckedError
from rheostat.router.controller import Controller
from rheostat.router.fallback import FallbackController
from rheostat.router.predictor import Boosted
from rheostat.serving.config import TIERS, BackendConfig, Config, checked
from rheostat.serving.decider import Decider
from rheostat.serving.fallback import fallback_actions
from rheostat.serving.metrics import Metrics
from rheostat.serving.registry import MlflowSource, _inside
from rheostat.serving.reload import Cache, FolderSource, Watcher
from tests.serving.bundles import DIMENSION, write_bundle
from tests.serving.conftest import wait_until


class Shelf:
    """A source that serves folders by version, and fails on demand."""

    def __init__(self, **folders):
        self.folders = folders
        self.version = None
        self.fetched = []

    async def latest(self):
        if self.version == "away":
            raise RegistryError("the shelf is away")
        if self.version == "odd":
            raise ZeroDivisionError
        return self.version

    async def fetch(self, version, folder):
        self.fetched.append(version)
        source = FolderSource(self.folders[version])
        await source.fetch(await source.latest(), folder)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {name: write_bundle(folder / name, version=name) for name in ("one", "two", "bad")}


@pytest.fixture
def made(tmp_path, bundles):
    (tmp_path / "bad").mkdir()
    broken = tmp_path / "bad" / "bundle"
    shutil.copytree(bundles["bad"], broken)
    (broken / "arrays.npz").write_bytes(b"x" * (broken / "arrays.npz").stat().st_size)
    shelf = Shelf(one=bundles["one"], two=bundles["two"], bad=broken)
    return shelf, lambda: watch(shelf, tmp_path / "cache")


def with_trees(bundle):
    """The bundle with LightGBM in the place of its learner."""
    wide, action_features = bundle.canary.shape[1], np.eye(len(bundle.actions))
    rows = np.random.default_rng(0).random((40, 2 + wide - DIMENSION + len(action_features)))
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(rows, rows[:, 0] > 0.5), 2)
    learner = Boosted(booster.model_to_string(), np.eye(DIMENSION)[:, :2], action_features)
    predictor = replace(bundle.predictor, learners=(learner,))
    return replace(bundle, version="trees", predictor=predictor, canary_p=predictor.p_correct(bundle.canary))


def watch(source, folder, on_bundle=lambda bundle: None):
    config = checked(Config(backend=(BackendConfig(name="a", url="http://127.0.0.1:1", model="pocket"),), tier=TIERS))
    metrics = Metrics()
    decider = Decider(FallbackController(fallback_actions(config)), metrics=metrics)
    watcher = Watcher(
        source,
        cache=Cache(folder),
        decider=decider,
        make_controller=lambda bundle: on_bundle(bundle) or Controller(bundle, prices=config.prices),
        metrics=metrics,
        poll_s=0.01,
    )
    return watcher, decider


def failed(watcher) -> float:
    return watcher._metrics.registry.get_sample_value("rheostat_bundle_reloads_total", {"result": "failed"}) or 0.0


async def test_a_new_version_is_checked_and_swapped_once(made):
    shelf, start = made
    watcher, decider = start()
    await watcher.start()
    assert decider.version == "none"
    for version in ("one", "two"):
        shelf.version = version
        assert await watcher.check()
        assert await watcher.check()
        assert decider.version == version == watcher.status.version
    assert shelf.fetched == ["one", "two"]


async def test_trees_are_parsed_before_a_bundle_is_swapped_in_and_not_by_the_first_request(tmp_path, bundles):
    folder = with_trees(Bundle.load(bundles["one"])).save(tmp_path / "trees")
    shelf, swapped = Shelf(trees=folder), []
    shelf.version = "trees"
    watcher, decider = watch(shelf, tmp_path / "cache", on_bundle=swapped.append)
    assert await watcher.check()
    assert decider.version == "trees"
    assert "masks" in vars(swapped[0].predictor.learners[0])


async def test_a_broken_bundle_is_refused_once_and_the_old_one_stays(made):
    shelf, start = made
    watcher, decider = start()
    for version in ("one", "bad", "bad"):
        shelf.version = version
        await watcher.check()
    assert decider.version == "one"
    assert (watcher.status.version, watcher.status.failures) == ("one", 1)
    assert "bad/arrays.npz" in watcher.status.error
    assert ".fetch" not in watcher.status.error
    assert shelf.fetched == ["one", "bad"]
    shelf.version = "two"
    assert await watcher.check()
    assert watcher.status.error is None
    shelf.version = "bad"
    await watcher.check()
    assert "arrays.npz" in watcher.status.error
    assert shelf.fetched == ["one", "bad", "two"]


async def test_a_bundle_that_could_not_be_checked_is_tried_again(made, monkeypatch):
    shelf, start = made
    watcher, decider = start()
    shelf.version = "one"

    def late(folder):
        raise NotCheckedError("was not checked within 60 s")

    with monkeypatch.context() as patched:
        patched.setattr("rheostat.serving.reload.check_in_child", late)
        assert not await watcher.check()
    assert (decider.version, watcher.status.error) == ("none", "was not checked within 60 s")
    assert await watcher.check()
    assert (decider.version, watcher.status.error) == ("one", None)


async def test_a_bundle_that_cannot_be_checked_is_tried_ever_more_rarely(made, monkeypatch):
    shelf, start = made
    watcher, decider = start()
    shelf.version = "one"

    def killed(folder):
        raise NotCheckedError("its child process was killed")

    with monkeypatch.context() as patched:
        patched.setattr("rheostat.serving.reload.check_in_child", killed)
        tries = [0]
        for _ in range(20):
            assert not await watcher.check()
            tries.append(len(shelf.fetched))
        assert list(np.flatnonzero(np.diff(tries))) == [0, 1, 3, 7, 15]
        assert watcher.status.error == "its child process was killed"
    shelf.version = "two"
    assert await watcher.check()
    assert (decider.version, watcher.status.error) == ("two", None)


async def test_a_champion_that_is_not_there_yet_is_told_and_is_no_failure(tmp_path, bundles):
    champion = tmp_path / "champion"
    watcher, _ = watch(FolderSource(champion), tmp_path / "cache")
    await watcher.start()
    assert (watcher.status.failures, failed(watcher)) == (0, 0)
    assert "fit one with `rheostat train`" in watcher.status.error
    shutil.copytree(bundles["one"], champion)
    assert await watcher.check()
    assert watcher.status.error is None
    shutil.rmtree(champion)
    assert not await watcher.check()
    assert (watcher.status.failures, failed(watcher)) == (1, 1)


async def test_a_controller_that_is_outdated_when_it_is_ready_is_not_up_to_date(made):
    shelf, _ = made
    shelf.version = "one"
    seen = []

    def on_bundle(bundle):
        seen.append(bundle.version)
        if len(seen) == 2:
            watcher.remake()

    watcher, _ = watch(shelf, shelf.folders["bad"].parent / "cache", on_bundle=on_bundle)
    assert await watcher.check()
    watcher.remake()
    assert not await watcher.check()
    assert await watcher.check()
    assert len(seen) == 3


async def test_a_controller_is_made_anew_when_it_is_asked_for_also_while_another_is_being_made(made):
    shelf, _ = made
    shelf.version = "one"
    seen = []

    def on_bundle(bundle):
        seen.append(bundle.version)
        if len(seen) == 1:
            watcher.remake()  # the configuration changes at the worst of times

    watcher, decider = watch(shelf, shelf.folders["bad"].parent / "cache", on_bundle=on_bundle)
    watcher.remake()  # with no bundle yet there is nothing to do
    assert await watcher.check()
    assert await watcher.check()
    assert (seen, decider.version) == (["one", "one"], "one")


async def test_a_controller_that_cannot_be_made_anew_stays_and_is_told(made):
    shelf, _ = made
    shelf.version = "one"
    seen = []

    def on_bundle(bundle):
        seen.append(bundle.version)
        if len(seen) == 2:
            raise BundleError("an action asks for what is not here")

    watcher, decider = watch(shelf, shelf.folders["bad"].parent / "cache", on_bundle=on_bundle)
    await watcher.check()
    watcher.remake()
    assert not await watcher.check()
    assert (decider.version, watcher.status.error) == ("one", "an action asks for what is not here")
    assert await watcher.check()
    assert watcher.status.error is None


async def test_a_controller_that_is_asked_for_is_made_at_once_and_not_at_the_next_look(made):
    shelf, start = made
    shelf.version = "one"
    watcher, decider = start()
    watcher._poll_s = 3600.0
    await watcher.check()
    first = decider._current.controller
    looking = asyncio.create_task(watcher.run())
    await asyncio.sleep(0)
    watcher.remake()
    await asyncio.to_thread(wait_until, lambda: decider._current.controller is not first)
    looking.cancel()


async def test_a_bundle_that_does_not_fit_a_changed_configuration_makes_way_for_the_next(made):
    shelf, _ = made
    shelf.version = "one"
    is_changed = False

    def on_bundle(bundle):
        if is_changed and bundle.version == "one":
            raise BundleError("an action asks for what is not here")

    watcher, decider = watch(shelf, shelf.folders["bad"].parent / "cache", on_bundle=on_bundle)
    assert await watcher.check()
    is_changed = True
    watcher.remake()
    assert not await watcher.check()
    shelf.version = "two"
    assert await watcher.check()
    assert (decider.version, watcher.status.error) == ("two", None)


@pytest.mark.parametrize("how", ["away", "odd"])
async def test_a_source_that_is_away_leaves_the_last_good_bundle_also_after_a_restart(made, how):
    shelf, start = made
    shelf.version = "two"
    watcher, _ = start()
    await watcher.start()
    shelf.version = how
    restarted, decider = start()
    await restarted.start()
    assert decider.version == "two"
    assert restarted.status.failures == 1
    await restarted.check()
    assert decider.version == "two"


async def test_a_kept_bundle_that_was_changed_on_disk_is_not_served(made, tmp_path):
    shelf, start = made
    shelf.version = "two"
    await start()[0].start()
    (tmp_path / "cache" / "two" / "bundle.json").write_text("{}")
    shelf.version = "away"
    watcher, decider = start()
    await watcher.start()
    assert decider.version == "none"
    assert "cannot be served" in watcher.status.error


async def test_a_kept_bundle_that_breaks_in_any_way_does_not_keep_the_sidecar_from_starting(made, monkeypatch):
    shelf, start = made
    shelf.version = "two"
    await start()[0].start()
    shelf.version = "away"
    watcher, decider = start()
    monkeypatch.setattr(watcher, "_load", lambda folder: 1 / 0)
    await watcher.start()
    assert decider.version == "none"
    assert "cannot be served: division by zero" in watcher.status.error


async def test_only_a_few_versions_are_kept(made, tmp_path, bundles):
    shelf, start = made
    watcher, _ = start()
    for number in range(6):
        shelf.version = f"v{number}"
        shelf.folders[shelf.version] = bundles["one"]
        assert await watcher.check()
    kept = {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert len(kept) == 3
    assert "v5" in kept


async def test_the_watcher_goes_on_until_it_is_cancelled(made):
    shelf, start = made
    watcher, decider = start()
    running = asyncio.create_task(watcher.run())
    shelf.version = "one"
    await asyncio.to_thread(wait_until, lambda: decider.version == "one")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_folder_without_a_bundle_says_what_to_do(tmp_path):
    with pytest.raises(RegistryError, match="rheostat train"):
        await FolderSource(tmp_path).latest()


async def test_a_copy_torn_by_another_version_refuses_neither(tmp_path, bundles, monkeypatch):
    served, copy = tmp_path / "champion", shutil.copytree
    copy(bundles["one"], served)
    watcher, decider = watch(FolderSource(served), tmp_path / "cache")

    def replaced_half_way(source, target, **options):
        copy(source, target, **options)
        shutil.rmtree(served)
        copy(bundles["two"], served)
        shutil.copy(served / "arrays.npz", target)

    with monkeypatch.context() as patched:
        patched.setattr("rheostat.serving.reload.shutil", SimpleNamespace(**vars(shutil) | {"copytree": replaced_half_way}))
        assert not await watcher.check()
    assert "changed while it was copied" in watcher.status.error
    assert await watcher.check()
    assert decider.version == "two"
    shutil.rmtree(served)
    copy(bundles["one"], served)
    assert await watcher.check()
    assert (decider.version, watcher.status.error) == ("one", None)


async def test_a_registry_that_cannot_be_reached_says_where(unused_tcp_port):
    with pytest.raises(RegistryError, match=f"127.0.0.1:{unused_tcp_port} is out of reach"):
        await MlflowSource(f"http://127.0.0.1:{unused_tcp_port}", model="m", alias="a").latest()


@pytest.mark.parametrize("path", ["bundle/../../x", "/etc/passwd", "bundle", "other/x", "bundle/a\\b", "bundle/\0"])
def test_a_path_that_leads_out_of_the_bundle_is_refused(tmp_path, path):
    with pytest.raises(BundleError):
        _inside(tmp_path, path)


async def test_a_decision_of_a_bundle_meets_the_target_at_the_lowest_cost(bundles):
    controller = Controller(Bundle.load(bundles["one"]), prices={})
    decision = controller.decide(Ask(Query.of_text("what is 2 plus 3?"), models=frozenset({"pocket"})))
    assert decision.bundle == "one"
