"""Who asks the API server, and where it is: a kubeconfig, or the service account of the pod that we are in."""

# The client carries few types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import yaml
from kubernetes.client.configuration import Configuration
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import InClusterConfigLoader
from kubernetes.config.kube_config import load_kube_config

from cluster.errors import SubmissionError
from cluster.kube.client.kinds import Object, entries, part

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_WITHOUT = "or name a Ray that needs no Kubernetes: --cluster.address http://HOST:8265"


class Identity(Protocol):
    """A source of credentials that may change while we run."""

    @property
    def words(self) -> str:
        """Which one it is, for people: "context team-a of /home/me/.kube/config"."""
        ...

    @property
    def namespace(self) -> str | None:
        """The namespace that goes with it."""
        ...

    def load(self) -> Configuration:
        """Read the credentials as they are now: files are read and plugins run again."""
        ...


def find_identity(context: str | None, account: Path, environment: Mapping[str, str] = os.environ) -> Identity:
    """A kubeconfig where there is one or a context is named, else the pod's service account."""
    named = environment.get("KUBECONFIG", "")
    paths = [Path(path).expanduser() for path in named.split(os.pathsep) if path] if named else []
    paths = paths or [Path("~/.kube/config").expanduser()]
    found = [path for path in paths if path.is_file()]
    if found:
        return KubeconfigIdentity(os.pathsep.join(map(str, found)), context)
    if not named and context is None and environment.get("KUBERNETES_SERVICE_HOST"):
        return PodIdentity(account, environment)
    wanted = f"context {context!r}: " if context else ""
    where = f"KUBECONFIG={named} names no file" if named else f"KUBECONFIG is not set, {paths[0]} is no file"
    raise SubmissionError(
        f"{wanted}no kubeconfig ({where}), and this is no pod; set KUBECONFIG, or get a kubeconfig from who runs "
        f"the cluster, {_WITHOUT}"
    )


@dataclass(frozen=True)
class PodIdentity:
    """The service account of the pod that we are in; its token is renewed in its file."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def words(self) -> str:
        """Which one it is."""
        return f"service account of this pod ({self.folder})"

    @property
    def namespace(self) -> str | None:
        """The pod's."""
        path = self.folder / "namespace"
        return path.read_text().strip() or None if path.is_file() else None

    def load(self) -> Configuration:
        """Read token and certificate."""
        configuration = Configuration()
        try:
            loader: Any = InClusterConfigLoader(
                str(self.folder / "token"), str(self.folder / "ca.crt"), environ=self.environment
            )
            loader.load_and_set(configuration)
        except (ConfigException, OSError) as error:
            raise SubmissionError(
                f"{self.words}: {error}; set automountServiceAccountToken, or KUBECONFIG, {_WITHOUT}"
            ) from error
        return configuration


@dataclass(frozen=True)
class KubeconfigIdentity:
    """A context of kubeconfig files."""

    files: str
    """One or several, as in KUBECONFIG."""
    context: str | None
    """None: the current one."""

    @property
    def words(self) -> str:
        """Which one it is."""
        return f"{f'context {self.context!r}' if self.context else 'current context'} of {self.files}"

    @property
    def namespace(self) -> str | None:
        """The context's."""
        return self._entry("contexts", self._context_name()).get("namespace")

    def load(self) -> Configuration:
        """Read the files, and run the credential plugin if one is named."""
        configuration = Configuration()
        self._check()
        try:
            with _plugins_unquoted():
                # Of several files the client takes the last one's current-context, and kubectl the first one's.
                load_kube_config(self.files, self._context_name(), client_configuration=configuration)
        except ConfigException as error:
            raise SubmissionError(f"{self.words}: {_line(error)}; correct the file, {_WITHOUT}") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            # Text of these may be the file's, with what is secret in it.
            raise SubmissionError(
                f"{self.words} is no kubeconfig that can be used ({type(error).__name__}); correct the file, {_WITHOUT}"
            ) from None
        user = self._user()
        if "exec" in user and not (configuration.api_key or configuration.cert_file):
            command = Path(str(part(user, "exec").get("command"))).name
            raise SubmissionError(
                f"{self.words}: its credential plugin {command!r} gave no credentials; run it by hand to see why, "
                "and log in where it asks for it"
            )
        return configuration

    def _user(self) -> Object:
        return self._entry("users", str(self._entry("contexts", self._context_name()).get("user")))

    def _check(self) -> None:
        name = self._context_name()
        names = [str(each.get("name")) for each in self._entries("contexts")]
        if name not in names:
            known = ", ".join(names) or "none at all"
            raise SubmissionError(
                f"no context {name!r} in {self.files}, which has {known}; name one of them with --kube-context"
                if name
                else f"{self.files} has no current-context, of {known}; name one with --kube-context"
            )
        server = str(self._entry("clusters", str(self._entry("contexts", name).get("cluster"))).get("server", ""))
        if urlsplit(server).scheme not in ("http", "https"):
            raise SubmissionError(
                f"{self.words}: its cluster has no server of http or https; correct the file, {_WITHOUT}"
            )
        if "as" in self._user():
            # The client would pass over it, and ask as who may do more.
            raise SubmissionError(
                f"{self.words}: its user acts as another one ({self._user()['as']}), which is not supported; name a "
                "context of that user with --kube-context"
            )

    def _context_name(self) -> str:
        if self.context:
            return self.context
        return next((str(each["current-context"]) for each in self._parsed() if each.get("current-context")), "")

    def _entry(self, section: str, name: str) -> Object:
        return next((part(each, section[:-1]) for each in self._entries(section) if each.get("name") == name), {})

    def _entries(self, section: str) -> list[Object]:
        return [each for document in self._parsed() for each in entries(document, section)]

    def _parsed(self) -> list[Object]:
        documents: list[Object] = []
        for path in self.files.split(os.pathsep):
            try:
                document: Any = yaml.safe_load(Path(path).read_text())
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                # The error of YAML quotes the line, which may hold a token.
                raise SubmissionError(
                    f"kubeconfig {path} cannot be read ({type(error).__name__}); correct it, {_WITHOUT}"
                ) from None
            if not isinstance(document, dict):
                raise SubmissionError(f"kubeconfig {path} is empty or no kubeconfig; correct it, {_WITHOUT}")
            documents.append(document)
        return documents


@contextmanager
def _plugins_unquoted() -> Generator[None]:
    """Keep what a credential plugin prints out of the log, where the client writes it when the plugin fails: it may be
    secret. The client also sets up logging for all of us if nobody has."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def is_other(record: logging.LogRecord) -> bool:
        return record.module != "kube_config"

    root.addHandler(handler)
    root.addFilter(is_other)
    try:
        yield
    finally:
        root.removeFilter(is_other)
        root.removeHandler(handler)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
