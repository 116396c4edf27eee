"""One receiver of notices, as the list ``notices`` holds them."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from cosell_sync.settings.section import Section
from cosell_sync.settings.values import NoticeUrl, NoticeWord, split_list


class NoticeSettings(Section):
    url: NoticeUrl
    """Where notices are sent: the address that Teams or Slack hands out for a channel, or your own. Whoever has it can post."""
    format: Literal["teams", "slack", "json"]
    """How they are written: an Adaptive Card, Slack blocks, or plain JSON."""
    on: Annotated[tuple[NoticeWord, ...], BeforeValidator(split_list), Field(min_length=1)] = get_args(
        NoticeWord
    )
    """What is told; everything unless given."""
