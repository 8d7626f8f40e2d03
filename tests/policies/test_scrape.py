import math

from rheostat.policies.scrape import sum_metrics

TEXT = """# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 40.0
vllm:generation_tokens_total{engine="1",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:num_requests_running 3
vllm:odd{label="a } b"} what
python_info 1.0
"""


def test_values_are_added_up_over_engines_and_shares_are_the_largest():
    values = sum_metrics(TEXT)
    assert values["generation_tokens_total"] == 42.0
    assert values["kv_cache_usage_perc"] == 0.5
    assert values["num_requests_running"] == 3.0
    assert "python_info" not in values


def test_a_value_that_is_no_number_is_nan():
    assert math.isnan(sum_metrics(TEXT)["odd"])


def test_garbage_has_no_metrics():
    assert sum_metrics("<html>vllm: hello</html>") == {}
