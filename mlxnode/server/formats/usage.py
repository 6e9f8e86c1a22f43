"""The token counts of an answer, as OpenAI reports them."""

from msgspec import Struct

from mlxnode.server.answer.usage import TokenCounts


class PromptTokensDetails(Struct):
    cached_tokens: int = 0  # from the prefix cache


class CompletionTokensDetails(Struct):
    reasoning_tokens: int = 0


class Usage(Struct):
    """Exact counts. A stop token that ends a text is counted, because it was generated."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails

    @classmethod
    def of(cls, counts: TokenCounts) -> "Usage":
        return cls(
            counts.prompt,
            counts.completion,
            counts.total,
            PromptTokensDetails(counts.cached),
            CompletionTokensDetails(counts.reasoning),
        )
