"""The Docker daemon of this machine, for control only; the one file that imports its SDK.

No command of a sandbox ever goes through here: those go to the agent. Every method blocks; `engine_calls` runs them in
threads. Whatever the SDK raises becomes an error of `envfarm.errors` here.
"""

import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envfarm.errors import EngineUnreachableError, MissingToolError, SandboxStartError
from envfarm.sandbox.docker.engine_errors import api_error, build_error, pull_error, raise_told, split_reference

if TYPE_CHECKING:
    import docker

_TIMEOUT_SECONDS = 120
_BUILD_SECONDS = 3600
_CONNECTIONS = 32
_NOT_FOUND, _CONFLICT = 404, 409
_LOADED_ID = re.compile(r"sha256:[0-9a-f]{64}")
ENDED = "its first process ended with"
START = "start it, for instance with: make docker (or: sudo systemctl start docker)"
PERMISSION = "allow this user with: sudo usermod -aG docker $USER, and log in again"


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the engine says of an image.

    Attributes:
        image_id: ``sha256:`` and the digest of its configuration.
        variables: Environment variables that it sets.
        workdir: Working directory; empty where it sets none.
        user: User that it sets; empty where it sets none.
        size_bytes: All its layers together.
        layers: Digests of its layers' content, first to last.
        labels: Its labels.
        tags: Its names.
        created: When it says that it was made, ISO 8601.
        volumes: Places that it wants on a disk of their own, in each container a new one.
        tagged_at: When it got a name last, in seconds since the epoch; 0 where the engine does not say.
    """

    image_id: str
    variables: Mapping[str, str]
    workdir: str
    user: str
    size_bytes: int
    layers: tuple[str, ...]
    labels: Mapping[str, str]
    tags: tuple[str, ...]
    created: str
    volumes: tuple[str, ...]
    tagged_at: float


class Engine:
    """A daemon that answers; use `open_engine`."""

    def __init__(self, api: "docker.APIClient", socket_path: str) -> None:
        """Take a connected client and the path of the daemon's socket."""
        self._api: Any = api  # its types are in part missing
        self._socket_path = socket_path
        self._facts: dict[str, Any] | None = None

    # Containers

    def create_container(self, body: Mapping[str, Any]) -> str:
        """Make a container of a body of the engine's API and return its id; it does not run yet.

        Raises:
            ContainerImageMissingError: Its image is not here.
            EngineDiskFullError: The engine's disk is full.
            EngineUnreachableError: The engine does not answer.
            SandboxStartError: The engine refuses.
        """
        with self._mapped(f"a container of {body.get('Image')}"):
            made: dict[str, Any] = self._api.create_container_from_config(dict(body))
        return str(made["Id"])

    def start_container(self, container: str) -> None:
        """Start a container; raises as `create_container`."""
        with self._mapped("a container"):
            self._api.start(container)

    def remove_container(self, container: str) -> None:
        """Kill and remove a container with its unnamed volumes; one that is gone or going is no error."""
        with self._mapped("a container", ignored=(_NOT_FOUND, _CONFLICT)):
            self._api.remove_container(container, force=True, v=True)

    def list_containers(self, label: str) -> dict[str, Mapping[str, str]]:
        """Return the labels of containers that have a label, running or not, by id."""
        with self._mapped("the list of containers"):
            found = self._api.containers(all=True, filters={"label": label})
        return {item["Id"]: item["Labels"] for item in found}

    def why_ended(self, container: str) -> str:
        """Return in a few words why a container ended, as far as the engine remembers; empty where it does not."""
        words: list[str] = []
        with self._mapped("the engine's events"):
            events = self._api.events(since=0, until=self._now(), filters={"container": [container]}, decode=True)
            for event in events:
                action, attributes = str(event.get("Action", "")), event.get("Actor", {}).get("Attributes", {})
                if action == "oom":
                    words.append("its memory was exhausted")
                elif action == "kill":
                    words.append(f"it was killed from outside by signal {attributes.get('signal', '?')}")
                elif action == "die":
                    words.append(f"{ENDED} {attributes.get('exitCode', '?')}")
        return ", ".join(dict.fromkeys(words))

    # Images

    def image_facts(self, reference: str) -> ImageFacts:
        """Return what is known of an image on this machine.

        Raises:
            ContainerImageMissingError: It is not here.
            EngineUnreachableError: The engine does not answer.
        """
        with self._mapped(reference):
            facts = self._api.inspect_image(reference)
        config = facts.get("Config") or {}
        pairs = (item.partition("=") for item in config.get("Env") or ())
        return ImageFacts(
            image_id=facts["Id"],
            variables={name: value for name, _, value in pairs},
            workdir=config.get("WorkingDir") or "",
            user=config.get("User") or "",
            size_bytes=int(facts.get("Size") or 0),
            layers=tuple((facts.get("RootFS") or {}).get("Layers") or ()),
            labels=config.get("Labels") or {},
            tags=tuple(facts.get("RepoTags") or ()),
            created=str(facts.get("Created") or ""),
            volumes=tuple(config.get("Volumes") or ()),
            tagged_at=_seconds_of(str((facts.get("Metadata") or {}).get("LastTagTime") or "")),
        )

    def list_images(self, label: str = "") -> list[str]:
        """Return the ids of images that have a label; without one those of all, steps of builds among them."""
        with self._mapped("the list of images"):
            found = self._api.images(filters={"label": label}) if label else self._api.images(all=True)
        return list(dict.fromkeys(item["Id"] for item in found))

    def pull_image(
        self, reference: str, report: Callable[[str], None] | None = None, *, timeout_seconds: float = _BUILD_SECONDS
    ) -> None:
        """Bring an image from its registry.

        Raises:
            ContainerImageMissingError: The registry has none of that name.
            ContainerImagePullError: The registry is not reached, refuses, or is too slow.
            EngineDiskFullError: The engine's disk is full.
        """
        name, tag = split_reference(reference)
        deadline = time.monotonic() + timeout_seconds
        try:
            with self._mapped(reference):
                for event in self._api.pull(name, tag=tag, stream=True, decode=True):
                    if time.monotonic() > deadline:
                        raise pull_error(reference, f"not within {timeout_seconds:g} s")
                    if "error" in event:
                        raise pull_error(reference, str(event["error"]))
                    if report is not None and "progress" not in event:
                        report(f"{reference}: {event.get('status', '')}")
        except SandboxStartError as error:
            if type(error) is SandboxStartError:
                raise pull_error(reference, str(error)) from error
            raise

    def load_image(self, archive: Iterable[bytes], *, quiet_id: str | None = None) -> str:
        """Take the images of an archive as ``docker save`` writes it, and return the id of the last one.

        Args:
            archive: Its bytes, in parts.
            quiet_id: What is returned where the engine tells no id.

        Raises:
            ImageBuildError: The archive is refused.
            EngineDiskFullError: The engine's disk is full.
        """
        said = []
        with self._mapped("an image archive"):
            for event in self._api.load_image(archive, quiet=False):
                raise_told(event, "an image could not be loaded", str(event.get("error")))
                said.append(str(event.get("stream", "")))
        found = _LOADED_ID.findall("".join(said))
        return str(found[-1]) if found else (quiet_id or "")

    def import_root(self, archive: Path, tag: str, changes: Sequence[str] = ()) -> str:
        """Make an image of one layer from an archive of a root file system, and return its id."""
        name, version = split_reference(tag)
        with self._mapped(tag):
            said = self._api.import_image_from_file(str(archive), repository=name, tag=version, changes=list(changes))
        found = _LOADED_ID.findall(str(said))
        if not found:
            what = f"the root file system of {tag} could not be imported"
            raise build_error(what, str(said))
        return str(found[-1])

    def build_image(
        self,
        folder: Path,
        tag: str,
        *,
        dockerfile: str = "Dockerfile",
        labels: Mapping[str, str] | None = None,
        timeout_seconds: float = _BUILD_SECONDS,
        report: Callable[[str], None] | None = None,
    ) -> str:
        """Build a folder with a Dockerfile of its own, and return the image's id.

        A step has half of this machine's memory. Not covered: its processes and what it writes; engines do not bound
        those of a build.

        Raises:
            ImageBuildError: A step fails, or time is up; the message holds the last lines of its output.
            EngineDiskFullError: The engine's disk is full.
            EngineUnreachableError: The engine does not answer.
        """
        lines: list[str] = []
        failed, failure = False, f"the image of {folder} could not be built"
        deadline = time.monotonic() + timeout_seconds
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        with self._mapped(f"the image of {folder}", building=True):
            options = {"labels": dict(labels or {}), "timeout": math.ceil(timeout_seconds), "rm": True, "forcerm": True}
            options["container_limits"] = {"memory": memory_bytes, "memswap": memory_bytes}
            try:
                events = self._api.build(path=str(folder), dockerfile=dockerfile, tag=tag, decode=True, **options)
            except (re.error, UnicodeDecodeError) as error:  # the SDK reads it by itself
                raise build_error(failure, f".dockerignore: {error}") from error
            for event in events:
                if time.monotonic() > deadline:  # leaving ends the build: the engine sees that nobody listens
                    message = f"the image of {folder} was not built within {timeout_seconds:g} s"
                    raise build_error(message, "\n".join(lines))
                line = str(event.get("stream") or event.get("status") or event.get("error") or "").rstrip()
                if line:
                    lines.append(line)
                failed = failed or "error" in event  # and the end of the answer comes
                if report is not None and line.startswith("Step "):
                    report(line)
            if failed:
                raise build_error(failure, "\n".join(lines))
        return self.image_facts(tag).image_id

    def save_image(self, reference: str) -> Iterator[bytes]:
        """Yield the archive of an image with all its layers, as ``docker save`` writes it."""
        with self._mapped(reference):
            yield from self._api.get_image(reference)

    def tag_image(self, reference: str, tag: str) -> None:
        """Give an image another name."""
        name, version = split_reference(tag)
        with self._mapped(reference):
            self._api.tag(reference, name, version)

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Remove an image or one of its names; one that is gone is no error.

        Raises:
            SandboxStartError: A container uses it.
        """
        with self._mapped(reference, ignored=(_NOT_FOUND,)):
            self._api.remove_image(reference, force=force)

    # The engine itself

    def facts(self) -> Mapping[str, Any]:
        """Return what the engine said of itself when it was first asked, as its API has it; it takes it a while."""
        if self._facts is None:
            with self._mapped("the engine"):
                self._facts = dict(self._api.info())
        return self._facts

    def _now(self) -> str:
        """Return the next second by the engine's own clock: this process's may have jumped."""
        return str(int(_seconds_of(str(self._api.info()["SystemTime"]))) + 1)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    @contextmanager
    def _mapped(self, what: str, *, ignored: tuple[int, ...] = (), building: bool = False) -> Iterator[None]:
        """Turn what the SDK raises into errors of ours."""
        import requests
        from docker import errors
        from urllib3.exceptions import HTTPError

        try:
            _try_socket(self._socket_path)  # first: the SDK leaves a socket open that it cannot connect
            yield
        except errors.APIError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in ignored:
                return
            raise api_error(what, status, str(error.explanation or error), building=building) from error
        except (requests.RequestException, HTTPError, errors.DockerException, OSError, ValueError) as error:
            message = f"the Docker daemon does not answer ({type(error).__name__}): {START}"
            raise EngineUnreachableError(message) from error


@contextmanager
def open_engine() -> Iterator[Engine]:
    """Connect to the daemon of this machine.

    Raises:
        MissingToolError: There is no SDK, no daemon, no permission, or the daemon is another machine's.
    """
    try:
        import docker
    except ImportError as error:
        message = "containers need the docker package: pip install 'envfarm[docker]'"
        raise MissingToolError(message) from error
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    path = address.removeprefix("unix://")
    if path == address:
        message = f"DOCKER_HOST={address} is another machine's engine: envfarm shares folders with it, so unset it"
        raise MissingToolError(message)
    try:
        _try_socket(path)
        api = docker.APIClient(
            base_url=address,
            version="auto",
            timeout=_TIMEOUT_SECONDS,
            num_pools=_CONNECTIONS,
            max_pool_size=_CONNECTIONS,
        )
    except PermissionError as error:
        message = f"this user may not use the Docker daemon at {path}: {PERMISSION}"
        raise MissingToolError(message) from error
    except (OSError, docker.errors.DockerException) as error:
        message = f"there is no Docker daemon at {path}: {START}"
        raise MissingToolError(message) from error
    engine = Engine(api, path)
    try:
        yield engine
    finally:
        engine.close()


def _try_socket(path: str) -> None:
    """Raise OSError where nobody listens at a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        tried.connect(path)


def _seconds_of(told: str) -> float:
    """Return a time of the engine's as seconds since the epoch; 0 for none, which the engine writes as year 1."""
    return datetime.fromisoformat(told).timestamp() if told and not told.startswith("0001") else 0.0
