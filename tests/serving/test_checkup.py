from rheostat.data.store import OutcomeStore
from rheostat.serving.checkup import check_surroundings
from rheostat.serving.config import parse
from tests.serving.bundles import ACTIONS, write_bundle

BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'


async def examined(folder, more="", store="outcomes.db", router=""):
    config = f'{BACKEND}[store]\npath = "{folder / store}"\n[router]\ncache = "{folder / "cache"}"\n{router}\n{more}'
    return {check.part: check for check in await check_surroundings(parse(config), environ={})}


async def test_an_empty_installation_lacks_nothing_but_a_bundle(tmp_path):
    found = await examined(tmp_path)
    assert {part: check.state for part, check in found.items()} == {"bundle": "off", "store": "ok", "mlflow": "off", "access": "off"}
    assert "train" in found["bundle"].do
    assert list(tmp_path.iterdir()) == []


async def test_a_bundle_is_loaded_and_held_against_the_models_there_are(tmp_path):
    folder = write_bundle(tmp_path / "one" / "bundle", version="one")
    found = await examined(tmp_path, router=f'bundle = "{folder}"')
    assert (found["bundle"].state, found["bundle"].what) == ("ok", "one")
    foreign = {spelling.replace("pocket/", "elsewhere/"): numbers for spelling, numbers in ACTIONS.items()}
    folder = write_bundle(tmp_path / "two" / "bundle", version="two", actions=foreign)
    found = await examined(tmp_path, router=f'bundle = "{folder}"')
    assert found["bundle"].state == "fail"
    assert "no backend for elsewhere" in found["bundle"].found


async def test_a_broken_bundle_says_what_is_wrong(tmp_path):
    folder = write_bundle(tmp_path / "one" / "bundle", version="one")
    (folder / "bundle.json").write_text("{}")
    found = await examined(tmp_path, router=f'bundle = "{folder}"')
    assert found["bundle"].state == "fail"
    assert "bundle.json" in found["bundle"].found


async def test_a_store_in_use_is_read_and_one_that_cannot_be_is_said(tmp_path):
    with_records = OutcomeStore(tmp_path / "outcomes.db")
    found = await examined(tmp_path)
    assert (found["store"].state, found["store"].found.partition(";")[0]) == ("ok", "0 decisions, 0 unfinished")
    with_records.close()
    (tmp_path / "bad.db").write_bytes(b"no database" * 100)
    assert (await examined(tmp_path, store="bad.db"))["store"].state == "fail"


async def test_a_folder_that_takes_no_file_is_a_failure(tmp_path):
    found = await examined(tmp_path, store="/proc/rheostat/outcomes.db")
    assert found["store"].state == "fail"


async def test_a_sidecar_without_keys_is_told_to_be_open_and_one_with_keys_not(tmp_path):
    assert "whoever reaches 127.0.0.1 is served" in (await examined(tmp_path))["access"].found
    found = await examined(tmp_path, more=f'[[key]]\nname = "ann"\nsha256 = "{"0" * 64}"\n')
    assert (found["access"].state, found["access"].found) == ("ok", "1 keys of 1 tenants")


async def test_what_keeps_the_admin_listener_or_the_request_log_from_working_is_found(tmp_path):
    found = await examined(tmp_path, more=f'[admin]\nport = 0\naudit = "{tmp_path}/new/a"\n[log]\nrequests = "{tmp_path}/r"\n')
    assert (found["admin"].state, found["log"].state) == ("ok", "ok")
    found = await examined(tmp_path, more=f'[admin]\nport = 0\ntoken_env = "NOT_SET"\n[log]\nrequests = "{tmp_path}/new/r"\n')
    assert (found["admin"].state, found["log"].state) == ("fail", "fail")
    assert "NOT_SET" in found["admin"].found
    assert (await examined(tmp_path, more='[admin]\nport = 0\naudit = "/proc/new/a"\n'))["admin"].state == "fail"
    assert list(tmp_path.iterdir()) == []


async def test_a_registry_out_of_reach_is_a_failure_with_its_address(tmp_path, unused_tcp_port):
    found = await examined(tmp_path, more=f'[mlflow]\ntracking_uri = "http://127.0.0.1:{unused_tcp_port}"\n')
    assert found["mlflow"].state == "fail"
    assert str(unused_tcp_port) in found["mlflow"].found
