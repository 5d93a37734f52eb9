"""The settings of a tokenizer: what its JSON files say together.

The order in which files override each other is that of
`PreTrainedTokenizerBase._from_pretrained` of transformers (5.24.0).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from zoo.errors import ConfigError

Read = Callable[[str], str | None]  # the content of a file, None where there is none
_MOST = 1 << 27  # characters of the largest file; the largest vocabularies known take a third

WHOLE = "tokenizer.json"
SETTINGS, SPECIAL_MAP = "tokenizer_config.json", "special_tokens_map.json"
# Names of special tokens, in the order in which those that have no id yet get one.
SPECIAL = tuple(f"{n}_token" for n in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
EXTRA, OLD_EXTRA = "extra_special_tokens", "additional_special_tokens"
DECODER = "added_tokens_decoder"


class Files:
    """The text files of a repo, read once, and no larger than files of their kind are."""

    def __init__(self, read: Read, origin: str) -> None:
        self.origin, self._read = origin, read
        self._texts: dict[str, str | None] = {}

    def text(self, name: str) -> str | None:
        """The content of a file; None where there is none.

        Raises:
            ConfigError: it is too large.
        """
        if name not in self._texts:
            text = self._read(name)
            if text is not None and len(text) > _MOST:
                raise ConfigError(
                    f"{self.origin}/{name} has {len(text)} characters; files of a tokenizer have "
                    f"at most {_MOST}."
                )
            self._texts[name] = text
        return self._texts[name]

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object; an empty one where the file is missing.

        Raises:
            ConfigError: the file holds something else.
        """
        text = self.text(name)
        if text is None:
            return {}
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            said = "its objects are too deep" if isinstance(error, RecursionError) else error
            raise ConfigError(f"{self.origin}/{name} is not valid JSON: {said}.") from error
        if not isinstance(data, dict):
            raise ConfigError(f"{self.origin}/{name} should hold an object.")
        return data

    def has(self, name: str) -> bool:
        """Whether there is such a file, of text or not."""
        try:
            return self.text(name) is not None
        except ConfigError:
            return True


def settings_of(files: Files) -> dict[str, Any]:
    """What `tokenizer_config.json` says, and above it `special_tokens_map.json`, which counts where
    the former lists no `added_tokens_decoder`."""
    settings = files.json(SETTINGS)
    if DECODER in settings:
        return settings
    stated = {
        # an object is a token here; there it has to say so
        k: {"__type": "AddedToken", **v, "special": True}
        if isinstance(v, dict) and k != EXTRA
        else v
        for k, v in files.json(SPECIAL_MAP).items()
        if not (is_own(k) and isinstance(settings.get(k), str))
    }
    first = settings.get(EXTRA) or settings.get(OLD_EXTRA) or []
    more = stated.get(EXTRA)
    if isinstance(more, list) and isinstance(first, list):
        stated[EXTRA] = [*first, *(one for one in more if one not in first)]
    if lists_extra(settings):
        stated.pop(OLD_EXTRA, None)
    if isinstance(more, list) and isinstance(first, dict):  # names there, further ones here
        stated |= {EXTRA: first, OLD_EXTRA: more}
    return {**settings, **stated}


def lists_extra(settings: Mapping[str, Any]) -> bool:
    """Whether settings say under their newer name which further special tokens there are, which
    they do under the older one where the newer one says nothing."""
    listed = settings.get(EXTRA)
    return bool(OLD_EXTRA in settings and not listed) or (
        EXTRA in settings and not isinstance(listed, dict)
    )


def is_own(name: str) -> bool:
    """Whether a setting is a special token under a name that only this model has."""
    return name.endswith("_token") and name not in SPECIAL


def is_token(value: Any) -> bool:
    """Whether a setting is a token: a text, or an object that says so."""
    return isinstance(value, str) or (isinstance(value, dict) and "__type" in value)
