"""Tasks of an image and words together: matching, retrieval, tagging, and pictures with their captions.

They use the drawings of the single-modality tasks, each in the same part as there, and words of that part alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from pitune.pocket.parts import Item, Limits, part_of, position, stem
from pitune.pocket.source import Source
from pitune.pocket.sources import emoji, openclipart, tuxpaint
from pitune.pocket.sources.drawings import Pair
from pitune.tasks.task import Example

_CANDIDATES = 20
_TAGS = (
    *("africa", "asia", "bird", "boat", "clothing", "europe", "flag", "fruit", "holiday", "insect"),
    *("mammal", "map", "menu", "music", "roadsign", "sports", "symbol", "transport"),
)
"""Keywords that fifteen drawings or more bear, without those that only come together with another."""


def _by_part(groups: Sequence[str]) -> list[list[int]]:
    """Return the entries of each part, in an order that depends on their groups alone."""
    parts: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(groups)), key=lambda i: position(f"order {groups[i]}")):
        parts[part_of(groups[i])].append(i)
    return list(parts.values())


def _match() -> Iterator[Item]:
    """Yield every emoji with its own name or, as often, with the name of another one of its part."""
    found = list(emoji.emoji())
    for members in _by_part([group for _, group in found]):
        for place, i in enumerate(members):
            one, group = found[i]
            own = position(f"matches {group}") < 0.5
            named = one if own else found[members[place - 1]][0]
            yield Item(Example(one.id, "yes" if own else "no", text=named.name, image=one.image), group)


def _retrieval(collection: str, pairs: Callable[[], list[Pair]], part_group: Callable[[Pair], str]) -> Iterator[Item]:
    """Yield every drawing with its own caption among those of others of its part."""
    first: dict[str, Pair] = {}
    for pair in pairs():
        first.setdefault(stem(pair.caption), pair)
    groups: dict[str, Pair] = {}
    for pair in first.values():
        groups.setdefault(part_group(pair), pair)
    names = list(groups)
    for members in _by_part(names):
        for place, i in enumerate(members):
            pair = groups[names[i]]
            others = (groups[names[members[(place + step) % len(members)]]] for step in range(_CANDIDATES))
            candidates = tuple(sorted(other.caption for other in others))
            example = Example(f"{collection}/{pair.id}", pair.caption, image=pair.image, candidates=candidates)
            yield Item(example, names[i])


def _tagged(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, tuple[str, ...]]]:
    for pair in pairs:
        tags = tuple(tag for tag in dict.fromkeys(pair.caption.split(", ")[1:]) if tag in _TAGS)
        if tags:
            yield pair, tags


def _tags() -> Iterator[Item]:
    """Yield drawings with all their tags; the one to learn from is the rarest, so that few shots cover every tag."""
    found = list(_tagged(openclipart.pairs("tasks")))
    often = Counter(tag for _, tags in found for tag in tags)
    for pair, tags in found:
        rarest = min(tags, key=lambda tag: (often[tag], tag))
        example = Example(f"openclipart/{pair.id}", rarest, image=pair.image, references=tags)
        yield Item(example, openclipart.part_group(pair))


def _pairs() -> Iterator[Item]:
    for pair in openclipart.pairs("tasks"):
        target = openclipart.CATEGORIES.get(pair.category)
        if target is not None:
            example = Example(f"openclipart/{pair.id}", target, text=pair.caption, image=pair.image)
            yield Item(example, openclipart.part_group(pair))


SOURCES = (
    Source(
        name="pocket/emoji-match",
        about="is this the name of the emoji in the picture?",
        archives=("emoji",),
        licence="MIT; art Apache-2.0",
        answers=("no", "yes"),
        read=_match,
        answer_template="The answer is {}.",
    ),
    Source(
        name="pocket/openclipart-retrieval",
        about=f"which of {_CANDIDATES} captions is the drawing's?",
        archives=("openclipart-png", "openclipart-svg"),
        licence="public domain",
        answers=None,
        read=partial(_retrieval, "openclipart", partial(openclipart.pairs, "tasks"), openclipart.part_group),
        balanced=False,
    ),
    Source(
        name="pocket/tuxpaint-retrieval",
        about=f"which of {_CANDIDATES} captions is the stamp's?",
        archives=("tuxpaint",),
        licence="GPL-2.0",
        answers=None,
        read=partial(_retrieval, "tuxpaint", tuxpaint.pairs, tuxpaint.part_group),
        balanced=False,
    ),
    Source(
        name="pocket/openclipart-tags",
        about="which tags does the drawing bear?",
        archives=("openclipart-png", "openclipart-svg"),
        licence="public domain",
        answers=_TAGS,
        read=_tags,
        answer_template="a picture of a {}.",
        metric="11-point-map",
        balanced=False,
        limits=Limits(skew=8.0),
    ),
    Source(
        name="pocket/openclipart-pairs",
        about="of which category is the drawing with this caption? (image and caption)",
        archives=("openclipart-png", "openclipart-svg"),
        licence="public domain",
        answers=tuple(openclipart.CATEGORIES.values()),
        read=_pairs,
        answer_template="a picture of a {}.",
        limits=Limits(skew=4.0),
    ),
)
