"""An HTML page read as a browser reads it: tags, texts, and what stands in its scripts."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags with their attributes in order, the visible text, and the text of scripts by id.

    headings: their levels in order. labelled: ids of controls that stand within a label.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.scripts: dict[str, str] = {}
        self.headings: list[int] = []
        self.labelled: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        self.texts.append(" " if tag in {"td", "th", "li", "p", "option"} else "")
        if tag in {"h1", "h2", "h3", "h4", "h5", "h6"}:
            self.headings.append(int(tag[1]))
        if tag == "select" and any(name == "label" for name, _ in self._open):
            self.labelled.append(attributes["id"])
        if tag not in {"meta", "input", "br", "link", "img"}:
            self._open.append((tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self.scripts[attributes.get("id", "")] = data
        elif tag != "style":
            self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        """All that can be seen, blanks made one."""
        return " ".join("".join(self.texts).split())
