"""Fields that other servers know, that would change an answer, and that are not built. PURE.

They are declared so that a client is told: a field that nobody declares is ignored. Each may have the values that
change nothing.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from envfarm.errors import RequestRefusedError

_TOLD_CHARACTERS = 60
"""As much of a refused value as a message repeats."""


class UnsupportedFields(Struct, kw_only=True):
    """The fields of both kinds of completions, of OpenAI, vLLM and SGLang."""

    length_penalty: Any = None
    min_p: Any = None
    typical_p: Any = None
    min_tokens: Any = None
    min_new_tokens: Any = None
    bad_words: Any = None
    allowed_token_ids: Any = None
    stop_regex: Any = None
    include_stop_str_in_output: Any = None
    no_stop_trim: Any = None
    skip_special_tokens: Any = None
    use_beam_search: Any = None
    truncate_prompt_tokens: Any = None
    prompt_logprobs: Any = None
    logits_processors: Any = None
    custom_logit_processor: Any = None
    response_format: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    structured_outputs: Any = None
    structural_tag: Any = None
    json_schema: Any = None
    regex: Any = None
    ebnf: Any = None
    echo: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    chat_template: Any = None
    add_generation_prompt: Any = None
    continue_final_message: Any = None
    documents: Any = None
    suffix: Any = None
    best_of: Any = None


_ONLY: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(UnsupportedFields.__struct_fields__, ()),
    "best_of": (1,),
    "length_penalty": (1,),
    "min_p": (0,),
    "typical_p": (1,),
    "min_tokens": (0,),
    "min_new_tokens": (0,),
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "stop_regex": ("", []),
    "include_stop_str_in_output": (False,),
    "no_stop_trim": (False,),
    "skip_special_tokens": (True, False),  # an answer's text has its tags by name, and never its end
    "use_beam_search": (False,),
    "logits_processors": ([],),
    "echo": (False,),
    "suffix": ("",),
    "functions": ([],),
    "function_call": ("auto", "none"),
    "modalities": (["text"],),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "documents": ([],),
    "response_format": ({"type": "text"},),
}
"""The values of each field that change nothing, beside null."""


def refuse_unsupported(body: UnsupportedFields) -> None:
    """Refuse what is not built.

    Raises:
        RequestRefusedError: A field has a value that would change the answer; names the field.
    """
    for name, ours in _ONLY.items():
        value = getattr(body, name)
        if value not in (None, *ours):
            message = f"{name}: {repr(value)[:_TOLD_CHARACTERS]} is not built"
            raise RequestRefusedError(message)
