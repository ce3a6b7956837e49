"""Draw a comparison table as the terminal shows it: python docs/table.py TABLE.txt docs/table.svg"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

source, target = map(Path, sys.argv[1:])
table = source.read_text()
console = Console(record=True, width=max(map(len, table.splitlines())), file=io.StringIO())
console.print(Text(table.rstrip(), no_wrap=True))
svg = console.export_svg(title="make demo", unique_id="table")
# rich would have the reader's browser fetch a font from elsewhere
target.write_text(re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL))
