"""Texts of any script -> the words that metrics count.

rouge-score keeps a-z and 0-9 alone, and many metrics split at spaces, which some scripts do not
have. These functions say where that would lose the text, and split it otherwise there.
"""

import re
import unicodedata
from collections.abc import Iterable

# Characters of scripts that put no spaces between words.
HAN = "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
THAI_LAO_MYANMAR_KHMER = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
UNSPACED = re.compile(f"[{HAN}{KANA}{THAI_LAO_MYANMAR_KHMER}]")
CHINESE = re.compile(f"[{HAN}]")


def is_mark(character: str) -> bool:
    """Say whether a character belongs to the one before it, such as a vowel sign of Hindi."""
    return unicodedata.category(character).startswith("M")


def unicode_words(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters, digits and marks of any script.

    Each character of a script without spaces is a word of its own, with the marks that follow it.
    The words of ASCII text are those of rouge-score.

    Examples:
        >>> unicode_words("Привет, мир 天气")
        ['привет', 'мир', '天', '气']
    """
    words: list[str] = []
    continues = False  # whether the next character may continue the last word
    for character in unicodedata.normalize("NFKC", text).lower():
        if unicodedata.category(character) == "Cf":  # joiners and other signs without a shape
            continue

        if is_mark(character):
            if words:
                words[-1] += character
        elif UNSPACED.match(character) and character.isalnum():
            words.append(character)
            continues = False
        elif character.isalnum():
            if continues:
                words[-1] += character
            else:
                words.append(character)
            continues = True
        else:
            continues = False
    return words


def needs_unicode_words(reference: str) -> bool:
    """Say whether rouge-score would lose a text: most of its words are not of a-z and 0-9 alone."""
    words = unicode_words(reference)
    beyond_ascii = [word for word in words if not word.isascii()]
    return 2 * len(beyond_ascii) > len(words)


def space_characters(text: str) -> str:
    """Return a text with spaces around each character of a script without spaces."""
    if not UNSPACED.search(text):
        return text

    spaced = ""
    follows_unspaced = False  # whether the last character is one of these
    for character in text:
        if not is_mark(character):
            is_unspaced = UNSPACED.match(character) is not None
            if is_unspaced or follows_unspaced:
                spaced += " "
            follows_unspaced = is_unspaced
        spaced += character
    return spaced


def strip_punctuation(text: str) -> str:
    """Return a text without the punctuation of any script."""
    return "".join(c for c in text if not unicodedata.category(c).startswith("P"))


def bleu_tokenizer(references: Iterable[str]) -> str:
    """Return the name of sacrebleu's tokenizer for the language of references.

    That is its usual one (13a), that of Chinese (zh), or single characters (char) for Japanese,
    Thai and other scripts without spaces.
    """
    letters = chinese = unspaced = 0
    for text in references:
        letters += sum(character.isalnum() for character in text)
        chinese += len(CHINESE.findall(text))
        unspaced += len(UNSPACED.findall(text))
    if 2 * unspaced <= letters:
        return "13a"
    # Japanese mixes Chinese characters with kana.
    return "zh" if chinese > 0.9 * unspaced else "char"
