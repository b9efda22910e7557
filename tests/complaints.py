"""What an error must tell the user, whatever its English: the key, its value, and what to do."""

import re


def complains(error: object, key: str, *values: object, remedy: str | tuple[str, ...] = ()) -> bool:
    """True if one of the error's problems names `key`, every one of `values` and every remedy; fails otherwise.

    `error` is an exception, what `pytest.raises` caught, or a command's output. A problem is a line with the indented
    lines below it. Keys and values count as whole words: neither `epochs` nor `4` is in `training.epochs=48`. A value
    may be spelled as in Python or as in TOML. A remedy is a verb in the imperative: it begins a clause, as in
    "...; use 32 or 64".

    Returns True, so that it serves as `pytest.raises(ConfigError, check=lambda error: complains(error, ...))`, too.
    """
    text = str(getattr(error, "value", error))
    remedies = (remedy,) if isinstance(remedy, str) else remedy
    for word in (key, *values, *remedies):
        assert str(word).strip(), "an empty word is in every text: name what the error must say"
    wanted = [f"the key {key}"] * (not _stands_in(key, text))
    wanted += [f"the value {value!r}" for value in values if not _is_told(value, text)]
    wanted += [f"the remedy '{verb} ...'" for verb in remedies if not _is_advised(verb, text)]
    assert not wanted, f"{', '.join(wanted)} is not in this error:\n{text}"
    assert any(
        _stands_in(key, problem)
        and all(_is_told(value, problem) for value in values)
        and all(_is_advised(verb, problem) for verb in remedies)
        for problem in re.split(r"\n(?=\S)", text)
    ), f"no single problem tells all of {key}, {values} and {remedies}:\n{text}"
    return True


def _stands_in(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w.])(?<!\w-){re.escape(word)}(?![.-]?\w)", text) is not None


def _is_told(value: object, text: str) -> bool:
    spellings = {
        str(value),
        repr(value),
        str(value).lower() if value is None or isinstance(value, bool) else str(value),
    }
    return any(_stands_in(each, text) for each in spellings)


def _is_advised(verb: str, text: str) -> bool:
    clause = r"(?:^|[;:,.(`]\s*|\b(?:or|and|then|please)\s+)"
    return re.search(rf"{clause}{re.escape(verb)}\b", text, re.IGNORECASE | re.MULTILINE) is not None
