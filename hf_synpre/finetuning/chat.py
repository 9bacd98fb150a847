"""Rows as chats: a tokenizer's chat template -> the ids of prompts and completions of a decoder.

The source is the user's turn, and the target the assistant's. The prompt is what transformers'
pipelines feed for the same message: the template with its generation prompt. The completion is what
the template writes after it, up to the token that ends the turn; what a template has behind that
token, such as a line end, is not learned.
"""

from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.data.connection import one_line_cause
from hf_synpre.data.encoding import encode_texts
from hf_synpre.errors import UsageError

# Contents of a turn whose place in a template is looked for.
PROBE, OTHER_PROBE = "0123456789", "x"


class ChatFormat:
    """The chats that a tokenizer's template writes.

    Args:
        tokenizer: a tokenizer with a chat template.
        special_tokens: read special tokens that a turn spells out as these tokens, as pipelines do;
            otherwise they are text.

    Attributes:
        tail: the ids behind the user's text in every prompt.
        frame: the number of all ids of a prompt beside the user's text.
        end: the id that ends the assistant's turn.

    Raises:
        UsageError: there is no template, or it does not write such chats.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, special_tokens: bool = False):
        self.tokenizer = tokenizer
        self.special_tokens = special_tokens
        if not tokenizer.chat_template:
            raise UsageError(
                "The tokenizer has no chat template; leave chat_template out, or give the "
                "tokenizer of a checkpoint that has one."
            )

        # What stands in the assistant's turn before its text, and behind it until the end.
        prompt = self._texts([user(PROBE)], add_generation_prompt=True)[0]
        whole = self._texts([chat(PROBE, PROBE)])[0]
        self.before, found, behind = whole.removeprefix(prompt).partition(PROBE)
        if not whole.startswith(prompt) or not found:
            raise UsageError(
                "The tokenizer's chat template writes an assistant's turn in other words than it "
                "asks for one (add_generation_prompt); leave chat_template out, or give another "
                "template."
            )
        ids = encode_texts(tokenizer, [behind], special_tokens=True)["input_ids"][0]
        ends = [token for token in ids if token in tokenizer.added_tokens_decoder]
        if not ends:
            raise UsageError(
                "The tokenizer's chat template ends an assistant's turn without a token of its "
                "own, so that no generation would end; leave chat_template out, or give another "
                "template."
            )
        self.end: int = ends[0]
        self.after = behind.partition(str(tokenizer.added_tokens_decoder[self.end]))[0]

        # What stands behind the user's text.
        one, other = self._ids([user(PROBE), user(OTHER_PROBE)], add_generation_prompt=True)
        common = 0
        while common < len(other) and one[-common - 1] == other[-common - 1]:
            common += 1
        self.tail: list[int] = other[len(other) - common :]
        self.frame = len(other) - 1

    def encode(
        self, sources: list[str], targets: list[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Return the ids of prompts and of completions, the latter without the token at the end."""
        prompts = self._ids(list(map(user, sources)), add_generation_prompt=True)
        wholes = self._ids(list(map(chat, sources, targets)))
        completions = []
        for prompt, whole, target in zip(prompts, wholes, targets, strict=True):
            completion = whole[len(prompt) :]
            if whole[: len(prompt)] != prompt or self.end not in completion:
                # Characters on both sides of the border are one token.
                text = f"{self.before}{target}{self.after}"
                completion = encode_texts(self.tokenizer, [text])["input_ids"][0]
            else:
                completion = completion[: completion.index(self.end)]
            completions.append(completion)
        return prompts, completions

    def answer(self, text: str) -> str:
        """Return the assistant's text of a turn that was decoded without special tokens."""
        return text.removeprefix(self.before).removesuffix(self.after)

    def _texts(self, chats: list[Any], **options: Any) -> list[str]:
        """Return chats as the template writes them. UsageError: it refuses them."""
        try:
            return self.tokenizer.apply_chat_template(chats, tokenize=False, **options)
        except Exception as error:  # whatever a template raises
            raise self._refusal(error) from error

    def _ids(self, chats: list[Any], **options: Any) -> list[list[int]]:
        """Return the ids of chats. UsageError: the template refuses them."""
        try:
            encoded = self.tokenizer.apply_chat_template(
                chats, sanitize_control_tokens=not self.special_tokens, **options
            )
        except Exception as error:  # whatever a template raises
            raise self._refusal(error) from error
        return encoded["input_ids"]

    def _refusal(self, error: Exception) -> UsageError:
        """Return the error on a template that writes no chat of a user and an assistant."""
        return UsageError(
            f"The tokenizer's chat template refuses a user's turn and an assistant's "
            f"({one_line_cause(error)}); leave chat_template out, or give another template."
        )


def user(source: str) -> list[dict[str, str]]:
    """Return a chat of a user's turn."""
    return [{"role": "user", "content": source}]


def chat(source: str, target: str) -> list[dict[str, str]]:
    """Return a chat of a user's turn and an assistant's."""
    return [*user(source), {"role": "assistant", "content": target}]
