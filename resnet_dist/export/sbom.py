"""Which packages a bundle was made with, as a CycloneDX list of components (https://cyclonedx.org)."""

# The library decorates its classes in a way that hides their types.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distributions
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_LONGEST_NAME = 100
"""Some packages put their licence's whole text where its name belongs."""


@cache
def components() -> bytes:
    """The packages of this environment: the same bytes for the same environment, and nothing of where it lies."""
    bom: Any = Bom()
    bom.metadata.tools.components.add(this_component())
    # Neither of these two is asked for by the format, and both would differ each time.
    bom.serial_number = None
    bom.metadata.timestamp = None
    # Where a package lies twice on the path, Python imports the first.
    found = {normalised(each.name): each for each in reversed(list(distributions()))}
    listed = {name: _component(name, distribution) for name, distribution in sorted(found.items())}
    for name, component in listed.items():
        bom.components.add(component)
        bom.register_dependency(component, [listed[each] for each in _required(found[name]) if each in listed])
    return (JsonV1Dot6(bom).output_as_string(indent=2) + "\n").encode()


def normalised(name: str) -> str:
    """A package's name as indexes write it: https://packaging.python.org/en/latest/specifications/name-normalization."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _component(name: str, distribution: Distribution) -> Any:
    version = distribution.version
    return Component(
        type=ComponentType.LIBRARY,
        name=distribution.name,
        version=version,
        bom_ref=f"{name}=={version}",
        purl=PackageURL("pypi", name=name, version=version),
        description=next(iter(_fields(distribution, "Summary")), None),
        licenses=_licences(distribution),
    )


def _licences(distribution: Distribution) -> list[Any]:
    """As the package declares them: an SPDX expression, else its classifiers, else the short name it gives."""
    factory = LicenseFactory()
    classifiers = [each for each in _fields(distribution, "Classifier") if each.startswith("License :: ")]
    names = _fields(distribution, "License-Expression") or classifiers or _fields(distribution, "License")
    made: list[Any] = [
        factory.make_from_string(name, license_acknowledgement=LicenseAcknowledgement.DECLARED)
        for name in names
        if 0 < len(name) <= _LONGEST_NAME and "\n" not in name
    ]
    # The format has either one expression or licences.
    return next(([each] for each in made if isinstance(each, LicenseExpression)), made)


def _fields(distribution: Distribution, name: str) -> list[str]:
    return distribution.metadata.get_all(name) or []


def _required(distribution: Distribution) -> Iterator[str]:
    """Names of the packages that one asks for, whatever for: extras included."""
    for requirement in distribution.requires or []:
        if (name := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)) is not None:
            yield normalised(name.group())
