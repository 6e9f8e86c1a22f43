"""What is known of a model's notation, in words, for the log and the command line."""

from mlxnode.server.notation.notation import Notation


def describe(notation: Notation) -> list[str]:
    """A line for the reasoning and a line for the calls."""
    thinking = notation.thinking
    reasoning = "none" if thinking is None else f"from {thinking.start} to {thinking.end}"
    return [f"reasoning: {reasoning}", f"tool calls: {describe_calls(notation)}"]


def describe_calls(notation: Notation) -> str:
    """Where the notation of the calls comes from."""
    match notation.source:
        case "template":
            calls = "read off the chat template"
        case "table":
            calls = f"of a known family ({notation.reason})"
        case "plain":
            calls = f"in plain words ({notation.reason})"
    is_told = notation.source == "plain" or notation.tells_tools
    return calls if is_told else f"{calls}; the template does not tell the tools"
