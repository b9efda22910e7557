"""What a container prints, each line once, through streams that break and servers that restart."""

import re
from collections.abc import Generator
from dataclasses import dataclass, field

from cluster.kube.client.connection import Connection, Request
from cluster.kube.client.kinds import Object, entries, part
from cluster.kube.client.outage import BrokenError, RefusedError
from cluster.kube.client.refusal import Status

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


@dataclass
class _Place:
    """How far a log has been read: the time of the last line, and how many lines of that time there were."""

    second: str = ""
    zone: str = ""
    fraction: str = ""
    lines: int = 0
    passed: int = 0
    """Of those, how many the stream that is being read has sent again."""
    is_behind: bool = False
    """Whether that stream is at lines that were read before."""

    def start(self) -> None:
        """A stream begins, which may send again what was read."""
        self.passed, self.is_behind = 0, bool(self.second)

    def is_new(self, line: str) -> bool:
        """Whether a line with its time was not read before; it is read now."""
        match = _STAMP.fullmatch(line.partition(" ")[0])
        if match is None:
            return True
        at = (match[1], match[2] or "")
        last = (self.second, self.fraction)
        if self.is_behind:
            if at < last:
                return False
            if at == last and self.passed < self.lines:
                self.passed += 1
                return False
            self.is_behind = False
        if at == last:
            self.lines += 1
        elif at > last:  # a line that is out of order does not lead back
            self.second, self.zone, self.fraction, self.lines = match[1], match[3], at[1], 1
        return True


@dataclass
class PodLog:
    """The log of one container."""

    connection: Connection
    pod: str
    """Path of the pod."""
    container: str | None
    _place: _Place = field(default_factory=_Place)

    def lines(self, follow: bool, since_time: str | None) -> Generator[str]:
        """The lines; with `follow` until the container has ended or its pod is gone. None of a container that waits."""
        outage, is_last = self.connection.outage(), not follow
        while True:
            try:
                for line in self._stream(is_followed=not is_last, since_time=since_time):
                    outage = self.connection.outage()
                    yield line
                if is_last:
                    return
            except RefusedError as error:
                if self._is_over(error.status):
                    return
                if is_last or not error.status.is_passing:
                    outage.wait(error)
            except BrokenError as error:
                if is_last:
                    outage.wait(error)
            # A stream ends early, too: when the log is rotated, when the server restarts. What has come meanwhile is
            # read once more after it is known that nothing else comes.
            if not is_last:
                pod = self._there()
                if pod is None:
                    return
                is_last = self._has_ended(pod)
                if not is_last:
                    outage.pause()

    def _stream(self, *, is_followed: bool, since_time: str | None) -> Generator[str]:
        """What one request gives of lines that were not read before."""
        request = Request("GET", f"{self.pod}/log", self._query(is_followed=is_followed, since_time=since_time))
        with self.connection.stream(request, self.connection.patience.silent_log_s) as stream:
            self._place.start()
            for raw in stream:
                line = raw.decode(errors="replace")
                if self._place.is_new(line):
                    yield line.partition(" ")[2]

    def _is_over(self, status: Status) -> bool:
        """Whether a refusal means that there are no more lines: the container waits, or its pod is gone and was
        read."""
        is_waiting = status.code == 400 and "waiting to start" in status.message
        return is_waiting or (status.code == 404 and bool(self._place.second))

    def _query(self, *, is_followed: bool, since_time: str | None) -> dict[str, str]:
        query = {"timestamps": "true"}
        if self.container:
            query["container"] = self.container
        if is_followed:
            query["follow"] = "true"
        if self._place.second:
            query["sinceTime"] = self._place.second + self._place.zone
        elif since_time:
            query["sinceTime"] = since_time
        return query

    def _there(self) -> Object | None:
        try:
            return self.connection.ask(Request("GET", self.pod))
        except RefusedError as error:
            if error.status.code == 404 and error.status.is_about_an_object:
                return None  # and not a proxy's page, which knows nothing of the pod
            raise

    def _has_ended(self, pod: Object) -> bool:
        if part(pod, "status").get("phase") in ("Succeeded", "Failed") or part(pod, "metadata").get(
            "deletionTimestamp"
        ):
            return True
        statuses = entries(pod, "status", "containerStatuses")
        mine = [part(each, "state") for each in statuses if self.container in (None, each.get("name"))]
        return bool(mine) and all("terminated" in state for state in mine)
