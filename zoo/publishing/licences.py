"""Which licence identifiers are known: SPDX's, and those that hubs know besides."""

from __future__ import annotations

from zoo.errors import did_you_mean

# Reference: the table "Licenses" of the Hugging Face hub's documentation, without what SPDX has.
_HUB = {
    *("apple-amlr", "apple-ascl", "bigcode-openrail-m", "bigscience-bloom-rail-1.0"),
    *("bigscience-openrail-m", "bsd", "c-uda", "cc", "creativeml-openrail-m"),
    *("deepfloyd-if-license", "fair-noncommercial-research-license", "gemma", "gfdl", "gpl"),
    *("grok2-community", "h-research", "intel-research", "lgpl", "lgpl-lr", "llama2", "llama3"),
    *("llama3.1", "llama3.2", "llama3.3", "llama4", "odbl", "odc-by", "openmdw-1.0", "openrail"),
    *("openrail++", "pddl"),
}
_COMMON = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0", "gpl-3.0")
_OWN_TERMS = ("other", "licenseref-")


def complaint(license: str, *, has_text: bool) -> str | None:
    """What is wrong with a licence identifier; None if nothing is.

    Args:
        license: in any case.
        has_text: whether its text is among the files, which terms of one's own need.
    """
    name = license.lower()
    if name.startswith(_OWN_TERMS):
        if has_text:
            return None
        return f"{license!r} names no terms. Add a file LICENSE with their text."
    if name in _HUB or _is_spdx(name):
        return None
    near = did_you_mean(name.replace(" ", "-"), [*_COMMON, *_HUB])
    return (
        f"{license!r} is no identifier of SPDX or of the hub.{near} Pass one as license= "
        "(--license), such as 'apache-2.0', or 'other' with a file LICENSE."
    )


def _is_spdx(name: str) -> bool:
    """Whether it is one identifier. An expression of several is none that a hub knows."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        canonicalize_license_expression(name)
    except InvalidLicenseExpression:
        return False
    return " " not in name.strip()
