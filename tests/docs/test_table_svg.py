"""The program that draws the README's picture of a table."""

import subprocess
import sys
from xml.etree import ElementTree

from doc_pages import ROOT

TABLE = (
    "retinanet_shapes      AP  ΔAP\nPyTorch            35.56  reference\nONNX Runtime       35.56  +0.00\n"
)


def test_a_table_is_drawn_without_fonts_from_elsewhere(tmp_path):
    source, target = tmp_path / "table.txt", tmp_path / "table.svg"
    source.write_text(TABLE)
    subprocess.run([sys.executable, ROOT / "docs/table.py", source, target], check=True)
    picture = target.read_text()
    text = "".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ")
    assert "make demo" in text
    for line in TABLE.splitlines():
        assert line.rstrip() in text
    for drawn in (picture, (ROOT / "docs/table.svg").read_text()):
        assert "@font-face" not in drawn
        assert "fonts.g" not in drawn
