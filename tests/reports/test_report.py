from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.reports.conftest import Page

from pitune.errors import InputError
from pitune.reports import write_report, write_study
from pitune.studies import DemoResults, Results

Write = Callable[[dict[str, Any]], Any]


def test_names_no_resource_outside_itself(results: dict[str, Any], page: Write) -> None:
    found = page(results)
    assert "http:" not in found.html
    assert "https:" not in found.html
    assert not {tag for tag, _ in found.elements} & {"link", "img", "iframe", "object", "embed", "image", "use"}
    for name in ("src", "href", "xlink:href", "srcset", "action"):
        assert found.attributes(name) == []
    style = re.search(r"<style>(.*?)</style>", found.html, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_lets_the_browser_run_only_its_own_script_and_style(results: dict[str, Any], page: Write) -> None:
    found = page(results)
    policy = next(a["content"] for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    for kind in ("style", "script"):
        blocks = re.findall(rf"<{kind}>(.*?)</{kind}>", found.html, re.S)
        assert len(blocks) == 1
        digest = base64.b64encode(hashlib.sha256(blocks[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert found.attributes("style") == []


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "\"><img src=x onerror='alert(1)'>",
        "</title></style></script><svg onload=alert(1)>",
        "{{ 7*7 }}{% for x in y %}",
        "javascript:alert(1)",
        "a\x00b\x1b[31m\u202egnp.exe",
        "長い名前" * 90,
    ],
)
def test_shows_hostile_names_as_text(results: dict[str, Any], page: Write, hostile: str) -> None:
    plain = page(results)
    text = json.dumps(results)
    for word in ("pocket/digits", "mnist", "single", "accuracy", "pitune demo --out demo", "free", "2.13.0+cpu"):
        text = text.replace(json.dumps(word), json.dumps(f"{hostile} {word}"))
    found = page(json.loads(text))
    assert found.open == [], "every element is closed"
    allowed = {tag for tag, _ in plain.elements} | {"td", "p"}
    assert {tag for tag, _ in found.elements} <= allowed
    assert sum(tag == "script" for tag, _ in found.elements) == 1
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert not set(found.html) & set("\x00\x1b\u202e")
    shown = hostile.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\u202e", "\ufffd")
    assert f"{shown} pocket/digits" in found.text


def test_prints_every_mean_interval_and_gain(results: dict[str, Any], page: Write) -> None:
    text = page(results).text.replace("\N{NO-BREAK SPACE}", " ")
    for gain in ("+9.0", "+6.5 to +11.5", "−2.0", "−6.0 to +2.0"):
        assert gain in text
    # seeds .50 .52 .54: t(.975, 2) · .02 / √3 = .0497
    for value in ("10.0", "52.0\n±5.0", "61.0\n±2.5", "30.0\n±0.0", "81.0\n±2.5", "79.0\n±2.5"):
        assert value in text
    assert "4 shots, accuracy, 3 seeds, n = 360" in text
    assert "4 shots, accuracy, 3 seeds, n = 800" in text
    assert "(1 seed)" in text
    assert "3 of 3 seeds ahead" in text
    assert "0 of 3 seeds ahead" in text
    assert "ahead on 1 of 2 targets; the 95% interval lies above zero on 1 and below zero on none." in text


def test_puts_the_best_of_each_line_in_bold(results: dict[str, Any], page: Write) -> None:
    assert re.findall(r"<strong>(.*?)</strong>", page(results).html) == ["61.0", "81.0"]


def test_shows_the_method_first_the_others_in_order_and_unknown_ones_last(results: dict[str, Any], page: Write) -> None:
    html = page(results).html
    heads = re.search(r'<table class="results sortable" id="table">\s*<thead>(.*?)</thead>', html, re.S)
    assert heads is not None
    assert re.findall(r">([^<]+)</th>", heads[1]) == ["target", "π-Tuning", "zero-shot", "single expert", "zz other"]
    assert "<td>–</td>" in html, "a method that was not run on a target has an empty place"


def test_shows_weights_from_the_first_layer_down_and_from_the_own_expert_across(
    results: dict[str, Any], page: Write
) -> None:
    table = page(results).html.split('aria-label="Heat map: Learned weights for pocket/digits"')[1].split("</table>")[0]
    cells = re.findall(r"<t[hd](?: [^>]*)?>(?:<span>)?([^<]*)<", table)
    assert cells == [
        "",
        "digits",
        "mnist",
        "tweets",
        "layer.2",
        "0.50",
        "0.75",
        "0.00",
        "layer.10",
        "0.25",
        "0.50",
        "−0.12",
    ]


def test_says_how_to_run_it_again(results: dict[str, Any], page: Write) -> None:
    text = page(results).text
    assert "pip install torch==2.13.0 transformers==5.23.0 peft==0.19.1 .\npitune demo --out demo" in text
    assert "f" * 64 in text


def test_quotes_versions_for_the_shell(results: dict[str, Any], page: Write) -> None:
    results["environment"]["torch"] = "2; rm -rf ~"
    assert "pip install 'torch==2; rm -rf ~' transformers" in page(results).text


def test_equal_results_give_equal_bytes(results: dict[str, Any], tmp_path: Path) -> None:
    write_report(DemoResults.of(results), tmp_path / "a.html")
    shuffled = json.loads(json.dumps(results, sort_keys=True))
    shuffled["rows"].reverse()
    shuffled["gains"].reverse()
    write_report(DemoResults.of(shuffled), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_every_drawing_has_a_name_or_is_hidden(results: dict[str, Any], page: Write) -> None:
    for tag, attributes in page(results).elements:
        if tag == "svg" and attributes.get("class") != "mark":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_works_without_rows_gains_or_targets(results: dict[str, Any], page: Write) -> None:
    found = page({**results, "rows": [], "gains": [], "targets": {}})
    assert "No gain over the single expert was measured." in found.text
    assert found.open == []


def test_shows_a_metric_that_is_no_fraction_as_it_is(results: dict[str, Any], page: Write) -> None:
    for entry in results["rows"]:
        entry.update(metric="cider", value=entry["value"] * 4 if entry["method"] == "pi" else entry["value"])
    text = page(results).text
    assert "2.440" in text
    assert "0.520" in text


def damage(results: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    part: Any = results
    for parent in parents:
        part = part[parent]
    if value is KeyError:
        del part[last]
    else:
        part[last] = value


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("schema", 2, "schema: input should be 1"),
        ("command", KeyError, "command: field required"),
        ("environment", KeyError, "environment: field required"),
        ("environment.torch", KeyError, "environment.torch: field required"),
        ("graph.similarity", [[1.0]], "4 × 4"),
        ("graph.similarity.0.1", float("nan"), "graph.similarity.0.1: input should be"),
        ("graph.similarity.0.1", 0.99, "not symmetric"),
        ("graph.names", ["mnist"], "graph.names: tuple should have at least 2"),
        ("graph.kinds", ["image"], "kinds has 1"),
        ("targets.pocket/digits.weights", [1, 2], "weights: input should be"),
        ("rows.3.value", "high", "rows.3.value: input should be a valid number"),
        ("rows.3.value", 1e300, "rows.3.value: input should be less"),
        ("rows.3.seed", KeyError, "rows.3.seed: field required"),
        ("rows.3.seed", 0, "2 rows of task 'pocket/digits'"),
        ("rows", {}, "rows: input should be"),
        ("gains.0.low", 0.5, "low ≤ mean ≤ high"),
    ],
)
def test_bad_results_are_one_clear_line(results: dict[str, Any], path: str, value: Any, names: str) -> None:
    damage(results, path, value)
    with pytest.raises(InputError, match="expected the results of `pitune demo`") as error:
        DemoResults.of(results)
    assert names in str(error.value)
    assert "\n" not in str(error.value)


def test_something_else_than_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the whole"):
        DemoResults.of([1, 2])
    with pytest.raises(InputError, match="cannot be read"):
        DemoResults.read(tmp_path / "results.json")


def test_every_study_has_its_page(studies: dict[str, Results], tmp_path: Path) -> None:
    told = {
        "compare": "untouched backbone in 1 of 2",
        "settings": "Where it says so, runs learned nothing that helped",
        "prompts": "text_prompt from multitask gains",
        "predictors": "probe-fisher tells best what an expert gains as it is, by the loss.",
        "transfer": "zero-adaptation transfer from each task",
    }
    for name, study in studies.items():
        write_study(study, tmp_path / f"{name}.html")
        page = Page((tmp_path / f"{name}.html").read_text("utf-8"))
        assert not page.open
        assert told[name] in page.text
        assert page.attributes("id").count("values") == 1
        regions = [of["aria-label"] for _, of in page.elements if of.get("role") == "region"]
        assert len(regions) == len(set(regions))
        assert not set(regions) & set(page.texts)  # as a section that is named by its heading
        # a column for each of many sources is no table of results
        assert ("table" in page.attributes("id")) is (name not in ("predictors", "transfer"))
