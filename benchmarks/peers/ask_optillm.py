"""optillm's approaches on a list of questions; runs in its environment, and knows nothing of rheostat.

Called as functions, since its proxy puts "User:" before a question, which small models do not understand. Standard input:
{"url", "model", "questions", "algorithm", "k", "temperature", "max_tokens", "in_flight"}; standard output: a list of
{"text", "tokens"} with the tokens that optillm reports.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI
from optillm.bon import best_of_n_sampling
from optillm.plugins.majority_voting_plugin import run as majority_voting


def main() -> None:
    """Answer every question of the plan."""
    plan = json.load(sys.stdin)
    client = OpenAI(base_url=plan["url"] + "/v1", api_key="none")
    config = {"k": plan["k"], "temperature": plan["temperature"], "max_tokens": plan["max_tokens"]}

    def one(question: str) -> dict[str, object]:
        if plan["algorithm"] == "best_of_n":
            text, tokens = best_of_n_sampling("", question, client, plan["model"], n=plan["k"], request_config=config)
        else:
            text, tokens = majority_voting("", question, client, plan["model"], request_config=config)
        return {"text": text, "tokens": tokens}

    with ThreadPoolExecutor(plan["in_flight"]) as together:
        told = list(together.map(one, plan["questions"]))
    json.dump(told, sys.stdout)


main()
