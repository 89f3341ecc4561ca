"""Where a run's results come from."""

from collections.abc import Mapping
from typing import Any

from search.encoders import encoders_of
from search.pages.found import FoundRun
from search.pages.judged import corpus_of
from search.pages.markup import Html, Part, duration, element, table
from search.run_folder import UNBOUNDED
from ser_data.left_out import reasons


def provenance_view(run: FoundRun) -> Html:
    """Commit, versions, data, clips left out, seed, budget, machine."""
    config = run.config
    facts = [(name, value) for name, value in _facts(run) if value not in ("", None)]
    versions = ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())
    return element(
        "section",
        element("h3", run.name),
        element("dl", [element("div", element("dt", name), element("dd", value)) for name, value in facts],
                class_="facts"),
        element("p", element("b", "Versions: "), versions),
        element("pre", element("code", config.get("command", "")), tabindex="0"),
        _left_out(run),
    )  # fmt: skip


def _facts(run: FoundRun) -> list[tuple[str, Part]]:
    config, arguments = run.config, run.config["arguments"]
    data: Mapping[str, Any] = next((one.data for one in run.searches if one.data is not None), {})
    machine = config.get("machine", {})
    clips, actors = data.get("clips", {}), data.get("actors", {})
    parts = "; ".join(f"{clips[part]:,} clips of {actors[part]} speakers {verb}"
                      for part, verb in (("train", "to train on"), ("validation", "to validate"), ("test", "to test"))
                      if part in clips and part in actors)  # fmt: skip
    endings = {search.space: search.ending or "not ended" for search in run.searches}
    return [
        ("search", config["search_id"]),
        ("begun", config.get("created")),
        ("commit", config["commit"]),
        ("space", arguments["space"]),
        ("encoder", ", ".join(encoder["label"] for one in run.searches for encoder in encoders_of(one.config["plan"]))),
        ("sampler", arguments.get("sampler")),
        ("scheduler", arguments.get("scheduler")),
        ("seed", str(arguments["seed"])),
        ("budget", _budget(config)),
        ("used", f"{run.num_trials} trials, {duration(run.seconds)}"),
        ("ended by", ", ".join(dict.fromkeys(endings.values()))),
        ("data", data.get("corpus")),
        ("split", data.get("split")),
        ("manifest", str(data.get("manifest_hash", ""))[:12]),
        ("clips", parts),
        ("machine", ", ".join(filter(None, (machine.get("processor"), f"{machine.get('cores')} cores" if machine
                                            else "", machine.get("system"))))),
    ]  # fmt: skip


def _budget(config: Mapping[str, Any]) -> str:
    arguments, trials = config["arguments"], config["plan"]["num_trials"]
    told = []
    if trials < UNBOUNDED:
        told.append(f"{trials} trials")
    if arguments.get("time_budget"):
        told.append(duration(arguments["time_budget"]))
    if arguments.get("gpu_hours"):
        told.append(f"{arguments['gpu_hours']:g} GPU hours")
    return ", ".join(told)


def _left_out(run: FoundRun) -> Html:
    data = next((dict(one.data) for one in run.searches if one.data is not None), None)
    corpus, missing = corpus_of(data)
    if corpus is None:
        return element("p", f"Clips left out are not listed: {missing}.", class_="note")
    found = reasons(corpus.manifest)
    if not len(found):
        return element("p", "No clip was left out.", class_="note")
    rows = [[row["kind"], row["examples"], row["clips"]] for row in found.to_dict("records")]
    total = int(found["clips"].sum())
    return element(
        "div",
        element("p", f"{total} of {len(corpus.manifest):,} clips are left out:"),
        table(("reason", "which", "clips"), rows, text=2, caption="Clips left out"),
    )
