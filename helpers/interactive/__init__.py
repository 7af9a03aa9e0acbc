"""An influence to touch: `view` without a kernel, `explorer` with one, `save_page` as a file.

view.js draws both, in plain JavaScript; view.css is its style, page.html the page of a saved view.
"""

from ._explorer import Explorer, explorer
from ._measured import KeptStack
from ._numbers import align
from ._view import View, save_page, view
