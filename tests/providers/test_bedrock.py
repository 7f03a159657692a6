"""LangChain's ChatBedrockConverse."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from langchain_aws import ChatBedrockConverse
from tests.providers.cells import MEASURED, Expected, as_found, cells_of, without
from tests.providers.through_langchain import LangChainClient, aws_calm

from tbcontracts.testing import FakeBedrock


def model(url: str, *, retries: int, cap: int | None, **settings: Any) -> Any:
    """Return the client."""
    make: Any = ChatBedrockConverse
    return make(
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        model="anthropic.claude-sonnet-4-20250514-v1:0",
        max_tokens=cap,
        config=Config(retries={"total_max_attempts": retries + 1, "mode": "standard"}),
        **settings,
    )


UNTOLD = "thinking is billed as output; Bedrock does not say how much of it that was"
CLIENT = LangChainClient(
    name="Bedrock",
    server=FakeBedrock,
    model=model,
    calm=aws_calm,
    but=as_found(Expected(MEASURED, UNTOLD, ("reasoning",)), "reasoning", "reasoning, streamed"),
    lacks=without("Converse gives one answer", "n = 2"),
)


@pytest.mark.parametrize(("client", "kind"), cells_of(CLIENT))
def test_cell(client: Any, kind: Any, cell: Any) -> None:
    """Find what the books made of one kind of call."""
    cell(client, kind)
