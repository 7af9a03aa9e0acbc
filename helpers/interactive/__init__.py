"""An influence to touch: `view` without a kernel, `explorer` with one, `save_page` as a file.

view.js draws both, in plain JavaScript; view.css is its style, page.html the page of a saved view.
"""

from ._explorer import Explorer, KeptStack, explorer
from ._view import View, align, save_page, view
