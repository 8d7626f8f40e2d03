"""its-hub's algorithms on a list of questions; runs in its environment, and knows nothing of rheostat.

Standard input: {"url", "model", "questions", "algorithm", "k", "temperature", "max_tokens", "in_flight"}; standard output:
a list of {"text", "tokens"} with the tokens that its-hub reports.
"""

import asyncio
import json
import sys

from its_hub import AdaptiveSelfConsistency, OpenAICompatibleLanguageModel, SelfConsistency
from its_hub.core.algorithms.self_consistency import create_regex_projection_function

ANSWER = r"answer is (.*?)\.?\s*$"
ALGORITHMS = {"self_consistency": SelfConsistency, "adaptive": AdaptiveSelfConsistency}


async def main() -> None:
    """Answer every question of the plan."""
    plan = json.load(sys.stdin)
    lm = OpenAICompatibleLanguageModel(
        endpoint=plan["url"] + "/v1", api_key="none", model_name=plan["model"], temperature=plan["temperature"],
        max_completion_tokens=plan["max_tokens"],
    )  # fmt: skip
    algorithm = ALGORITHMS[plan["algorithm"]](consistency_space_projection_func=create_regex_projection_function(ANSWER))
    gate = asyncio.Semaphore(plan["in_flight"])

    async def one(question: str) -> dict[str, object]:
        async with gate:
            found = await algorithm.ainfer(lm, question, budget=plan["k"], return_response_only=False)
        return {"text": found.the_one["content"], "tokens": found.usage.completion_tokens}

    told = await asyncio.gather(*(one(question) for question in plan["questions"]))
    await lm.close()
    json.dump(told, sys.stdout)


asyncio.run(main())
