"""What a reader does with the package alone, in a folder without this project."""

from pathlib import Path

from helpers import encode, heatmap, layer_influence, load_bert, save_figure, save_page

model, tokenizer = load_bert()
influence = layer_influence(model, encode(tokenizer, "Type your own sentence here."))
save_figure(heatmap(influence.values[1], influence.tokens, log=True), "one")
save_page(influence, "page.html")
assert Path("figures/one.png").is_file() and Path("page.html").is_file()
print("the package alone is enough")
