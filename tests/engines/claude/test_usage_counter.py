"""Token counts: from the result's sums per model, and from the stream while there are none."""

from __future__ import annotations

from typing import Any

from loopat_jupyter.engines.claude.usage_counter import UsageCounter
from loopat_jupyter.loops.ports.engine import TurnUsage


def of_model(tokens: int, cost: float | None) -> dict[str, Any]:
    counts = {"inputTokens": tokens, "outputTokens": 2, "cacheReadInputTokens": 3}
    return {**counts, "cacheCreationInputTokens": 4, "costUSD": cost}


def result(**models: dict[str, Any]) -> dict[str, Any]:
    return {"type": "result", "model_usage_since_last_result": models}


def test_a_turns_usage_is_the_sum_over_its_models_with_their_costs() -> None:
    message = result(large=of_model(100, 0.5), small=of_model(10, 0.25))
    assert UsageCounter().at_end(message) == TurnUsage(110, 4, 6, 8, 0.75)


def test_a_model_without_a_price_adds_its_tokens() -> None:
    assert UsageCounter().at_end(result(own=of_model(7, None))) == TurnUsage(7, 2, 3, 4, None)


def test_what_was_reported_at_suspension_is_not_counted_twice() -> None:
    counter = UsageCounter()
    usage = {"input_tokens": 60, "cache_read_input_tokens": 1}
    counter.add_event({"type": "message_start", "message": {"usage": usage}})
    assert counter.at_suspension() == TurnUsage(60, 0, 1, 0)
    assert counter.at_end(result(one=of_model(100, 1.0))) == TurnUsage(40, 2, 2, 4, 1.0)


def test_odd_numbers_are_none() -> None:
    odd = {"inputTokens": "many", "outputTokens": -1, "cacheReadInputTokens": True, "costUSD": "x"}
    assert UsageCounter().at_end(result(one=odd)) == TurnUsage(0, 0, 0, 0, None)
