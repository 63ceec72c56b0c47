"""Why an item is on a list, in words."""

from typing import Literal

Reason = Literal["because_of_item", "similar_text", "popular", "new"]
_SENTENCES: dict[Reason, dict[str, str]] = {
    "because_of_item": {
        "zh-CN": "学过《{title}》的人也选择了它",
        "en": "people who had “{title}” went on to this",
    },
    "similar_text": {"zh-CN": "内容与《{title}》相近", "en": "its text is like that of “{title}”"},
    "popular": {"zh-CN": "很多人在学", "en": "many people have it"},
    "new": {"zh-CN": "新上架", "en": "newly on sale"},
}
LANGUAGES = ("zh-CN", "en")


def sentence(reason: Reason, language: str, title: str) -> str:
    """One sentence; zh-CN for a language that there are no words in. title: of the item that spoke for it."""
    words = _SENTENCES[reason]
    return words.get(language, words["zh-CN"]).format(title=title)


def language_of(header: str) -> str:
    """The first of the languages spoken here in an Accept-Language header, zh-CN when there is none."""
    for part in header.lower().split(","):
        tag = part.partition(";")[0].strip()
        if tag.startswith("en"):
            return "en"
        if tag.startswith("zh"):
            return "zh-CN"
    return "zh-CN"
