"""Which packages a bundle was made with, as a CycloneDX list of components (https://cyclonedx.org)."""

# The library decorates its classes in a way that hides their types.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
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
_VENDORED = {"_vendor", "thirdparty_files"}
"""Folders that setuptools and ray add to the path, once imported, for packages that they bring for themselves."""
_SPDX = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}
"""Classifiers that mean one licence of https://spdx.org/licenses; "BSD License" is several."""


@cache
def components() -> bytes:
    """The packages of this environment: the same bytes for the same environment, and nothing of where it lies."""
    bom: Any = Bom()
    bom.metadata.tools.components.add(this_component())
    # Neither of these two is asked for by the format, and both would differ each time.
    bom.serial_number = None
    bom.metadata.timestamp = None
    # Where a package lies twice on the path, Python imports the first.
    found = {normalised(each.name): each for each in reversed(installed())}
    listed = {name: _component(name, distribution) for name, distribution in sorted(found.items())}
    for name, component in listed.items():
        bom.components.add(component)
        bom.register_dependency(component, [listed[each] for each in _required(found[name]) if each in listed])
    return (JsonV1Dot6(bom).output_as_string(indent=2) + "\n").encode()


def installed() -> list[Distribution]:
    """The packages on the path, whatever this process has imported."""
    path = [each for each in sys.path if Path(each).name not in _VENDORED]
    named: list[tuple[str | None, Distribution]] = [(each.name, each) for each in distributions(path=path)]
    # What an interrupted removal left of one has no name.
    return [each for name, each in named if name]


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
    classified = [
        each.split(" :: ")[-1] for each in _fields(distribution, "Classifier") if each.startswith("License ::")
    ]
    short = [each for each in _fields(distribution, "License") if 0 < len(each) <= _LONGEST_NAME and "\n" not in each]
    names = _fields(distribution, "License-Expression") or [_SPDX.get(each, each) for each in classified] or short
    made: list[Any] = [
        factory.make_from_string(name, license_acknowledgement=LicenseAcknowledgement.DECLARED) for name in names
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
