"""SpamAssassin's public corpus: subject and opening of e-mails, wanted and unwanted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from email import message_from_string
from email.message import Message

from pitune.archives import fetch
from pitune.pocket.members import read_members
from pitune.pocket.parts import Item, Limits, stem
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source
from pitune.tasks.task import Example

_FOLDER = "package/data/"
_OPENING = 300
_MARKUP = re.compile(r"<style.*?</style>|<!--.*?-->|<[^>]*>|&#?\w+;", re.DOTALL | re.IGNORECASE)
_NO_SUBJECT = re.compile(r"=\?.*?\?=|\b(re|fwd?) ?:|\[[^\]]*\]", re.IGNORECASE)


def _items() -> Iterator[Item]:
    wanted = read_members(fetch(ARCHIVES["spam-assassin"]), lambda name: name.startswith(_FOLDER) and "am-" in name)
    for name, data in wanted:
        if name.endswith(".json"):
            entry = json.loads(data)
            target = "unwanted advertising" if entry["group"].startswith("spam") else "an ordinary message"
            text = _text(message_from_string(entry["text"]))
            opening = stem(text)[:80]
            if opening:
                yield Item(Example(f"spam/{entry['group']}/{entry['id']}", target, text=text), opening)


def _text(message: Message) -> str:
    """Return the subject and the opening of the first text part, without headers, markup and other alphabets."""
    part = next((part for part in message.walk() if part.get_content_maintype() == "text"), message)
    body = part.get_payload(decode=True)
    plain = _MARKUP.sub(" ", body.decode("ascii", "ignore") if isinstance(body, bytes) else "")
    subject = _NO_SUBJECT.sub(" ", str(message["subject"] or ""))
    return " ".join(f"{subject}. {plain}".split()).lstrip(". ")[:_OPENING]


SOURCES = (
    Source(
        name="pocket/spam",
        about="is the e-mail unwanted advertising?",
        archives=("spam-assassin",),
        licence="PDDL",
        answers=("an ordinary message", "unwanted advertising"),
        read=_items,
        answer_template="This e-mail is {}.",
        limits=Limits(skew=1.5),
    ),
)
