"""Sources read tiny stand-ins for their archives as they read the real ones."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pitune.archives import Archive
from pitune.files import sha256_file
from pitune.pocket import ARCHIVES
from pitune.pocket import source as source_module
from pitune.pocket.sources import digits, easy_vqa, emoji, image_text, openclipart, sentiment, tuxpaint
from pitune.tasks import Example

Write = Callable[[Path, Mapping[str, bytes]], Path]
Png = Callable[[int], bytes]
Stand = Callable[[ModuleType, Mapping[str, Mapping[str, bytes]]], None]


@pytest.fixture
def stand_in(pitune_home: Path, write_archive: Write, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Return a function that puts tiny archives where the real ones would lie and has a source pin them."""

    def stand(module: ModuleType, files: Mapping[str, Mapping[str, bytes]]) -> None:
        pinned: dict[str, Archive] = {}
        for name, content in files.items():
            path = write_archive(pitune_home / "archives" / ARCHIVES[name].filename, content)
            pinned[name] = replace(ARCHIVES[name], sha256=sha256_file(path))
        for place in (module, source_module):
            monkeypatch.setattr(place, "ARCHIVES", pinned)
        for constant, name in (("_PNG", "openclipart-png"), ("_SVG", "openclipart-svg")):
            if hasattr(module, constant):
                monkeypatch.setattr(module, constant, pinned[name])

    return stand


def loaded(module: ModuleType, name: str) -> dict[str, tuple[Example, ...]]:
    source = next(source for source in module.SOURCES if source.name == name)
    return {split: tuple(found) for split, found in source_module.load(source).splits.items()}


def test_sentiment_drops_the_neutral_and_keeps_a_sentence_in_one_part(
    stand_in: Stand, write_archive: Write, tmp_path: Path
) -> None:
    lines = [f"{i}\t{(i % 5) - 2}.1\tSentence &amp; number {i} of them" for i in range(200)]
    files = {
        f"hutto/{file}": "\r\n".join(lines if domain == "tweets" else lines[:8]).encode()
        for domain, file in sentiment._FILES.items()
    }
    nested = write_archive(tmp_path / "nested.tar.gz", files).read_bytes()
    stand_in(sentiment, {"vader": {sentiment._NESTED: nested}})
    parts = loaded(sentiment, "pocket/tweets")
    assert {example.target for example in parts["train"]} == {"terrible", "great"}
    texts = [{example.text for example in found} for found in parts.values()]
    assert sum(map(len, texts)) == len(set().union(*texts))
    assert all(text is not None and "Sentence & number" in text for found in texts for text in found)


def emoji_files(png: Png) -> dict[str, dict[str, bytes]]:
    entries = [
        {
            "name": f"{word.upper()} {kind.upper()}",
            "short_name": word,
            "unified": f"1F{i:03X}-{k}",
            "image": f"{i}-{k}.png",
            "category": "Objects" if i % 2 else "Food & Drink",
            "subcategory": "tool",
        }
        for i, word in enumerate(f"thing{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(150))
        for k, kind in enumerate(("man", "woman"))
    ]
    drawn = {f"{emoji._IMAGES}{entry['image']}": png(number) for number, entry in enumerate(entries)}
    return {"emoji": {emoji._LIST: json.dumps(entries).encode(), **drawn}}


def test_both_emoji_tasks_divide_alike(stand_in: Stand, png: Png) -> None:
    stand_in(emoji, emoji_files(png))
    images, names = loaded(emoji, "pocket/emoji-images"), loaded(emoji, "pocket/emoji-names")
    ids = [{split: {example.id for example in found} for split, found in parts.items()} for parts in (images, names)]
    assert ids[0] == ids[1]
    assert sum(map(len, images.values())) == 150  # the other 150 are near-duplicates
    assert all(example.text is None for example in images["train"])
    assert all(example.image is None for example in names["train"])


def test_a_matched_name_is_its_own_or_one_of_the_same_part(stand_in: Stand, png: Png) -> None:
    stand_in(emoji, emoji_files(png))
    names = {split: {one.id: one.text for one in found} for split, found in loaded(emoji, "pocket/emoji-names").items()}
    for split, found in loaded(image_text, "pocket/emoji-match").items():
        assert {example.target for example in found} == {"no", "yes"}
        for example in found:
            assert (example.text == names[split][example.id]) == (example.target == "yes")
            assert example.text in names[split].values()


SVG = """<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/hostname">]><svg><metadata><rdf:RDF>
<dc:title>{title}</dc:title><dc:subject><rdf:Bag><rdf:li>{keyword}</rdf:li><rdf:li>hash(0x81)</rdf:li></rdf:Bag>
</dc:subject></rdf:RDF></metadata></svg>"""


def openclipart_files(png: Png) -> dict[str, dict[str, bytes]]:
    words = [f"{a}{b}{c}oo" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    names = [f"animals/{word}{copy}" for word in words for copy in ("", "_01")]
    names += [f"food/{word}plate" for word in words] + ["shapes/star", "unsorted/odd", "special/&x;"]
    svgs = {
        f"usr/share/openclipart/svg/{name}.svg": SVG.format(
            title=name.split("/")[1].title(), keyword="wild &x;"
        ).encode()
        for name in names
    }
    pngs = {f"usr/share/openclipart/png/{name}.png": png(number) for number, name in enumerate(names)}
    return {"openclipart-svg": svgs, "openclipart-png": pngs}


def test_the_two_sides_of_openclipart_share_nothing(stand_in: Stand, png: Png) -> None:
    stand_in(openclipart, openclipart_files(png))
    sides = [openclipart.pairs("alignment"), openclipart.pairs("tasks")]
    for field in ("id", "group", "image", "caption"):
        first, second = ({getattr(pair, field) for pair in side} for side in sides)
        assert first
        assert second
        assert not first & second
    assert {pair.category for pair in sides[1]} <= {"animals", "food", "special"}
    captions = [pair.caption for side in sides for pair in side]
    assert not any("hash" in caption or "localhost" in caption for caption in captions)
    assert any("&x;" in caption for caption in captions)  # an entity is never followed


def test_captions_to_choose_from_are_of_the_same_part(stand_in: Stand, png: Png) -> None:
    stand_in(openclipart, openclipart_files(png))
    parts = loaded(image_text, "pocket/openclipart-retrieval")
    captions = {split: {example.target for example in found} for split, found in parts.items()}
    assert sum(map(len, captions.values())) == len(set().union(*captions.values()))
    for split, found in parts.items():
        for example in found:
            assert example.candidates is not None
            assert example.target in example.candidates
            assert len(set(example.candidates)) == min(image_text._CANDIDATES, len(captions[split]))
            assert set(example.candidates) <= captions[split]


def test_a_drawing_with_its_caption_is_in_the_part_of_the_drawing(stand_in: Stand, png: Png) -> None:
    stand_in(openclipart, openclipart_files(png))
    images, both = loaded(openclipart, "pocket/openclipart-images"), loaded(image_text, "pocket/openclipart-pairs")
    part_of = {example.id: split for split, found in images.items() for example in found}
    shared = [(split, example) for split, found in both.items() for example in found if example.id in part_of]
    assert shared
    assert all(part_of[example.id] == split and example.text and example.image for split, example in shared)


def test_tuxpaint_takes_the_english_line_and_one_stamp_a_caption(stand_in: Stand, png: Png) -> None:
    folder = tuxpaint._FOLDER
    files = {f"{folder}animals/{name}.png": png(i) for i, name in enumerate(("cat", "cat2", "dog", "nameless"))}
    files |= {f"{folder}animals/{name}.txt": b"A cat.\nde.utf8=Eine Katze." for name in ("cat", "cat2")}
    files[f"{folder}animals/dog.txt"] = b"A dog."
    stand_in(tuxpaint, {"tuxpaint": files})
    assert [(pair.id, pair.caption) for pair in tuxpaint.pairs()] == [
        ("animals/cat", "A cat."),
        ("animals/dog", "A dog."),
    ]


def test_all_questions_of_an_image_are_in_one_part(stand_in: Stand, png: Png) -> None:
    questions = [
        [text, answer, image]
        for image in range(100)
        for text, answer in (("what shape?", "circle"), ("what colour?", "red"), ("is it blue?", "no"))
    ]
    files = {
        f"easy_vqa/data/{part}/images/{i}.png": png(i + 500 * (part == "test"))
        for part in ("train", "test")
        for i in range(100)
    }
    files |= {f"easy_vqa/data/{part}/questions.json": json.dumps(questions).encode() for part in ("train", "test")}
    stand_in(easy_vqa, {"easy-vqa": files})
    images = [{example.image for example in found} for found in loaded(easy_vqa, "pocket/easy-vqa").values()]
    assert all(images)
    assert sum(map(len, images)) == len(set().union(*images))


def test_digits_are_framed_as_mnist_is(stand_in: Stand, tmp_path: Path) -> None:
    import gzip

    chance = np.random.default_rng(0)
    rows = np.hstack([chance.integers(0, 17, (80, 64)), np.arange(80)[:, None] % 10])
    sink = io.BytesIO()
    np.savetxt(sink, rows, fmt="%d", delimiter=",")
    stand_in(digits, {"scikit-learn": {"sklearn/datasets/data/digits.csv.gz": gzip.compress(sink.getvalue())}})
    parts = loaded(digits, "pocket/digits")
    assert sum(map(len, parts.values())) > 20
    levels = digits._enlarge(rows[0, :64].astype(float))
    assert levels.shape == (28, 28)
    assert levels[:4].max() == 0
    assert levels.max() > 200
