"""A stand-in for W&B's server on this machine: enough of it for the real client, and a memory of what that sent.

It answers the client's GraphQL (sweeps, runs, artifacts), its stream of history and summary, and uploads of files. Runs
are kept as the client made them, so that a test asserts what a run is, not what somebody meant to call. It can refuse
(500), deny (401), drop and delay.
"""

import gzip
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "k" * 40
USER = "somebody"


@dataclass
class ServerRun:
    """One run, as the client made it.

    Attributes:
        settings: variables of its upserts, the latest of each
        lines: what was logged, by the client's own place in the stream
        summary: its last one
        exit_code: None until it was finished
        upserts: how often it was made or changed
        inserted: how often it was made anew; twice would be a duplicate
        files: that were uploaded for it, by name
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    upserts: int = 0
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def sweep(self) -> str | None:
        return self.settings.get("sweep")

    @property
    def tags(self) -> set[str]:
        return set(self.settings.get("tags") or ())

    @property
    def config(self) -> dict[str, Any]:
        stored = json.loads(self.settings.get("config") or "{}")
        return {name: value["value"] for name, value in stored.items() if name != "_wandb"}

    @property
    def history(self) -> list[dict[str, Any]]:
        return [line for _, line in sorted(self.lines.items())]

    @property
    def steps(self) -> list[int]:
        return [line["_step"] for line in self.history]

    def of_ours(self) -> dict[str, Any]:
        """The summary without what the client adds."""
        return {name: value for name, value in self.summary.items() if not name.startswith("_")}


@dataclass
class ServerSweep:
    """One sweep: its configuration as YAML, its state, and the filters of runs that it took in when it was made."""

    name: str
    config: str
    state: str = "PENDING"
    prior_runs: tuple[str, ...] = ()


class WandbServer:
    """The stand-in. Use as a context manager.

    Attributes:
        url: for ``WANDB_BASE_URL``
        runs: by id
        sweeps: by id
        artifacts: files of each that was committed, by its name
        artifact_metadata: likewise
        operations: GraphQL operations and paths, in the order in which they came
        authorizations: headers that came
        fault: None; ``refuse`` (500), ``deny`` (401), ``drop`` (the connection), or ``delay``
        is_faulty: which paths the fault is for; all of them
        delay: seconds, for ``delay``
    """

    def __init__(self) -> None:
        self.runs: dict[str, ServerRun] = {}
        self.sweeps: dict[str, ServerSweep] = {}
        self.artifacts: dict[str, dict[str, bytes]] = {}
        self.artifact_metadata: dict[str, dict[str, Any]] = {}
        self.operations: list[str] = []
        self.authorizations: set[str] = set()
        self.fault: str | None = None
        self.is_faulty: Callable[[str], bool] = lambda path: True
        self.delay = 0.0
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._artifacts: dict[str, tuple[str, dict[str, bytes]]] = {}
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    def wait(self) -> None:
        """Of a delayed request."""
        self._released.wait(self.delay)

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """What a POST or PUT gets."""
        with self._lock:
            if path == "/graphql":
                asked = json.loads(body)
                match = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                operation = match.group(1) if match else "?"
                self.operations.append(operation)
                method = getattr(self, f"_{_snake(operation)}", None)
                return {"data": {} if method is None else method(asked.get("variables") or {})}
            self.operations.append(path)
            if path.endswith("/file_stream"):
                self._stream(path.split("/")[-2], json.loads(body))
            elif path.startswith("/upload/run/"):
                _, _, _, run, name = path.split("/", 4)
                self._run(run).files[name] = body
            elif path.startswith("/upload/artifact/"):
                _, _, _, artifact, name = path.split("/", 4)
                self._artifacts[artifact][1][name] = body
            return {}

    def _run(self, name: str) -> ServerRun:
        return self.runs.setdefault(name, ServerRun(name))

    def _stream(self, run: str, sent: dict[str, Any]) -> None:
        found = self._run(run)
        for name, chunk in (sent.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                for place, line in enumerate(chunk["content"], start=chunk["offset"]):
                    found.lines[place] = json.loads(line)
            elif name == "wandb-summary.json":
                found.summary = json.loads(chunk["content"][-1])
        if sent.get("complete"):
            found.exit_code = sent["exitcode"]

    def _viewer(self, asked: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": []}
        return {"viewer": {"id": "u", "entity": USER, "username": USER, "email": "", "flags": "{}", "teams": teams}}

    def _upsert_sweep(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("id") or f"sweep{len(self.sweeps)}"
        sweep = self.sweeps.get(name)
        if sweep is None:
            prior = json.loads(asked.get("priorRunsFilters") or '{"$or": []}')["$or"]
            sweep = ServerSweep(name, asked["config"], prior_runs=tuple(each["name"] for each in prior))
            self.sweeps[name] = sweep
        sweep.state = asked.get("state") or sweep.state
        answer = {
            "sweep": {"name": name, "state": sweep.state, "project": _project(asked, "projectName", "entityName")}
        }
        return {"upsertSweep": {**answer, "configValidationWarnings": []}}

    def _sweep_with_runs(self, asked: dict[str, Any]) -> dict[str, Any]:
        sweep = self.sweeps.get(asked["sweep"])
        if sweep is None:
            return {"project": {"sweep": None}}
        told = {"id": sweep.name, "name": sweep.name, "state": sweep.state, "config": sweep.config}
        return {"project": {"sweep": {**told, "runs": {"edges": []}}}}

    def _get_sweep_state(self, asked: dict[str, Any]) -> dict[str, Any]:
        sweep = self.sweeps.get(asked["sweep"])
        return {"project": {"sweep": None if sweep is None else {"state": sweep.state}}}

    def _get_default_entity(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "u", "entity": USER}}

    def _runs(self, asked: dict[str, Any]) -> dict[str, Any]:
        group = json.loads(asked["filters"])["group"]
        edges = [{"node": _told(run), "cursor": name} for name, run in self.runs.items()
                 if run.settings.get("groupName") == group]  # fmt: skip
        page = {"endCursor": None, "hasNextPage": False}
        runs = {"edges": edges, "pageInfo": page}
        return {"project": {"internalId": "1", "runCount": len(edges), "readOnly": False, "runs": runs}}

    def _run_resume_status(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked["name"])
        bucket = None
        if run is not None:
            bucket = {
                "id": f"id-{run.name}", "name": run.name, "displayName": run.settings.get("displayName"),
                "summaryMetrics": json.dumps(run.summary), "logLineCount": 0, "historyLineCount": len(run.lines),
                "eventsLineCount": 0, "historyTail": json.dumps([json.dumps(line) for line in run.history[-1:]]),
                "eventsTail": "[]", "config": run.settings.get("config") or "{}", "tags": sorted(run.tags),
                "notes": None, "wandbConfig": json.dumps({"t": 1}),  # without a "t" a run counts as not begun
            }  # fmt: skip
        return {"model": {**_project(asked, "project", "entity"), "bucket": bucket}}

    def _upsert_bucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["name"]
        inserted = name not in self.runs
        run = self._run(name)
        run.upserts += 1
        run.settings |= {key: value for key, value in asked.items() if value is not None}
        if run.sweep in self.sweeps and self.sweeps[run.sweep].state == "PENDING":
            self.sweeps[run.sweep].state = "RUNNING"
        bucket = {
            "id": f"id-{name}", "name": name, "displayName": run.settings.get("displayName") or name,
            "description": None, "config": run.settings.get("config"), "sweepName": run.sweep,
            "project": _project(asked, "project", "entity"), "historyLineCount": len(run.lines),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _create_run_files(self, asked: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/run/{asked['run']}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": f"id-{asked['run']}", "uploadHeaders": [], "files": files}}

    def _mark_run_files_uploaded(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"markRunFilesUploaded": {"success": True}}

    def _artifact_type(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _create_artifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        identity = f"artifact{len(self._artifacts)}"
        name = asked["input"]["artifactCollectionName"]
        self._artifacts[identity] = (name, {})
        self.artifact_metadata[name] = json.loads(asked["input"].get("metadata") or "{}")
        sequence = {"id": "s", "latestArtifact": None}
        artifact = {
            "id": identity,
            "state": "PENDING",
            "digest": asked["input"]["digest"],
            "artifactSequence": sequence,
        }
        return {"createArtifact": {"artifact": artifact}}

    def _create_artifact_manifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"createArtifactManifest": self._manifest(asked["artifactID"], bool(asked.get("includeUpload")))}

    def _update_artifact_manifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        identity = asked["artifactManifestID"].removeprefix("manifest-")
        return {"updateArtifactManifest": self._manifest(identity, bool(asked.get("includeUpload")))}

    def _manifest(self, artifact: str, with_upload: bool) -> dict[str, Any]:
        file = {"id": "f"}
        if with_upload:
            file |= {"uploadUrl": f"{self.url}/upload/artifact/{artifact}/manifest.json", "uploadHeaders": []}
        return {"artifactManifest": {"id": f"manifest-{artifact}", "file": file}}

    def _create_artifact_files(self, asked: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for each in asked["input"]["artifactFiles"]:
            identity, name = each["artifactID"], each["name"]
            node = {
                "storagePath": name, "uploadUrl": f"{self.url}/upload/artifact/{identity}/{name}", "uploadHeaders": [],
                "uploadMultipartUrls": None, "artifact": {"id": identity},
            }  # fmt: skip
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _commit_artifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        name, files = self._artifacts[asked["artifactID"]]
        self.artifacts[name] = files
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": ""}}}


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client went away; that is its right."""


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _project(asked: dict[str, Any], project: str, entity: str) -> dict[str, Any]:
    return {"id": "p", "name": asked.get(project), "entity": {"id": "e", "name": asked.get(entity) or USER}}


def _told(run: ServerRun) -> dict[str, Any]:
    """A run as lists of runs have it."""
    return {
        "id": f"id-{run.name}", "name": run.name, "tags": sorted(run.tags), "sweepName": run.sweep, "projectId": "1",
        "displayName": run.settings.get("displayName"), "state": "running" if run.exit_code is None else "finished",
        "group": run.settings.get("groupName"), "jobType": run.settings.get("jobType"), "commit": None,
        "readOnly": False, "createdAt": "2026-01-01T00:00:00Z", "heartbeatAt": "2026-01-01T00:00:00Z",
        "description": None, "notes": None, "historyLineCount": len(run.lines),
        "user": {"name": USER, "username": USER},
    }  # fmt: skip


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(200, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if (authorization := self.headers.get("Authorization")) is not None:
                server.authorizations.add(authorization)
            if server.fault is not None and server.is_faulty(self.path):
                if server.fault == "drop":
                    self.close_connection = True
                    return
                if server.fault == "delay":
                    server.wait()
                else:
                    self._reply(500 if server.fault == "refuse" else 401, {"error": server.fault})
                    return
            self._reply(200, server.answer(self.path, body))

        do_PUT = do_POST

        def _reply(self, code: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

    return Handler
