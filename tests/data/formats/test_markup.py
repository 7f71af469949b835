"""Text of Markdown and HTML: paragraphs whole, headings and code told apart, and nothing that only surrounds them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader
from retrieval_distill.data.prepare.sentences import sentences
from retrieval_distill.generate import offline

pytest.importorskip("bs4", reason="needs the extra files")
pytest.importorskip("markdown_it", reason="needs the extra files")

MARKDOWN = """---
title: Of paths
year: 2020
tags: [a, b]
id: intro
---
# Of paths

A path has a root
and an *extension*.
It is split.

## How to split a path

```python
# a comment, and no heading
root, extension = split(path)
```

    # indented code

Hard end\\
of a line. <nav>left out</nav>
"""

PAGE = """<!doctype html><html lang="en"><head><title>Paths</title><meta name="author" content="Ada"></head><body>
<header>The site <nav>Home Search</nav></header><div role="navigation">Crumbs</div>
<div class="content"><article><header><h1>Paths<a href="#x">¶</a></h1></header>
<p>A path has a root
and an <b>exten</b>sion.</p>
<h2>How to split a path <a href="#y">#</a></h2><pre># a comment
  x = 1</pre><table><tr><td>one</td><td>two</td></tr></table><aside>A note.</aside></article></div>
<aside>Advertisement</aside><footer>Imprint</footer><p hidden>unseen</p><script>x()</script></body></html>"""


def read(tmp_path, **files):
    folder = tmp_path / "docs"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return dataset_loader.load(str(folder), tmp_path / "cache", ReadConfig())


def test_markdown(tmp_path):
    ((_, title, text),) = read(tmp_path, a_md=MARKDOWN).documents.records()
    assert title == "Of paths"
    assert text.split("\n") == [
        "A path has a root and an extension. It is split.",
        "## How to split a path",
        "```",
        "# a comment, and no heading",
        "root, extension = split(path)",
        "```",
        "```",
        "# indented code",
        "```",
        "Hard end",
        "of a line.",
    ]


def test_html(tmp_path):
    ((_, title, text),) = read(tmp_path, a_html=PAGE).documents.records()
    assert title == "Paths"
    assert text.split("\n") == [
        "A path has a root and an extension.",
        "## How to split a path",
        "```",
        "# a comment",
        "  x = 1",
        "```",
        "one",
        "two",
        "A note.",
    ]


@pytest.mark.parametrize("files", [{"a_md": MARKDOWN}, {"a_html": PAGE}])
def test_queries_are_whole_sentences_and_true_headings(tmp_path, files):
    ((_, title, text),) = read(tmp_path, **files).documents.records()
    assert any(sentence.startswith("A path has a root and an extension.") for sentence in sentences(text))
    assert [query.text for query in offline.headings(title, text)] == ["How to split a path"]


def test_comments_in_the_code_of_any_text_are_no_headings():
    text = "## Setting it all up\nRun it.\n~~~~sh\n# first a comment here\n```\n# and one more here\n~~~~\n# What comes after that\nmore"
    assert [query.text for query in offline.headings("T", text)] == ["Setting it all up", "What comes after that"]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<main><header><h2>In it</h2></header>text</main><p>around</p>", "## In it\ntext"),
        ("<div role=main>text</div><p>around</p>", "text"),
        ("<main></main><p>text</p><footer>around</footer>", "text"),
        ("<header>all that there is</header>", "all that there is"),
        ("<p>a</p><!-- no --><p>b<br>c</p>", "a\nb\nc"),
        ("<title>T</title><h1>Another</h1><p>a", "# Another\na"),
        ("<h2>C#</h2><h3></h3><p>a", "## C#\na"),
        ("<h2>Struct <button>Copy</button></h2>a", "## Struct\na"),
        ("<pre>```\nx\n```</pre>", "````\n```\nx\n```\n````"),
        ("<div>" * 5000 + "deep", "deep"),
        ("<h2>" * 3000 + "deep", "## deep"),
    ],
)
def test_pages(tmp_path, page, text):
    assert read(tmp_path, a_html=page).documents.table["text"].to_pylist() == [text]


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ("+++\ntitle = 'T'\n+++\na", "T", "a"),
        ("---\na: [\n---\nb", "", "b"),  # front matter that cannot be parsed is still none of the text
        ("---\na: &x [1]\nb: *x\n---\nc", "", "c"),
        ("---\na: " + "[" * 5000 + "\n---\nb", "", "b"),
        ("---\n\nno: front matter after an empty line is common\n---\nb", "", "b"),
        ("---\nOnly a sentence\n---\nb", "", "## Only a sentence\nb"),
        ("a\n\n---\nb: c\n", "", "a\nb: c"),
    ],
)
def test_front_matter(tmp_path, source, title, text):
    assert list(read(tmp_path, a_md=source).documents.records()) == [("a.md", title, text)]


words = st.lists(st.sampled_from("alpha beta gamma delta".split()), min_size=1, max_size=6)
spaces = st.sampled_from([" ", "\n", "  \t", "\n   "])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.tuples(spaces, words), min_size=1, max_size=3), min_size=1, max_size=4))
def test_paragraphs_of_html_are_lines(tmp_path_factory, paragraphs):
    """However a paragraph is broken into lines, it is one."""
    tmp_path = tmp_path_factory.mktemp("page")
    source = "".join("<p>" + "".join(space + space.join(part) for space, part in parts) for parts in paragraphs)
    expected = "\n".join(" ".join(word for _, part in parts for word in part) for parts in paragraphs)
    assert read(tmp_path, a_html=source).documents["a.html"] == expected
