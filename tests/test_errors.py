"""What a message quotes never reaches the terminal as more than text."""

from __future__ import annotations

import pytest

from pitune.errors import InputError, printable


@pytest.mark.parametrize("text", ["a\x1b[31mred", "two\nlines", "\x9b2J", "back\x08", "\u202eturned", "\ud800", "\0"])
def test_a_message_is_one_printable_line(text: str) -> None:
    assert str(InputError(f"found {text}")).isprintable()


@pytest.mark.parametrize("text", ["plain", "«größe» 5 %", "Кошка", "猫", "back\\slash"])
def test_what_can_be_printed_stays(text: str) -> None:
    assert printable(text) == text
